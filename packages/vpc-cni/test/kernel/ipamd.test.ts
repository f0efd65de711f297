/** aws-node as a program against the embedded cloud: pool, kills, restarts, reconcile. EC2, IMDS and packets are real. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { deleteNetns } from "@underlay/kernel/netns";
import { CloudNode, until } from "./cloud-node.ts";

let node: CloudNode;
before(async () => {
  node = await CloudNode.start();
  await node.startIpamd();
});
after(() => node.close());

const pods: { pod: string; address: string }[] = [];
const addPod = async () => {
  const pod = node.newPod();
  const address = await node.add(pod);
  pods.push({ pod, address });
  return { pod, address };
};

test("a fresh node has one ENI full of addresses, the first pod brings the next", async () => {
  await until("the pool is filled", 10_000, async () => (await node.shape()) === "9");
  const first = await addPod();
  const [primary] = await node.enis();
  assert.ok(primary?.PrivateIpAddresses?.some((one) => one.PrivateIpAddress === first.address && !one.Primary));
  await until("the next ENI is attached ahead of need", 20_000, async () => (await node.shape()) === "9+9");
  const eni = (await node.enis())[1];
  assert.equal(eni?.Description, `aws-K8S-${node.instanceId}`);
  assert.equal(eni?.Attachment?.DeleteOnTermination, true);
  const tags = Object.fromEntries((eni?.TagSet ?? []).map((tag) => [tag.Key, tag.Value]));
  assert.equal(tags["node.k8s.amazonaws.com/instance_id"], node.instanceId);
  assert.equal(tags["cluster.k8s.amazonaws.com/name"], "test");
  assert.equal(tags["eks:eni:owner"], "amazon-vpc-cni");
  assert.match(tags["node.k8s.amazonaws.com/createdAt"] ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

test("the second ENI stands in the node's tables as the fact sheet has it", async () => {
  const eni = (await node.enis())[1];
  const own = eni?.PrivateIpAddress ?? "";
  await until("the rule of the ENI is there", 10_000, () => node.run(node.netns, "ip", "rule").includes(`from ${own} lookup 2`));
  assert.match(node.run(node.netns, "ip", "rule"), new RegExp(`^32765:\\tfrom ${own} lookup 2$`, "m"));
  assert.equal(node.run(node.netns, "ip", "route", "show", "table", "2"), "default via 10.42.0.1 dev eth1\n10.42.0.1 dev eth1 scope link");
  assert.doesNotMatch(node.run(node.netns, "ip", "route"), /dev eth1/);
  assert.match(node.run(node.netns, "ip", "-o", "-4", "addr", "show", "dev", "eth1"), new RegExp(`inet ${own}/24`));
  assert.match(node.run(node.netns, "iptables-nft-save", "-t", "nat"), /-d 10\.42\.0\.0\/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN/);
});

test("27 pods fill three ENIs, the next has to wait", async () => {
  while (pods.length < 27) await addPod();
  assert.equal(new Set(pods.map((one) => one.address)).size, 27);
  assert.equal(await node.shape(), "9+9+9");
  const refused = await node.call("ADD", node.newPod());
  assert.deepEqual([refused.code, refused.json["code"]], [1, 11]);
  assert.match(String(refused.json["details"]), /27 addresses, 27 assigned/);
});

test("kill -9 and start: every pod keeps its address and nobody gets it twice", async () => {
  await node.stopIpamd("SIGKILL");
  await node.startIpamd();
  for (const { pod, address } of pods) assert.equal(await node.add(pod), address);
});

test("ENIs go back after their addresses' cooldown, without leaving a rule", async () => {
  for (const { pod } of pods.splice(1)) {
    assert.equal((await node.call("DEL", pod)).code, 0);
    deleteNetns(pod);
  }
  await until("two ENIs are left", 40_000, async () => (await node.shape()) === "9+9");
  const gone = node.run(node.netns, "ip", "rule").split("\n").filter((line) => line.startsWith("32765:"));
  await until("their rules are gone", 5_000, () => node.run(node.netns, "ip", "rule").split("\n").filter((line) => line.startsWith("32765:")).length === 1);
  assert.ok(gone.length <= 2);
  const { NetworkInterfaces } = await node.ec2.send("DescribeNetworkInterfaces", { Filters: [{ Name: "status", Values: ["available"] }] });
  assert.deepEqual((NetworkInterfaces ?? []).map((eni) => eni.NetworkInterfaceId), [], "no ENI is left unattached");
});

test("an address taken away or given behind ipamd's back is seen", async () => {
  const primary = (await node.enis())[0];
  const held = new Set(pods.map((one) => one.address));
  const free = primary?.PrivateIpAddresses?.find((one) => !one.Primary && !held.has(one.PrivateIpAddress ?? ""))?.PrivateIpAddress ?? "";
  await node.ec2.send("UnassignPrivateIpAddresses", { NetworkInterfaceId: primary?.NetworkInterfaceId ?? "", PrivateIpAddresses: [free] });
  await until("ipamd asks for another", 40_000, async () => (await node.shape()) === "9+9");
  const addresses = (await node.enis())[0]?.PrivateIpAddresses?.map((one) => one.PrivateIpAddress) ?? [];
  assert.equal(addresses.length, 10);
});
