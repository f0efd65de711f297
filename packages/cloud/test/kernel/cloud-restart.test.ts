/** The whole cloud process over a real kernel: an API call answers when packets can follow, and a kill disturbs nothing. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { netnsExists } from "@underlay/kernel/netns";
import { findAdopted, isAlive } from "@underlay/kernel/processes";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { removeNamespaces } from "../../src/fabric/fabric.ts";
import { instanceNetns } from "../../src/fabric/places.ts";
import { buildVpc, startCloud, until, type CloudProcess } from "../cloud-process.ts";
import { newClusterId } from "./world.ts";

const clusterId = newClusterId();
let cloud: CloudProcess;
let network: Awaited<ReturnType<typeof buildVpc>>;

before(async () => {
  cloud = await startCloud({ packets: { clusterId, init: ["/bin/sh", "-c", "exec sleep 600", "init"] } });
  network = await buildVpc(cloud.ec2);
});

after(async () => {
  const { Reservations = [] } = await cloud.ec2.send("DescribeInstances", {});
  const ids = Reservations.flatMap((one) => one.Instances ?? []).map((one) => one.InstanceId ?? "");
  if (ids.length > 0) await cloud.ec2.send("TerminateInstances", { InstanceIds: ids });
  await Promise.all(ids.map((id) => until("termination", async () => (await stateOf(id)) === "terminated")));
  await cloud.stop();
  removeNamespaces(clusterId);
});

async function stateOf(id: string): Promise<string | undefined> {
  const { Reservations } = await cloud.ec2.send("DescribeInstances", { InstanceIds: [id] });
  return Reservations?.[0]?.Instances?.[0]?.State?.Name;
}

function linksOf(id: string): string[] {
  using rtnl = Rtnl.open(instanceNetns(clusterId, id));
  return rtnl
    .listLinks()
    .map(({ name }) => name)
    .filter((name) => name.startsWith("eth"))
    .sort();
}

async function run(): Promise<string> {
  const { Instances } = await cloud.ec2.send("RunInstances", {
    ImageId: "ami-0123456789abcdef0",
    InstanceType: "m5.large",
    MinCount: 1,
    MaxCount: 1,
    SubnetId: network.subnetIds[0],
  });
  return Instances?.[0]?.InstanceId ?? "";
}

function initOf(id: string): { pid: number; startTime: string } {
  const init = findAdopted(`${cloud.folder}/pids/${id}.pid`);
  assert.ok(init, "the pid file names a living process");
  return init;
}

test("an instance outlives kill -9 of the cloud, and ENIs attached after it appear", async () => {
  const id = await run();
  assert.deepEqual(linksOf(id), ["eth0"], "its link is there when RunInstances answers");
  await until("the instance to run", async () => (await stateOf(id)) === "running");
  const init = initOf(id);
  const { NetworkInterface } = await cloud.ec2.send("CreateNetworkInterface", { SubnetId: network.subnetIds[0] });

  await cloud.crash();
  assert.ok(isAlive(init), "init runs on");
  assert.equal(await stateOf(id), "running");
  const eniId = NetworkInterface?.NetworkInterfaceId;
  const { AttachmentId } = await cloud.ec2.send("AttachNetworkInterface", {
    NetworkInterfaceId: eniId,
    InstanceId: id,
    DeviceIndex: 1,
  });
  assert.deepEqual(linksOf(id), ["eth0", "eth1"], "the answer to attach means the link is there");
  await cloud.ec2.send("DetachNetworkInterface", { AttachmentId });
  assert.deepEqual(linksOf(id), ["eth0"]);
  assert.deepEqual(initOf(id), init, "and it was not started again");
});

test("a terminated instance leaves no process and no namespace", async () => {
  const id = await run();
  await until("the instance to run", async () => (await stateOf(id)) === "running");
  const init = initOf(id);
  await cloud.ec2.send("TerminateInstances", { InstanceIds: [id] });
  await until("termination", async () => (await stateOf(id)) === "terminated");
  assert.ok(!isAlive(init));
  await until("the namespace to go", async () => !netnsExists(instanceNetns(clusterId, id)));
});
