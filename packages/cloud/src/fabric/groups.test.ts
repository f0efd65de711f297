import assert from "node:assert/strict";
import { test } from "node:test";
import { gateChain, gateRules, groupRules } from "./groups.ts";
import type { FabricRule } from "./seam.ts";

const rule = (shape: Partial<FabricRule>): FabricRule => ({
  ruleId: "sgr-1",
  direction: "ingress",
  protocol: "-1",
  fromPort: -1,
  toPort: -1,
  peer: { cidrIpv4: "0.0.0.0/0" },
  ...shape,
});

test("groupRules() writes each form of a rule as AWS means it", () => {
  const cases: [Partial<FabricRule>, string[]][] = [
    [{}, ["accept"]],
    [{ peer: { cidrIpv4: "10.0.0.0/8" } }, ["ip saddr 10.0.0.0/8 accept"]],
    [{ direction: "egress", peer: { cidrIpv4: "10.0.0.0/8" } }, ["ip daddr 10.0.0.0/8 accept"]],
    [{ protocol: "tcp", fromPort: 443, toPort: 443 }, ["tcp dport 443 accept"]],
    [{ protocol: "17", fromPort: 1025, toPort: 65535 }, ["udp dport 1025-65535 accept"]],
    [{ protocol: "tcp", fromPort: 0, toPort: 65535 }, ["meta l4proto tcp accept"]],
    [{ protocol: "udp", fromPort: -1, toPort: -1 }, ["meta l4proto udp accept"]],
    [{ protocol: "icmp", fromPort: 8, toPort: -1 }, ["icmp type 8 accept"]],
    [{ protocol: "icmp", fromPort: 3, toPort: 4 }, ["icmp type 3 icmp code 4 accept"]],
    [{ protocol: "icmp" }, ["meta l4proto icmp accept"]],
    [{ protocol: "50" }, ["meta l4proto 50 accept"]],
    [{ protocol: "icmpv6" }, []],
    [{ peer: { cidrIpv6: "::/0" } }, []],
    [
      { peer: { prefixListId: "pl-0a" }, protocol: "tcp", fromPort: 80, toPort: 80 },
      ["ip saddr @pl_0a tcp dport 80 accept"],
    ],
    [
      { peer: { groupId: "sg-0a" }, protocol: "tcp", fromPort: 80, toPort: 81 },
      [
        "ip saddr @sg_0a_addresses tcp dport 80-81 accept",
        "ip saddr & 255.255.255.240 @sg_0a_prefixes tcp dport 80-81 accept",
      ],
    ],
  ];
  for (const [shape, expected] of cases) {
    const group = { groupId: "sg-1", groupName: "g", vpcId: "vpc-1", rules: [rule(shape)] };
    assert.deepEqual(groupRules(group, shape.direction ?? "ingress"), expected, JSON.stringify(shape));
    assert.deepEqual(
      groupRules(group, shape.direction === "egress" ? "ingress" : "egress"),
      [],
      "nothing in the other direction",
    );
  }
});

test("gateRules() is the union of the groups, then drop; the order of groups does not make another gate", () => {
  assert.deepEqual(gateRules(["sg-b", "sg-a"], "egress"), ["jump sg_a_egress", "jump sg_b_egress", "drop"]);
  assert.equal(gateChain(["sg-b", "sg-a"], "egress"), gateChain(["sg-a", "sg-b"], "egress"));
  assert.notEqual(gateChain(["sg-a"], "egress"), gateChain(["sg-a", "sg-b"], "egress"));
  assert.deepEqual(gateRules([], "ingress"), ["drop"]);
});
