import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, streamDecode } from "dns-packet";
import { resolveInVpc, resolveOutside, type Answer } from "./names.ts";
import { replyTo } from "./reply.ts";
import type { FabricState, FabricVpc } from "../fabric/seam.ts";

const vpc: FabricVpc = {
  vpcId: "vpc-1",
  cidrs: ["10.42.0.0/16", "100.64.0.0/16"],
  enableDnsSupport: true,
  enableDnsHostnames: true,
};
const state = {
  region: "us-west-2",
  vpcs: [vpc],
  enis: [
    { vpcId: "vpc-1", addresses: [{ address: "10.42.0.7", publicAddress: "203.0.113.7" }] },
    { vpcId: "vpc-2", addresses: [{ address: "10.42.0.8", publicAddress: "203.0.113.8" }] },
  ],
  clusters: [
    {
      name: "both",
      vpcId: "vpc-1",
      endpointName: "b.gr7.us-west-2.eks.amazonaws.com",
      endpointPrivateAccess: true,
      endpointPublicAccess: true,
      publicAddress: "198.51.100.32",
      xeniAddresses: ["10.42.1.1", "10.42.2.1"],
    },
    {
      name: "private",
      vpcId: "vpc-1",
      endpointName: "p.gr7.us-west-2.eks.amazonaws.com",
      endpointPrivateAccess: true,
      endpointPublicAccess: false,
      publicAddress: "198.51.100.33",
      xeniAddresses: ["10.42.1.2"],
    },
    {
      name: "public",
      vpcId: "vpc-1",
      endpointName: "u.gr7.us-west-2.eks.amazonaws.com",
      endpointPrivateAccess: false,
      endpointPublicAccess: true,
      publicAddress: "198.51.100.34",
      xeniAddresses: ["10.42.1.3"],
    },
  ],
} as unknown as FabricState;

const show = (answer: Answer): string =>
  answer.found === "addresses"
    ? answer.addresses.join()
    : answer.found === "name"
      ? answer.name
      : `no, says ${answer.zone}`;

test("names mean what AWS makes them mean inside a VPC and outside", () => {
  const cases: [string, string, string][] = [
    ["ip-10-42-3-4.us-west-2.compute.internal", "10.42.3.4", "no, says compute.internal"],
    ["ip-100-64-0-9.us-west-2.compute.internal", "100.64.0.9", "no, says compute.internal"],
    ["ip-10-9-3-4.us-west-2.compute.internal", "no, says us-west-2.compute.internal", "no, says compute.internal"],
    ["ip-10-42-3.us-west-2.compute.internal", "no, says us-west-2.compute.internal", "no, says compute.internal"],
    ["4.3.42.10.in-addr.arpa", "ip-10-42-3-4.us-west-2.compute.internal", "no, says in-addr.arpa"],
    ["b.gr7.us-west-2.eks.amazonaws.com", "10.42.1.1,10.42.2.1", "198.51.100.32"],
    ["p.gr7.us-west-2.eks.amazonaws.com", "10.42.1.2", "10.42.1.2"],
    ["u.gr7.us-west-2.eks.amazonaws.com", "198.51.100.34", "198.51.100.34"],
    ["x.gr7.us-west-2.eks.amazonaws.com", "no, says amazonaws.com", "no, says amazonaws.com"],
    ["ec2.us-west-2.amazonaws.com", "198.51.100.10", "198.51.100.10"],
    ["sts.amazonaws.com", "198.51.100.10", "198.51.100.10"],
    ["602401143452.dkr.ecr.us-west-2.amazonaws.com", "198.51.100.10", "198.51.100.10"],
    ["ec2.eu-west-1.amazonaws.com", "no, says amazonaws.com", "no, says amazonaws.com"],
    ["ec2-203-0-113-7.us-west-2.compute.amazonaws.com", "10.42.0.7", "203.0.113.7"],
    ["ec2-203-0-113-8.us-west-2.compute.amazonaws.com", "203.0.113.8", "203.0.113.8"],
    ["ec2-203-0-113-9.us-west-2.compute.amazonaws.com", "no, says amazonaws.com", "no, says amazonaws.com"],
    ["www.google.com", "192.0.2.10", "192.0.2.10"],
    ["nothing.invalid", "no, says nothing.invalid", "no, says nothing.invalid"],
  ];
  for (const [name, inside, outside] of cases) {
    assert.equal(show(resolveInVpc(name, state, vpc)), inside, `${name} inside`);
    assert.equal(show(resolveOutside(name, state)), outside, `${name} outside`);
  }
});

const query = (name: string, more: object = {}) =>
  encode({ type: "query", id: 7, flags: 0x100, questions: [{ type: "A", name }], ...more });
const many: Answer = { found: "addresses", addresses: Array.from({ length: 60 }, (_, n) => `10.0.0.${n}`), ttl: 1 };

test("replyTo() truncates what does not fit a datagram, and not what fits the client's buffer or a stream", () => {
  const opt = { additionals: [{ type: "OPT", name: ".", udpPayloadSize: 1400, flags: 0, options: [] }] };
  const small = decode(replyTo(query("a.b"), () => many, { transport: "udp", authoritative: false })!);
  assert.deepEqual([small.flag_tc, small.answers?.length, small.id], [true, 0, 7]);
  const large = decode(replyTo(query("a.b", opt), () => many, { transport: "udp", authoritative: false })!);
  assert.deepEqual([large.flag_tc, large.answers?.length, large.additionals?.[0]?.type], [false, 60, "OPT"]);
  const stream = streamDecode(replyTo(query("a.b"), () => many, { transport: "tcp", authoritative: false })!);
  assert.equal(stream.answers?.length, 60);
});

test("replyTo() answers no replies, refuses what it cannot read, keeps the question's spelling", () => {
  const never = (): Answer => assert.fail("not asked");
  assert.equal(replyTo(Buffer.from([1, 2, 3]), never, { transport: "udp", authoritative: false }), undefined);
  const reply = encode({ type: "response", id: 1, questions: [] });
  assert.equal(replyTo(reply, never, { transport: "udp", authoritative: false }), undefined);
  const broken = Buffer.concat([query("a.b").subarray(0, 12), Buffer.from([63, 1])]);
  assert.equal(replyTo(broken, never, { transport: "udp", authoritative: false })![3]! & 15, 1);
  const update = query("a.b", { flags: 5 << 11 });
  assert.equal(replyTo(update, never, { transport: "udp", authoritative: false })![3]! & 15, 4);
  const spelled = decode(
    replyTo(query("WwW.a"), (name) => (assert.equal(name, "www.a"), many), { transport: "udp", authoritative: false })!,
  );
  assert.equal(spelled.questions?.[0]?.name, "WwW.a");
});
