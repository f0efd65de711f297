/** Faults as foreign clients meet them: AWS SDK v3 (which names errors and retries as it does with AWS), and the AWS CLI. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { promisify } from "node:util";
import * as sdk from "@aws-sdk/client-ec2";
import * as eksSdk from "@aws-sdk/client-eks";
import { buildVpc, keys, region, startCloud, until, type CloudProcess } from "../cloud-process.ts";

let cloud: CloudProcess;
let ec2: sdk.EC2Client;
let patient: sdk.EC2Client;
let network: Awaited<ReturnType<typeof buildVpc>>;
const hasCli = (process.env["PATH"] ?? "").split(":").some((folder) => existsSync(join(folder, "aws")));

async function faults(method: string, path = "", body?: object, secret: string = keys.secretAccessKey) {
  const response = await fetch(`${cloud.endpoint}/_underlay/faults${path}`, {
    method,
    headers: { authorization: `Bearer ${secret}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  return { status: response.status, answer };
}

async function setFault(body: object): Promise<void> {
  const { status, answer } = await faults("POST", "", body);
  assert.equal(status, 200, JSON.stringify(answer));
}

const struck = async (): Promise<number[]> =>
  ((await faults("GET")).answer["faults"] as { struck: number }[]).map((fault) => fault.struck);
const make = (client = ec2) => client.send(new sdk.CreateNetworkInterfaceCommand({ SubnetId: network.subnetIds[0] }));
const eniCount = async () => (await cloud.ec2.send("DescribeNetworkInterfaces", {})).NetworkInterfaces?.length;

before(async () => {
  cloud = await startCloud();
  const options = { region, endpoint: cloud.endpoint, credentials: keys };
  ec2 = new sdk.EC2Client({ ...options, maxAttempts: 1 });
  patient = new sdk.EC2Client({ ...options, maxAttempts: 6 });
  network = await buildVpc(cloud.ec2);
});
afterEach(() => faults("DELETE"));
after(async () => {
  ec2.destroy();
  patient.destroy();
  await cloud.stop();
});

test("only the operator's key opens the control API, and nonsense is refused by name", async () => {
  assert.equal((await faults("GET", "", undefined, "wrong")).status, 403);
  for (const [body, why] of [
    [{ kind: "slow" }, /kind is "slow", it must be one of latency/],
    [{ kind: "error" }, /error needs code/],
    [{ kind: "latency", ms: -1 }, /ms must be a number/],
    [{ kind: "latency", ms: 1, code: "X" }, /latency does not take code/],
    [{ kind: "error", code: "X", rate: 2 }, /rate must be between 0 and 1/],
  ] as const) {
    const { status, answer } = await faults("POST", "", body);
    assert.equal(status, 400);
    assert.match(String(answer["message"]), why);
  }
  assert.equal((await faults("DELETE", "/fault-99")).status, 404);
});

test("an injected error is seen exactly, so many times, and leaves nothing behind", async () => {
  const enis = await eniCount();
  await setFault({
    kind: "error",
    action: "CreateNetworkInterface",
    code: "InsufficientFreeAddressesInSubnet",
    count: 2,
  });
  const wanted = {
    name: "InsufficientFreeAddressesInSubnet",
    message: "The specified subnet does not have enough free addresses to satisfy the request.",
  };
  await assert.rejects(make(), wanted);
  await assert.rejects(make(), wanted);
  assert.equal(await eniCount(), enis);
  await make();
  assert.deepEqual(await struck(), [2]);
});

test("an answer may be lost after the work is done; the SDK's retry with the same token finds the first ENI", async () => {
  const enis = (await eniCount()) ?? 0;
  await setFault({ kind: "error", action: "CreateNetworkInterface", code: "ConnectionReset", when: "after", count: 1 });
  await assert.rejects(make(), (error: Error) =>
    /ECONNRESET|socket hang up/.test(`${error.name} ${error.message} ${String((error as { code?: string }).code)}`),
  );
  assert.equal(await eniCount(), enis + 1);
  await faults("DELETE");
  await setFault({ kind: "error", action: "CreateNetworkInterface", code: "ConnectionReset", when: "after", count: 1 });
  await make(patient);
  assert.equal(await eniCount(), enis + 2, "the token makes the retry the same call");
});

test("a bucket that is empty answers RequestLimitExceeded (503), and the SDK waits it out", async () => {
  await setFault({ kind: "throttle", action: "Describe*", burst: 2, perSecond: 5 });
  const describe = (client = ec2) => client.send(new sdk.DescribeVpcsCommand({}));
  await describe();
  await describe();
  await assert.rejects(describe(), (error: sdk.EC2ServiceException) => {
    assert.deepEqual(
      [error.name, error.message, error.$metadata.httpStatusCode],
      ["RequestLimitExceeded", "Request limit exceeded.", 503],
    );
    return true;
  });
  await Promise.all([describe(patient), describe(patient), describe(patient)]);
  const eks = new eksSdk.EKSClient({ region, endpoint: cloud.endpoint, credentials: keys, maxAttempts: 1 });
  await setFault({ kind: "throttle", action: "eks:*", burst: 0, perSecond: 0 });
  await assert.rejects(eks.send(new eksSdk.ListClustersCommand({})), { name: "ThrottlingException" });
  eks.destroy();
});

test("denied is denied, for whom it is meant", { skip: hasCli ? false : "no aws on the PATH" }, async () => {
  await setFault({ kind: "deny", action: "DescribeVpcs", principal: "*:assumed-role/*" });
  await ec2.send(new sdk.DescribeVpcsCommand({}));
  await setFault({ kind: "deny", action: "DescribeVpcs", principal: "*:user/*" });
  const env = {
    PATH: process.env["PATH"],
    HOME: cloud.folder,
    AWS_ENDPOINT_URL: cloud.endpoint,
    AWS_DEFAULT_REGION: region,
    AWS_ACCESS_KEY_ID: keys.accessKeyId,
    AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
  };
  await assert.rejects(
    promisify(execFile)("aws", ["ec2", "describe-vpcs"], { env }),
    /An error occurred \(UnauthorizedOperation\) when calling the DescribeVpcs operation: You are not authorized to perform this operation\. User: arn:aws:iam::111122223333:user\/underlay/,
  );
});

test("latency delays the calls it names, and no others", async () => {
  await setFault({ kind: "latency", action: "DescribeVpcs", ms: 300 });
  const timed = async (command: () => Promise<unknown>) => {
    const began = performance.now();
    await command();
    return performance.now() - began;
  };
  assert.ok((await timed(() => ec2.send(new sdk.DescribeVpcsCommand({})))) >= 299);
  assert.ok((await timed(() => ec2.send(new sdk.DescribeSubnetsCommand({})))) < 299);
});

test("with delayed visibility a new ENI is not found at first, and a changed one still looks as it did", async () => {
  const id = (await make()).NetworkInterface?.NetworkInterfaceId ?? "";
  await setFault({ kind: "visibility", action: "DescribeNetworkInterfaces", ms: 700 });
  const see = (eni: string) => ec2.send(new sdk.DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [eni] }));
  const fresh = (await make()).NetworkInterface?.NetworkInterfaceId ?? "";
  await assert.rejects(see(fresh), { name: "InvalidNetworkInterfaceID.NotFound" });
  await ec2.send(
    new sdk.AssignPrivateIpAddressesCommand({ NetworkInterfaceId: id, SecondaryPrivateIpAddressCount: 2 }),
  );
  const count = async () => (await see(id)).NetworkInterfaces?.[0]?.PrivateIpAddresses?.length;
  assert.equal(await count(), 1);
  await until("the addresses to show", async () => (await count()) === 3);
  await until("the new ENI to show", () =>
    see(fresh).then(
      () => true,
      () => false,
    ),
  );
  await ec2.send(new sdk.DeleteNetworkInterfaceCommand({ NetworkInterfaceId: fresh }));
  await see(fresh);
  await until("its end to show", () =>
    see(fresh).then(
      () => false,
      () => true,
    ),
  );
});

test("attaching takes its time: status attaching, then attached, also when the cloud is killed meanwhile", async () => {
  const run = await ec2.send(
    new sdk.RunInstancesCommand({
      ImageId: "ami-0123456789abcdef0",
      InstanceType: "m5.large",
      MinCount: 1,
      MaxCount: 1,
      SubnetId: network.subnetIds[0],
    }),
  );
  const id = (await make()).NetworkInterface?.NetworkInterfaceId ?? "";
  await setFault({ kind: "attach-time", ms: 1500 });
  await ec2.send(
    new sdk.AttachNetworkInterfaceCommand({
      NetworkInterfaceId: id,
      InstanceId: run.Instances?.[0]?.InstanceId,
      DeviceIndex: 1,
    }),
  );
  const status = async () =>
    (await ec2.send(new sdk.DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] }))).NetworkInterfaces?.[0]
      ?.Attachment?.Status;
  assert.equal(await status(), "attaching");
  await cloud.crash();
  assert.equal(((await faults("GET")).answer["faults"] as unknown[]).length, 1, "faults outlive the process");
  await until("attached", async () => (await status()) === "attached");
});
