/** Where EC2 says no or something was lost: a subnet without addresses, ENIs nobody owns, an ENI taken away. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClock } from "../../src/clock.ts";
import { createdAtTag, Ec2Enis, instanceTag } from "../../src/ec2-enis.ts";
import { createMetrics } from "../../src/metrics.ts";
import { parseSettings } from "../../src/settings.ts";
import { quiet } from "./bare-node.ts";
import { CloudNode, until } from "./cloud-node.ts";

let node: CloudNode;
before(async () => {
  // 16 addresses, 5 reserved, one for the instance: 10 for pods, too few for a second ENI.
  node = await CloudNode.start({ subnetCidr: "10.42.0.0/28" });
  await node.startIpamd({ DISABLE_LEAKED_ENI_CLEANUP: "true" });
});
after(() => node.close());

test("a subnet without addresses: ADD says so and EC2 is left alone for two minutes", async () => {
  assert.equal(await node.shape(), "9");
  for (let i = 0; i < 9; i++) await node.add(node.newPod());
  const calls = () =>
    Number(
      /^awscni_ec2api_req_count\{fn="CreateNetworkInterface"\} (\d+)$/m.exec(
        node.run(node.netns, "curl", "-sf", "http://127.0.0.1:61678/metrics"),
      )?.[1] ?? 0,
    );
  await until("ipamd tried", 20_000, () => calls() > 0);
  const tried = calls();
  const refused = await node.call("ADD", node.newPod());
  assert.equal(refused.json["code"], 11);
  assert.match(
    String(refused.json["details"]),
    /^no more addresses in the subnet \(.*enough free addresses.*\); asking EC2 again after two minutes$/,
  );
  // Two minutes are 12 s here: several passes of the loop (0.5 s) go by without a call.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  assert.equal(calls(), tried);
  assert.equal(await node.shape(), "9");
});

test("leaked ENIs are deleted when they are old enough, of unknown age they are dated first", async () => {
  const create = async (description: string, createdAt?: string) => {
    const { NetworkInterface } = await node.ec2.send("CreateNetworkInterface", {
      SubnetId: other,
      Description: description,
      TagSpecifications: [
        {
          ResourceType: "network-interface",
          Tags: [
            { Key: instanceTag, Value: "i-0fffffffffffffff0" },
            { Key: "cluster.k8s.amazonaws.com/name", Value: "test" },
            ...(createdAt === undefined ? [] : [{ Key: createdAtTag, Value: createdAt }]),
          ],
        },
      ],
    });
    return NetworkInterface?.NetworkInterfaceId ?? "";
  };
  const [primary] = await node.enis();
  const vpcId = primary?.VpcId ?? "";
  const other =
    (await node.ec2.send("CreateSubnet", { VpcId: vpcId, CidrBlock: "10.42.1.0/24", AvailabilityZone: "us-west-2a" }))
      .Subnet?.SubnetId ?? "";
  const now = Date.parse("2026-11-21T12:00:00Z");
  const old = await create("aws-K8S-i-0fffffffffffffff0", "2026-11-21T11:54:00Z");
  const young = await create("aws-K8S-i-0fffffffffffffff0", "2026-11-21T11:56:00Z");
  const undated = await create("aws-K8S-i-0fffffffffffffff0");
  const foreign = await create("somebody else's", "2026-11-21T11:00:00Z");
  const enis = new Ec2Enis({
    ec2: node.ec2,
    clock: createClock(),
    log: quiet,
    metrics: createMetrics(),
    settings: parseSettings({ ENABLE_IPv4: "true", CLUSTER_NAME: "test" }),
    instance: {
      instanceId: node.instanceId,
      instanceType: "m5.large",
      region: "us-west-2",
      availabilityZone: "us-west-2a",
      primaryMac: "",
      primaryAddress: "",
      vpcId,
      subnetId: node.subnetId,
    },
    onUnauthorized: () => assert.fail("nothing is forbidden here"),
  });
  assert.deepEqual(await enis.deleteLeaked(() => new Date(now)), [old]);
  const left = await node.ec2.send("DescribeNetworkInterfaces", {
    Filters: [{ Name: "status", Values: ["available"] }],
  });
  assert.deepEqual(
    (left.NetworkInterfaces ?? []).map((eni) => eni.NetworkInterfaceId).sort(),
    [young, undated, foreign].sort(),
  );
  assert.deepEqual((await enis.deleteLeaked(() => new Date(now + 300_000))).toSorted(), [young, undated].sort());
});

test("describe() drops ids EC2 does not know and answers for the rest", async () => {
  const [primary] = await node.enis();
  const id = primary?.NetworkInterfaceId ?? "";
  const enis = new Ec2Enis({
    ec2: node.ec2,
    clock: createClock(),
    log: quiet,
    metrics: createMetrics(),
    settings: parseSettings({ ENABLE_IPv4: "true" }),
    instance: {
      instanceId: node.instanceId,
      instanceType: "m5.large",
      region: "us-west-2",
      availabilityZone: "us-west-2a",
      primaryMac: "",
      primaryAddress: "",
      vpcId: "",
      subnetId: "",
    },
    onUnauthorized: () => {},
  });
  const facts = await enis.describe(["eni-0aaaaaaaaaaaaaaa1", id, "eni-0aaaaaaaaaaaaaaa2"]);
  assert.deepEqual(
    facts.map((one) => [one.eniId, one.instanceId, one.cidrs.length]),
    [[id, node.instanceId, 9]],
  );
});
