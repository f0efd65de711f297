/** Faults that packets and guests meet: an ENI without its link while it attaches, IMDS that lags behind EC2. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { removeNamespaces } from "../../src/fabric/fabric.ts";
import { instanceNetns } from "../../src/fabric/places.ts";
import { buildVpc, keys, startCloud, until, type CloudProcess } from "../cloud-process.ts";
import { newClusterId, run } from "./world.ts";

const clusterId = newClusterId();
let cloud: CloudProcess;
let network: Awaited<ReturnType<typeof buildVpc>>;
let instanceId = "";

before(async () => {
  cloud = await startCloud({ packets: { clusterId, init: ["/bin/sh", "-c", "exec sleep 600", "init"] } });
  network = await buildVpc(cloud.ec2);
  const made = await cloud.ec2.send("RunInstances", {
    ImageId: "ami-0123456789abcdef0",
    InstanceType: "m5.large",
    MinCount: 1,
    MaxCount: 1,
    SubnetId: network.subnetIds[0],
  });
  instanceId = made.Instances?.[0]?.InstanceId ?? "";
  await until("the instance to run", async () => (await stateOf()) === "running");
});

after(async () => {
  await cloud.ec2.send("TerminateInstances", { InstanceIds: [instanceId] });
  await until("termination", async () => (await stateOf()) === "terminated");
  await cloud.stop();
  removeNamespaces(clusterId);
});

async function stateOf(): Promise<string | undefined> {
  const { Reservations } = await cloud.ec2.send("DescribeInstances", { InstanceIds: [instanceId] });
  return Reservations?.[0]?.Instances?.[0]?.State?.Name;
}

async function setFault(body: object | undefined): Promise<void> {
  const response = await fetch(`${cloud.endpoint}/_underlay/faults`, {
    method: body === undefined ? "DELETE" : "POST",
    headers: { authorization: `Bearer ${keys.secretAccessKey}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  assert.equal(response.status, 200, await response.text());
}

const inside = (line: string): string => run(instanceNetns(clusterId, instanceId), "sh", "-c", line).trim();
const imds = (path: string): string[] =>
  inside(
    `t=$(curl -sS -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token); curl -sS -H "X-aws-ec2-metadata-token: $t" http://169.254.169.254/latest/meta-data/${path}`,
  ).split("\n");

async function attach(deviceIndex: number): Promise<string> {
  const { NetworkInterface: eni } = await cloud.ec2.send("CreateNetworkInterface", {
    SubnetId: network.subnetIds[0],
  });
  const id = eni?.NetworkInterfaceId ?? "";
  await cloud.ec2.send("AttachNetworkInterface", {
    NetworkInterfaceId: id,
    InstanceId: instanceId,
    DeviceIndex: deviceIndex,
  });
  return id;
}

function linkNames(): string[] {
  return inside("ip -o link")
    .split("\n")
    .map((line) => /^\d+: (\w+)/.exec(line)?.[1] ?? "");
}

test("an ENI that takes its time to attach has neither link nor IMDS entry until then", async () => {
  await setFault({ kind: "attach-time", ms: 1200 });
  await attach(1);
  assert.ok(!linkNames().includes("eth1"));
  assert.equal(imds("network/interfaces/macs/").length, 1);
  await until("the link", async () => linkNames().includes("eth1"));
  await until("the entry", async () => imds("network/interfaces/macs/").length === 2);
  await setFault(undefined);
});

test("while IMDS lags, an ENI is attached and has its link before IMDS tells of it", async () => {
  await setFault({ kind: "imds-lag", ms: 1500 });
  const began = Date.now();
  await attach(2);
  assert.ok(linkNames().includes("eth2"));
  assert.equal(imds("network/interfaces/macs/").length, 2);
  assert.match(imds("instance-id")[0] ?? "", /^i-/);
  await until("the entry", async () => imds("network/interfaces/macs/").length === 3);
  assert.ok(Date.now() - began >= 1500);
  await setFault(undefined);
});
