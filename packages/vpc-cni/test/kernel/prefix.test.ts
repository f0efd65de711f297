/** Prefix delegation of the real aws-node against the embedded cloud: prefixes, restarts, the switch both ways, scarcity. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { contains, covers } from "@underlay/addr/cidr";
import { CloudNode, until } from "./cloud-node.ts";

const prefixes = { ENABLE_PREFIX_DELEGATION: "true", WARM_PREFIX_TARGET: "1" };
let node: CloudNode;
before(async () => {
  node = await CloudNode.start();
  await node.startIpamd(prefixes);
});
after(() => node.close());
afterEach((context) => {
  if ("passed" in context && context.passed === false) process.stderr.write(node.log("node/ipamd.log"));
});

const pods: { pod: string; address: string }[] = [];
const addPod = async () => {
  const pod = node.newPod();
  const address = await node.add(pod);
  pods.push({ pod, address });
  return address;
};
/** Slots in use on each ENI: "prefixes/single addresses". */
const kinds = async () =>
  (await node.enis())
    .map((eni) => `${(eni.Ipv4Prefixes ?? []).length}/${(eni.PrivateIpAddresses ?? []).length - 1}`)
    .join(" ");
const inPrefix = async (address: string) =>
  (await node.enis()).some((eni) => (eni.Ipv4Prefixes ?? []).some((one) => contains(one.Ipv4Prefix ?? "", address)));
const reaches = (pod: string) => node.run(pod, "curl", "-sf", "-m", "5", "http://192.0.2.10/");

test("a fresh node has one prefix, the first pod brings a second, the 17th a third", async () => {
  assert.equal(await kinds(), "1/0");
  const first = await addPod();
  assert.ok(await inPrefix(first), `${first} is in a prefix of its node`);
  await until("the second prefix is there", 10_000, async () => (await kinds()) === "2/0");
  while (pods.length < 17) await addPod();
  await until("the third prefix is there", 10_000, async () => (await kinds()) === "3/0");
  for (const { address } of pods) assert.ok(await inPrefix(address));
  assert.match(
    node.run(node.netns, "curl", "-sf", "http://127.0.0.1:61678/metrics"),
    /^awscni_total_ipv4_prefixes 3$/m,
  );
});

test("pods on a prefix reach the internet and each other", () => {
  const [a, b] = pods;
  assert.ok(a && b);
  reaches(a.pod);
  node.run(a.pod, "ping", "-c1", "-W2", b.address);
});

test("kill -9 and start: pods keep their addresses inside the prefixes", async () => {
  await node.stopIpamd("SIGKILL");
  await node.startIpamd(prefixes);
  for (const { pod, address } of pods) assert.equal(await node.add(pod), address);
  assert.equal(await kinds(), "3/0");
});

test("switched off: idle prefixes go, pods keep theirs, new pods get single addresses", async () => {
  await node.stopIpamd("SIGTERM");
  await node.startIpamd();
  await until("one idle prefix went, single addresses came", 20_000, async () => /^2\/7( 0\/9)*$/.test(await kinds()));
  const single = await addPod();
  assert.ok(!(await inPrefix(single)));
  for (const { pod } of pods) reaches(pod);
});

test("switched on again: idle single addresses go, the pod on one keeps it", async () => {
  await node.stopIpamd("SIGTERM");
  await node.startIpamd(prefixes);
  await until("only the used single address is left", 30_000, async () => /^[34]\/1( [01]\/0)*$/.test(await kinds()));
  for (const { pod, address } of pods) assert.equal(await node.add(pod), address);
  reaches(pods.at(-1)?.pod ?? "");
});

test("an instance type without prefixes runs with single addresses", async () => {
  const xen = await CloudNode.start({ instanceType: "m4.large" });
  try {
    await xen.startIpamd(prefixes);
    assert.equal(await xen.shape(), "9");
  } finally {
    await xen.close();
  }
});

test("a subnet without a free /28 gives single addresses", async () => {
  // Two /28 blocks, of which the first holds the reserved addresses and the last the broadcast: none is whole.
  const small = await CloudNode.start({ subnetCidr: "10.42.0.0/27" });
  try {
    const [primary] = await small.enis();
    // The second block gets one single address, so that no block is whole.
    await small.ec2.send("AssignPrivateIpAddresses", {
      NetworkInterfaceId: primary?.NetworkInterfaceId ?? "",
      PrivateIpAddresses: ["10.42.0.17"],
    });
    await small.startIpamd(prefixes);
    await until("single addresses serve", 10_000, async () => Number(await small.shape()) >= 8);
    const address = await small.add(small.newPod());
    assert.ok(contains("10.42.0.0/27", address));
    const because = small.run(small.netns, "curl", "-sf", "http://127.0.0.1:61679/v1/pool");
    assert.match(because, /no \/28 is free in the subnet|no more addresses in the subnet/);
  } finally {
    await small.close();
  }
});

test("where the primary's subnet has no free /28, another tagged one gives prefixes", async () => {
  const two = await CloudNode.start({ subnetCidr: "10.42.0.0/27" });
  try {
    const [primary] = await two.enis();
    await two.ec2.send("AssignPrivateIpAddresses", {
      NetworkInterfaceId: primary?.NetworkInterfaceId ?? "",
      PrivateIpAddresses: ["10.42.0.17"],
    });
    const roomy = await two.ec2.send("CreateSubnet", {
      VpcId: primary?.VpcId ?? "",
      CidrBlock: "10.42.16.0/20",
      AvailabilityZone: "us-west-2a",
    });
    await two.ec2.send("CreateTags", {
      Resources: [roomy.Subnet?.SubnetId ?? ""],
      Tags: [{ Key: "kubernetes.io/role/cni", Value: "1" }],
    });
    await two.startIpamd(prefixes);
    await until("a second ENI with a prefix", 10_000, async () =>
      ((await two.enis())[1]?.Ipv4Prefixes ?? []).some((one) => covers("10.42.16.0/20", one.Ipv4Prefix ?? "")),
    );
    assert.ok(contains("10.42.16.0/20", await two.add(two.newPod())));
  } finally {
    await two.close();
  }
});
