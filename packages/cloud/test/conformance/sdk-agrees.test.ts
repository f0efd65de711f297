/**
 * Every action of a component, sent once by AWS SDK v3 and once by our own client to the same server: both must read the same.
 * One set of tables feeds our client and our cloud, so only a foreign client can tell when both are wrong.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as sdk from "@aws-sdk/client-ec2";
import * as stsSdk from "@aws-sdk/client-sts";
import { createStsClient } from "@underlay/aws/sts-client";
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { buildVpc, keys, region, startCloud, until, type CloudProcess } from "../cloud-process.ts";

let cloud: CloudProcess;
let ec2: sdk.EC2Client;
let network: Awaited<ReturnType<typeof buildVpc>>;
let instanceId = "";
let groupId = "";

before(async () => {
  cloud = await startCloud();
  ec2 = new sdk.EC2Client({ region, endpoint: cloud.endpoint, credentials: keys, maxAttempts: 1 });
  network = await buildVpc(cloud.ec2);
  const run = await cloud.ec2.send("RunInstances", {
    ImageId: "ami-0123456789abcdef0",
    InstanceType: "m5.large",
    MinCount: 1,
    MaxCount: 1,
    SubnetId: network.subnetIds[0],
    TagSpecifications: [{ ResourceType: "instance", Tags: [{ Key: "Name", Value: "node" }] }],
  });
  instanceId = run.Instances?.[0]?.InstanceId ?? "";
  groupId = run.Instances?.[0]?.SecurityGroups?.[0]?.GroupId ?? "";
  await until("the instance to run", async () => {
    const { Reservations } = await cloud.ec2.send("DescribeInstances", { InstanceIds: [instanceId] });
    return Reservations?.[0]?.Instances?.[0]?.State?.Name === "running";
  });
});

after(async () => {
  ec2.destroy();
  await cloud.stop();
});

/** What a client read, without the SDK's own metadata and without what is empty: clients differ in how they show nothing. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Date || value instanceof Uint8Array || typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(
    ([key, item]) => key !== "$metadata" && item !== undefined && !(Array.isArray(item) && item.length === 0),
  );
  return Object.fromEntries(
    entries.map(([key, item]) => [key, plain(item)]).sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1)),
  );
}

/** The same with everything that differs between two resources replaced by its kind. */
function shape(value: unknown): unknown {
  const text = JSON.stringify(plain(value), (key, item) => (key === "ClientToken" ? "token" : item));
  return JSON.parse(
    text
      .replace(/\b([a-z]+(?:-[a-z]+)*)-0[0-9a-f]{16}\b/g, "$1-ID")
      .replace(/\d+\.\d+\.\d+\.\d+/g, "ADDRESS")
      .replace(/ip-\d+-\d+-\d+-\d+/g, "ip-ADDRESS")
      .replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, "MAC")
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME"),
  );
}

type Action = keyof Ec2Actions;

/** What stands at a path of an answer, as text. */
function at(answer: unknown, ...path: (string | number)[]): string {
  let value = answer;
  for (const key of path) value = (value as Record<string | number, unknown> | undefined)?.[key];
  return String(value);
}

/** Sends one call by the SDK. */
function bySdk(action: Action, input: object): Promise<unknown> {
  const Command = (sdk as unknown as Record<string, new (input: object) => never>)[`${action}Command`];
  assert.ok(Command, `the SDK has ${action}`);
  return ec2.send(new Command(input));
}

const byUs = (action: Action, input: object): Promise<unknown> => cloud.ec2.send(action, input as never);

const reads: [Action, () => object][] = [
  ["DescribeInstances", () => ({ InstanceIds: [instanceId] })],
  [
    "DescribeInstances",
    () => ({
      Filters: [
        { Name: "tag-key", Values: ["Name"] },
        { Name: "tag-value", Values: ["no*"] },
      ],
    }),
  ],
  ["DescribeInstanceTypes", () => ({ InstanceTypes: ["m5.large", "p5.48xlarge"] })],
  ["DescribeNetworkInterfaces", () => ({ Filters: [{ Name: "vpc-id", Values: [network.vpcId] }], MaxResults: 1000 })],
  [
    "DescribeSubnets",
    () => ({
      Filters: [
        { Name: "vpc-id", Values: [network.vpcId] },
        { Name: "availability-zone", Values: [`${region}a`] },
      ],
    }),
  ],
  ["DescribeSecurityGroups", () => ({ GroupIds: [groupId] })],
  ["DescribeSecurityGroupRules", () => ({ Filters: [{ Name: "group-id", Values: [groupId] }] })],
  ["DescribeVpcs", () => ({ VpcIds: [network.vpcId] })],
  ["DescribeVpcAttribute", () => ({ VpcId: network.vpcId, Attribute: "enableDnsSupport" })],
  ["DescribeRouteTables", () => ({})],
  ["DescribeInternetGateways", () => ({})],
  ["DescribeAvailabilityZones", () => ({})],
  ["DescribeAccountAttributes", () => ({})],
  ["DescribeManagedPrefixLists", () => ({})],
  ["DescribeTags", () => ({})],
  ["DescribeNetworkAcls", () => ({})],
  ["DescribeDhcpOptions", () => ({})],
  ["DescribeInstanceStatus", () => ({ InstanceIds: [instanceId] })],
];
for (const [action, input] of reads)
  test(`${action} reads the same`, async () => {
    const theirs = plain(await bySdk(action, input()));
    assert.deepEqual(plain(await byUs(action, input())), theirs);
    assert.notDeepEqual(theirs, {});
  });

test("ipamd's life of an ENI reads the same, step by step", async () => {
  const [subnet] = network.subnetIds;
  const lives: unknown[][] = [];
  for (const [send, deviceIndex] of [
    [bySdk, 1],
    [byUs, 2],
  ] as const) {
    const life: unknown[] = [];
    const step = async (action: Action, input: object): Promise<unknown> => {
      const answer = await send(action, input);
      life.push([action, shape(answer)]);
      return answer;
    };
    const tags = [
      { ResourceType: "network-interface", Tags: [{ Key: "node.k8s.amazonaws.com/instance_id", Value: instanceId }] },
    ];
    const created = await step("CreateNetworkInterface", {
      SubnetId: subnet,
      Groups: [groupId],
      Description: `aws-K8S-${instanceId}`,
      SecondaryPrivateIpAddressCount: 3,
      ConnectionTrackingSpecification: { TcpEstablishedTimeout: 3600 },
      TagSpecifications: tags,
    });
    const eniId = at(created, "NetworkInterface", "NetworkInterfaceId");
    const attached = await step("AttachNetworkInterface", {
      NetworkInterfaceId: eniId,
      InstanceId: instanceId,
      DeviceIndex: deviceIndex,
      NetworkCardIndex: 0,
    });
    const AttachmentId = at(attached, "AttachmentId");
    await step("ModifyNetworkInterfaceAttribute", {
      NetworkInterfaceId: eniId,
      Attachment: { AttachmentId, DeleteOnTermination: true },
    });
    await step("ModifyNetworkInterfaceAttribute", { NetworkInterfaceId: eniId, Groups: [groupId] });
    const assigned = await step("AssignPrivateIpAddresses", {
      NetworkInterfaceId: eniId,
      SecondaryPrivateIpAddressCount: 2,
    });
    assert.equal(at(assigned, "AssignedPrivateIpAddresses", "length"), "2");
    const prefixed = await step("AssignPrivateIpAddresses", { NetworkInterfaceId: eniId, Ipv4PrefixCount: 2 });
    assert.equal(at(prefixed, "AssignedIpv4Prefixes", "length"), "2");
    await step("CreateTags", { Resources: [eniId], Tags: [{ Key: "k", Value: "v" }] });
    await step("DescribeNetworkInterfaces", { NetworkInterfaceIds: [eniId] });
    await step("UnassignPrivateIpAddresses", {
      NetworkInterfaceId: eniId,
      PrivateIpAddresses: [0, 1].map((n) => at(assigned, "AssignedPrivateIpAddresses", n, "PrivateIpAddress")),
    });
    await step("UnassignPrivateIpAddresses", {
      NetworkInterfaceId: eniId,
      Ipv4Prefixes: [at(prefixed, "AssignedIpv4Prefixes", 0, "Ipv4Prefix")],
    });
    await step("DescribeNetworkInterfaces", {
      Filters: [{ Name: "attachment.device-index", Values: [String(deviceIndex)] }],
    });
    await step("DetachNetworkInterface", { AttachmentId });
    await step("DeleteTags", { Resources: [eniId], Tags: [{ Key: "k" }] });
    await step("DeleteNetworkInterface", { NetworkInterfaceId: eniId });
    lives.push(life);
  }
  const indexless = (life: unknown) =>
    JSON.parse(JSON.stringify(life).replace(/"DeviceIndex":\d/g, '"DeviceIndex":"N"'));
  assert.deepEqual(indexless(lives[1]), indexless(lives[0]));
});

test("a security group's life reads the same", async () => {
  const lives: unknown[] = [];
  for (const [send, name] of [
    [bySdk, "one"],
    [byUs, "two"],
  ] as const) {
    const { GroupId } = (await send("CreateSecurityGroup", {
      GroupName: name,
      Description: "d",
      VpcId: network.vpcId,
    })) as { GroupId: string };
    const permissions = [
      {
        IpProtocol: "tcp",
        FromPort: 80,
        ToPort: 90,
        IpRanges: [{ CidrIp: "10.0.0.0/8", Description: "web" }],
        UserIdGroupPairs: [{ GroupId }],
      },
      { IpProtocol: "-1", PrefixListIds: [{ PrefixListId: "pl-68a54001" }] },
    ];
    const added = await send("AuthorizeSecurityGroupIngress", { GroupId, IpPermissions: permissions });
    const described = await send("DescribeSecurityGroups", { GroupIds: [GroupId] });
    const revoked = await send("RevokeSecurityGroupIngress", { GroupId, IpPermissions: permissions });
    const removed = await send("DeleteSecurityGroup", { GroupId });
    lives.push(
      JSON.parse(JSON.stringify(shape([added, described, revoked, removed])).replaceAll(`"${name}"`, '"NAME"')),
    );
  }
  assert.deepEqual(lives[1], lives[0]);
});

test("errors read the same", async () => {
  const input = { NetworkInterfaceIds: ["eni-0123456789abcdef0"] };
  const theirs = await bySdk("DescribeNetworkInterfaces", input).catch((error: unknown) => error);
  const ours = await byUs("DescribeNetworkInterfaces", input).catch((error: unknown) => error);
  assert.equal(at(theirs, "name"), "InvalidNetworkInterfaceID.NotFound");
  assert.deepEqual(
    [at(ours, "code"), at(ours, "message"), at(ours, "status")],
    [at(theirs, "name"), at(theirs, "message"), at(theirs, "$metadata", "httpStatusCode")],
  );
  assert.equal(at(ours, "message"), "The networkInterface ID 'eni-0123456789abcdef0' does not exist");
  assert.match(at(ours, "requestId"), /^[0-9a-f-]{36}$/);
});

test("STS reads the same, and a session's credentials sign", async () => {
  const theirs = new stsSdk.STSClient({ region, endpoint: cloud.endpoint, credentials: keys });
  const ours = createStsClient({ region, endpoint: cloud.endpoint, credentials: () => Promise.resolve(keys) });
  assert.deepEqual(
    await ours.send("GetCallerIdentity", {}),
    plain(await theirs.send(new stsSdk.GetCallerIdentityCommand({}))),
  );
  const role = { RoleArn: "arn:aws:iam::111122223333:role/dev", RoleSessionName: "me" };
  const { Credentials } = await theirs.send(new stsSdk.AssumeRoleCommand(role));
  const session = new stsSdk.STSClient({
    region,
    endpoint: cloud.endpoint,
    credentials: {
      accessKeyId: Credentials?.AccessKeyId ?? "",
      secretAccessKey: Credentials?.SecretAccessKey ?? "",
      sessionToken: Credentials?.SessionToken ?? "",
    },
  });
  const who = await session.send(new stsSdk.GetCallerIdentityCommand({}));
  assert.equal(who.Arn, "arn:aws:sts::111122223333:assumed-role/dev/me");
  theirs.destroy();
  session.destroy();
  ours.close();
});
