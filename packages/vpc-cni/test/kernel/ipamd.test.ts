/** aws-node as a program against the embedded cloud: pool, kills, restarts, reconcile. EC2, IMDS and packets are real. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { deleteNetns } from "@underlay/kernel/netns";
import { CloudNode, until } from "./cloud-node.ts";

let node: CloudNode;
before(async () => {
  node = await CloudNode.start();
  const [primary] = await node.enis();
  await node.ec2.send("ModifyNetworkInterfaceAttribute", {
    NetworkInterfaceId: primary?.NetworkInterfaceId ?? "",
    ConnectionTrackingSpecification: { TcpEstablishedTimeout: 350 },
  });
  await node.startIpamd();
});
after(() => node.close());

/** What ipamd wrote stands under the failure it explains. */
afterEach((context) => {
  if ("passed" in context && context.passed === false) process.stderr.write(node.log("node/ipamd.log"));
});

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
  await until(
    "it will go with its instance",
    5_000,
    async () => (await node.enis())[1]?.Attachment?.DeleteOnTermination === true,
  );
  const eni = (await node.enis())[1];
  assert.equal(eni?.Description, `aws-K8S-${node.instanceId}`);
  assert.equal(eni?.ConnectionTrackingConfiguration?.TcpEstablishedTimeout, 350, "copied from the primary");
  const tags = Object.fromEntries((eni?.TagSet ?? []).map((tag) => [tag.Key, tag.Value]));
  assert.equal(tags["node.k8s.amazonaws.com/instance_id"], node.instanceId);
  assert.equal(tags["cluster.k8s.amazonaws.com/name"], "test");
  assert.equal(tags["eks:eni:owner"], "amazon-vpc-cni");
  assert.match(tags["node.k8s.amazonaws.com/createdAt"] ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

test("the second ENI stands in the node's tables as the fact sheet has it", async () => {
  const eni = (await node.enis())[1];
  const own = eni?.PrivateIpAddress ?? "";
  await until("the rule of the ENI is there", 10_000, () =>
    node.run(node.netns, "ip", "rule").includes(`from ${own} lookup 2`),
  );
  assert.match(node.run(node.netns, "ip", "rule"), new RegExp(`^32765:\\tfrom ${own} lookup 2$`, "m"));
  assert.equal(
    node.run(node.netns, "ip", "route", "show", "table", "2"),
    "default via 10.42.0.1 dev eth1\n10.42.0.1 dev eth1 scope link",
  );
  assert.doesNotMatch(node.run(node.netns, "ip", "route"), /dev eth1/);
  assert.match(node.run(node.netns, "ip", "-o", "-4", "addr", "show", "dev", "eth1"), new RegExp(`inet ${own}/24`));
  assert.match(
    node.run(node.netns, "iptables-nft-save", "-t", "nat"),
    /-d 10\.42\.0\.0\/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN/,
  );
});

test("27 pods fill three ENIs, the next has to wait", async () => {
  while (pods.length < 27) await addPod();
  assert.equal(new Set(pods.map((one) => one.address)).size, 27);
  assert.equal(await node.shape(), "9+9+9");
  const refused = await node.call("ADD", node.newPod());
  assert.deepEqual([refused.code, refused.json["code"]], [1, 11]);
  assert.match(String(refused.json["details"]), /27 addresses, 27 assigned/);
});

test("a pod leaves the VPC as its node, from the primary ENI, whichever ENI its address is on", async () => {
  const [primary, second] = await node.enis();
  const isOn = (eni: typeof primary, address: string) =>
    eni?.PrivateIpAddresses?.some((one) => one.PrivateIpAddress === address) === true;
  const publicAddress = primary?.Association?.PublicIp;
  for (const eni of [primary, second]) {
    const pod = pods.find((one) => isOn(eni, one.address));
    assert.ok(pod);
    const seen = node.run(pod.pod, "curl", "-sf", "-m", "5", "http://192.0.2.10/");
    assert.match(seen, new RegExp(`"${publicAddress?.replaceAll(".", "\\.")}"`), `pod ${pod.address}: ${seen}`);
  }
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
  const gone = node
    .run(node.netns, "ip", "rule")
    .split("\n")
    .filter((line) => line.startsWith("32765:"));
  await until(
    "their rules are gone",
    5_000,
    () =>
      node
        .run(node.netns, "ip", "rule")
        .split("\n")
        .filter((line) => line.startsWith("32765:")).length === 1,
  );
  assert.ok(gone.length <= 2);
  const { NetworkInterfaces } = await node.ec2.send("DescribeNetworkInterfaces", {
    Filters: [{ Name: "status", Values: ["available"] }],
  });
  assert.deepEqual(
    (NetworkInterfaces ?? []).map((eni) => eni.NetworkInterfaceId),
    [],
    "no ENI is left unattached",
  );
});

/** Every address ipamd has, by its introspection. */
const known = () => {
  const text = node.run(node.netns, "curl", "-sf", "http://127.0.0.1:61679/v1/enis");
  const cards = JSON.parse(text) as Record<
    string,
    { ENIs: Record<string, { AvailableIPv4Cidrs: Record<string, unknown> }> }
  >;
  return Object.values(cards["0"]?.ENIs ?? {}).flatMap((eni) => Object.keys(eni.AvailableIPv4Cidrs));
};

test("an address taken away or given behind ipamd's back is seen", async () => {
  const primary = (await node.enis())[0];
  const eniId = primary?.NetworkInterfaceId ?? "";
  const held = new Set(pods.map((one) => one.address));
  const free =
    primary?.PrivateIpAddresses?.find((one) => !one.Primary && !held.has(one.PrivateIpAddress ?? ""))
      ?.PrivateIpAddress ?? "";
  assert.ok(known().includes(`${free}/32`));
  await node.ec2.send("UnassignPrivateIpAddresses", { NetworkInterfaceId: eniId, PrivateIpAddresses: [free] });
  await until("ipamd drops it", 20_000, () => !known().includes(`${free}/32`));
  const given = await node.ec2.send("AssignPrivateIpAddresses", {
    NetworkInterfaceId: eniId,
    SecondaryPrivateIpAddressCount: 1,
  });
  const address = given.AssignedPrivateIpAddresses?.[0]?.PrivateIpAddress ?? "";
  await until("ipamd takes it", 20_000, () => known().includes(`${address}/32`));
});

test("a new VPC CIDR enters the SNAT chain and the connmark table", async () => {
  const vpcId = (await node.enis())[0]?.VpcId ?? "";
  await node.ec2.send("AssociateVpcCidrBlock", { VpcId: vpcId, CidrBlock: "100.64.0.0/16" });
  await until("the chain has it", 15_000, () =>
    node
      .run(node.netns, "iptables-nft-save", "-t", "nat")
      .includes('-d 100.64.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN'),
  );
  // Written right after the chain.
  await until("the connmark table has it", 5_000, () =>
    node.run(node.netns, "nft", "list", "table", "ip", "aws-cni").includes("ip daddr 100.64.0.0/16 return"),
  );
});

test("the primary ENI's security groups go to the others", async () => {
  const [primary] = await node.enis();
  const { GroupId } = await node.ec2.send("CreateSecurityGroup", {
    GroupName: "extra",
    Description: "extra",
    VpcId: primary?.VpcId ?? "",
  });
  const groups = [...(primary?.Groups ?? []).flatMap((group) => group.GroupId ?? []), GroupId ?? ""].sort();
  await node.ec2.send("ModifyNetworkInterfaceAttribute", {
    NetworkInterfaceId: primary?.NetworkInterfaceId ?? "",
    Groups: groups,
  });
  await until("every ENI has them", 15_000, async () =>
    (await node.enis()).every(
      (eni) =>
        (eni.Groups ?? [])
          .map((group) => group.GroupId)
          .sort()
          .join() === groups.join(),
    ),
  );
});

test("metrics have upstream's names", () => {
  const text = node.run(node.netns, "curl", "-sf", "http://127.0.0.1:61678/metrics");
  assert.match(text, /^awscni_eni_allocated 2$/m);
  assert.match(text, /^awscni_total_ip_addresses 18$/m);
  assert.match(text, /^awscni_assigned_ip_addresses 1$/m);
  assert.match(text, /^awscni_eni_max 3$/m);
  assert.match(text, /^awscni_ip_max 27$/m);
  assert.match(text, /^awscni_ec2api_req_count\{fn="DescribeNetworkInterfaces"\} \d+$/m);
  assert.match(text, /^awscni_del_ip_req_count\{reason="PodDeleted"\} 26$/m);
});

test("a pod deleted while ipamd was away, whose namespace died later, gives its address back", async () => {
  const { pod, address } = await addPod();
  pods.pop();
  await node.stopIpamd("SIGKILL");
  assert.equal((await node.call("DEL", pod)).code, 0);
  await node.startIpamd();
  const rule = `to ${address} lookup main`;
  assert.ok(node.run(node.netns, "ip", "rule").includes(rule), "its link is still there, so the restart keeps it");
  deleteNetns(pod);
  await until("the address is taken back", 20_000, () => !node.run(node.netns, "ip", "rule").includes(rule));
});

test("kill -9 at any moment of growing and shrinking leaks nothing and doubles nothing", async () => {
  const addresses = new Map(pods.map((one) => [one.pod, one.address]));
  for (let round = 0; round < 6; round++) {
    const added = await Promise.all([1, 2, 3].map(() => addPod()));
    // While the loop attaches, a random moment later.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 700));
    await node.stopIpamd("SIGKILL");
    for (const { pod, address } of added) addresses.set(pod, address);
    const [leaver] = pods.splice(0, 1);
    if (leaver) {
      assert.equal((await node.call("DEL", leaver.pod)).code, 0);
      deleteNetns(leaver.pod);
      addresses.delete(leaver.pod);
    }
    await node.startIpamd();
    assert.equal(new Set(addresses.values()).size, addresses.size, "no address twice");
    for (const { pod, address } of pods) assert.equal(await node.add(pod), address);
  }
  // What EC2 has on the instance and what ipamd knows end up the same.
  await until("store and EC2 agree", 30_000, async () => {
    const truth = (await node.enis()).flatMap((eni) =>
      (eni.PrivateIpAddresses ?? []).flatMap((one) => (one.Primary ? [] : `${one.PrivateIpAddress}/32`)),
    );
    return known().sort().join() === truth.sort().join();
  });
  const rules = node
    .run(node.netns, "ip", "rule")
    .split("\n")
    .flatMap((line) => /^512:.* to (\S+)/.exec(line)?.[1] ?? []);
  assert.deepEqual(rules.sort(), pods.map((one) => one.address).sort(), "rules of living pods only");
});
