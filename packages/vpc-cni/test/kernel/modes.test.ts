/** Settings with a trace in EC2 or the kernel: subnet discovery with exclusion, MAX_ENI, MTUs, SNAT and routing settings. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { contains } from "@underlay/addr/cidr";
import { CloudNode, until } from "./cloud-node.ts";

let node: CloudNode;
let tagged = "";
before(async () => {
  node = await CloudNode.start();
  const VpcId = (await node.enis())[0]?.VpcId ?? "";
  const subnet = (CidrBlock: string, zone: string) =>
    node.ec2.send("CreateSubnet", { VpcId, CidrBlock, AvailabilityZone: zone });
  tagged = (await subnet("10.42.16.0/20", "us-west-2a")).Subnet?.SubnetId ?? "";
  await tag(tagged, "kubernetes.io/role/cni", "1");
  await tag(tagged, "cni.networking.k8s.aws/cluster/test", "shared");
  // Larger and tagged, but for another cluster, and one that is not tagged at all.
  const foreign = (await subnet("10.42.64.0/18", "us-west-2a")).Subnet?.SubnetId ?? "";
  await tag(foreign, "kubernetes.io/role/cni", "1");
  await tag(foreign, "cni.networking.k8s.aws/cluster/other", "shared");
  await subnet("10.42.128.0/18", "us-west-2a");
});
after(() => node.close());
afterEach((context) => {
  if ("passed" in context && context.passed === false) process.stderr.write(node.log("node/ipamd.log"));
});

async function tag(subnetId: string, Key: string, Value: string): Promise<void> {
  await node.ec2.send("CreateTags", { Resources: [subnetId], Tags: [{ Key, Value }] });
}

test("MAX_ENI, discovery by tag, MTUs, excluded and external CIDRs act together", async () => {
  await node.startIpamd({
    MAX_ENI: "2",
    AWS_VPC_ENI_MTU: "1500",
    POD_MTU: "1400",
    AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: "192.0.2.0/24",
    AWS_EXTERNAL_SERVICE_CIDRS: "198.18.0.0/15",
    AWS_VPC_K8S_CNI_RANDOMIZESNAT: "hashrandom",
  });
  const pod = node.newPod();
  await node.add(pod);
  await until("the second ENI is there", 20_000, async () => (await node.shape()) === "9+9");
  const second = (await node.enis())[1];
  assert.equal(second?.SubnetId, tagged, "the tagged subnet of this cluster, not the larger ones");
  await until("its link has the MTU", 10_000, () =>
    /eth1@?\S* .*mtu 1500/.test(node.run(node.netns, "ip", "-o", "link")),
  );
  assert.match(node.run(node.netns, "ip", "-o", "link", "show", "eth0"), /mtu 1500/);
  assert.match(node.run(pod, "ip", "-o", "link", "show", "eth0"), /mtu 1400/);
  assert.match(node.run(node.netns, "ip", "rule"), /^1535:\tfrom all to 198\.18\.0\.0\/15 lookup main$/m);
  const nat = node.run(node.netns, "iptables-nft-save", "-t", "nat");
  assert.match(nat, /-d 192\.0\.2\.0\/24 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN/);
  assert.match(nat, /-j SNAT --to-source \S+ --random$/m);
  for (let i = 1; i < 18; i++) await node.add(node.newPod());
  const refused = await node.call("ADD", node.newPod());
  assert.match(String(refused.json["details"]), /all 2 of 2 network interfaces are in use/);
  assert.equal((await node.enis()).length, 2);
});

test("an excluded subnet: its ENI keeps its pods, gives no new address and drains", async () => {
  await node.stopIpamd("SIGTERM");
  await tag(tagged, "kubernetes.io/role/cni", "0");
  await node.startIpamd({ IP_COOLDOWN_PERIOD: "0" });
  const [, second] = await node.enis();
  assert.equal((second?.PrivateIpAddresses ?? []).length, 10, "all nine are in use");
  await until("a third ENI, in the primary's own subnet", 20_000, async () => (await node.shape()) === "9+9+9");
  assert.equal((await node.enis())[2]?.SubnetId, node.subnetId);
  const newcomer = await node.add(node.newPod());
  assert.ok(contains("10.42.0.0/24", newcomer), `${newcomer} is not of the excluded subnet`);
  // Its pods go one by one: addresses go with them, at last the ENI.
  for (const name of node.pods()) {
    const answer = await node.call("ADD", name).catch(() => undefined);
    const address = (answer?.json["ips"] as { address: string }[] | undefined)?.[0]?.address.split("/")[0] ?? "";
    if (contains("10.42.16.0/20", address)) assert.equal((await node.call("DEL", name)).code, 0);
  }
  await until("the excluded ENI is gone", 30_000, async () =>
    (await node.enis()).every((eni) => eni.SubnetId !== tagged),
  );
});

test("external SNAT leaves no SNAT chain and no marks of the connection", async () => {
  await node.stopIpamd("SIGTERM");
  await node.startIpamd({ AWS_VPC_K8S_CNI_EXTERNALSNAT: "true", AWS_VPC_CNI_NODE_PORT_SUPPORT: "false" });
  assert.doesNotMatch(node.run(node.netns, "iptables-nft-save"), /AWS/);
  assert.doesNotMatch(node.run(node.netns, "nft", "list", "tables"), /aws-cni/);
  assert.doesNotMatch(node.run(node.netns, "ip", "rule"), /^1024:/m);
});

test("IMDS-only mode works without describing interfaces, and neither grows nor tags", async () => {
  await node.stopIpamd("SIGTERM");
  const shape = await node.shape();
  await node.startIpamd({ ENABLE_IMDS_ONLY_MODE: "true" });
  await node.add(node.newPod());
  const text = node.run(node.netns, "curl", "-sf", "http://127.0.0.1:61678/metrics");
  assert.doesNotMatch(text, /^awscni_ec2api_req_count\{fn="(DescribeNetworkInterfaces|CreateTags|Assign\w+)"\}/m);
  assert.equal(await node.shape(), shape);
});
