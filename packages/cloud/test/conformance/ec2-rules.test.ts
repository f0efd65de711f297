/** EC2's object rules and their errors, over the wire. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Ec2Client } from "@underlay/aws/ec2-client";
import { buildVpc, startCloud, until, type CloudProcess } from "../cloud-process.ts";

let cloud: CloudProcess;
let ec2: Ec2Client;
let network: Awaited<ReturnType<typeof buildVpc>>;
const image = "ami-0123456789abcdef0";

before(async () => {
  cloud = await startCloud();
  ec2 = cloud.ec2;
  network = await buildVpc(ec2);
});
after(() => cloud.stop());

const fails = (promise: Promise<unknown>, code: string, message?: string | RegExp, status?: number) =>
  assert.rejects(promise, (error: Record<string, unknown>) => {
    assert.equal(error["code"], code, String(error["message"]));
    if (typeof message === "string") assert.equal(error["message"], message);
    else if (message !== undefined) assert.match(String(error["message"]), message);
    if (status !== undefined) assert.equal(error["status"], status);
    return true;
  });

async function subnet(cidr: string): Promise<string> {
  const made = await ec2.send("CreateSubnet", {
    VpcId: network.vpcId,
    CidrBlock: cidr,
    AvailabilityZone: "us-west-2a",
  });
  return made.Subnet?.SubnetId ?? "";
}

async function free(subnetId: string): Promise<number | undefined> {
  return (await ec2.send("DescribeSubnets", { SubnetIds: [subnetId] })).Subnets?.[0]?.AvailableIpAddressCount;
}

async function eni(subnetId: string, more: object = {}): Promise<string> {
  return (
    (await ec2.send("CreateNetworkInterface", { SubnetId: subnetId, ...more })).NetworkInterface?.NetworkInterfaceId ??
    ""
  );
}

async function instance(subnetId: string, type = "m5.large"): Promise<string> {
  const run = await ec2.send("RunInstances", {
    ImageId: image,
    InstanceType: type,
    MinCount: 1,
    MaxCount: 1,
    SubnetId: subnetId,
  });
  return run.Instances?.[0]?.InstanceId ?? "";
}

const state = async (id: string) =>
  (await ec2.send("DescribeInstances", { InstanceIds: [id] })).Reservations?.[0]?.Instances?.[0]?.State?.Name;

test("a /28 subnet holds 11 addresses and no prefix, a /27 no prefix, a /26 two", async () => {
  const small = await subnet("10.42.100.0/28");
  assert.equal(await free(small), 11);
  const noBlocks = "There are not enough free cidr blocks in the specified subnet to satisfy the request.";
  await fails(eni(small, { Ipv4PrefixCount: 1 }), "InsufficientCidrBlocks", noBlocks, 400);
  assert.equal(await free(small), 11, "a refused call takes nothing");
  await eni(small, { SecondaryPrivateIpAddressCount: 10 });
  assert.equal(await free(small), 0);
  await fails(
    eni(small),
    "InsufficientFreeAddressesInSubnet",
    "The specified subnet does not have enough free addresses to satisfy the request.",
  );
  await fails(
    instance(small),
    "InsufficientFreeAddressesInSubnet",
    `There are not enough free addresses in subnet '${small}' to satisfy the requested number of instances.`,
  );
  await fails(eni(await subnet("10.42.101.0/27"), { Ipv4PrefixCount: 1 }), "InsufficientCidrBlocks");
  const larger = await subnet("10.42.102.0/26");
  await eni(larger, { Ipv4PrefixCount: 2 });
  assert.equal(await free(larger), 64 - 5 - 1 - 32);
  await fails(eni(larger, { Ipv4PrefixCount: 1 }), "InsufficientCidrBlocks");
});

test("an m5.large takes three ENIs of ten addresses, and says so as EC2 does", async () => {
  const [a = ""] = network.subnetIds;
  const id = await instance(a);
  const first = await eni(a, { SecondaryPrivateIpAddressCount: 9 });
  const second = await eni(a);
  const third = await eni(a);
  const attach = (eniId: string, DeviceIndex: number) =>
    ec2.send("AttachNetworkInterface", { NetworkInterfaceId: eniId, InstanceId: id, DeviceIndex });
  await fails(
    attach(first, 0),
    "InvalidParameterValue",
    `Instance '${id}' already has an interface attached at device index '0'.`,
  );
  const { AttachmentId } = await attach(first, 1);
  await attach(second, 2);
  await fails(attach(third, 3), "AttachmentLimitExceeded", "Interface count 4 exceeds the limit for m5.large");
  await fails(attach(first, 3), "InvalidNetworkInterface.InUse", `Interface: [${first}] in use.`);
  await fails(
    ec2.send("AssignPrivateIpAddresses", { NetworkInterfaceId: first, SecondaryPrivateIpAddressCount: 1 }),
    "PrivateIpAddressLimitExceeded",
    "Number of private addresses will exceed limit.",
  );
  await fails(
    ec2.send("DeleteNetworkInterface", { NetworkInterfaceId: first }),
    "InvalidParameterValue",
    `Network interface '${first}' is currently in use.`,
  );
  const primary = (
    await ec2.send("DescribeNetworkInterfaces", {
      Filters: [
        { Name: "attachment.instance-id", Values: [id] },
        { Name: "attachment.device-index", Values: ["0"] },
      ],
    })
  ).NetworkInterfaces?.[0];
  await fails(
    ec2.send("DetachNetworkInterface", { AttachmentId: primary?.Attachment?.AttachmentId }),
    "OperationNotPermitted",
  );
  await fails(
    ec2.send("UnassignPrivateIpAddresses", { NetworkInterfaceId: first, PrivateIpAddresses: ["10.42.0.250"] }),
    "InvalidParameterValue",
  );
  await ec2.send("ModifyNetworkInterfaceAttribute", {
    NetworkInterfaceId: second,
    Attachment: { AttachmentId: await attachmentOf(second), DeleteOnTermination: true },
  });

  await ec2.send("TerminateInstances", { InstanceIds: [id] });
  await until("termination", async () => (await state(id)) === "terminated");
  const left = await ec2.send("DescribeNetworkInterfaces", { NetworkInterfaceIds: [first] });
  assert.deepEqual(
    [left.NetworkInterfaces?.[0]?.Status, left.NetworkInterfaces?.[0]?.Attachment],
    ["available", undefined],
    "attached later: stays",
  );
  await fails(
    ec2.send("DescribeNetworkInterfaces", { NetworkInterfaceIds: [second] }),
    "InvalidNetworkInterfaceID.NotFound",
  );
  await fails(
    ec2.send("DescribeNetworkInterfaces", { NetworkInterfaceIds: [primary?.NetworkInterfaceId ?? ""] }),
    "InvalidNetworkInterfaceID.NotFound",
  );
  await fails(ec2.send("DetachNetworkInterface", { AttachmentId }), "InvalidAttachmentID.NotFound");
});

async function attachmentOf(eniId: string): Promise<string | undefined> {
  return (await ec2.send("DescribeNetworkInterfaces", { NetworkInterfaceIds: [eniId] })).NetworkInterfaces?.[0]
    ?.Attachment?.AttachmentId;
}

test("a filter on addresses sees secondary ones", async () => {
  const [a = ""] = network.subnetIds;
  const id = await eni(a, { SecondaryPrivateIpAddressCount: 2 });
  const described = await ec2.send("DescribeNetworkInterfaces", { NetworkInterfaceIds: [id] });
  const secondary = described.NetworkInterfaces?.[0]?.PrivateIpAddresses?.[2]?.PrivateIpAddress ?? "";
  const found = await ec2.send("DescribeNetworkInterfaces", {
    Filters: [{ Name: "addresses.private-ip-address", Values: [secondary] }],
  });
  assert.deepEqual(
    found.NetworkInterfaces?.map((one) => one.NetworkInterfaceId),
    [id],
  );
  const byPrimary = await ec2.send("DescribeNetworkInterfaces", {
    Filters: [{ Name: "private-ip-address", Values: [secondary] }],
  });
  assert.deepEqual(byPrimary.NetworkInterfaces, []);
});

test("named addresses are checked against the subnet", async () => {
  const [a = ""] = network.subnetIds;
  await eni(a, { PrivateIpAddress: "10.42.0.200" });
  await fails(eni(a, { PrivateIpAddress: "10.42.0.200" }), "InvalidIPAddress.InUse", "Address is in use.");
  await fails(eni(a, { PrivateIpAddress: "10.42.0.3" }), "InvalidParameterValue", /reserved/);
  await fails(
    eni(a, { PrivateIpAddress: "10.42.9.9" }),
    "InvalidParameterValue",
    "Address does not fall within the subnet's address range",
  );
});

test("one ClientToken makes one resource; with other parameters it is refused", async () => {
  const [a = ""] = network.subnetIds;
  const call = { SubnetId: a, Description: "once", ClientToken: "token-1" };
  const first = await ec2.send("CreateNetworkInterface", call);
  const second = await ec2.send("CreateNetworkInterface", call);
  assert.equal(second.NetworkInterface?.NetworkInterfaceId, first.NetworkInterface?.NetworkInterfaceId);
  const found = await ec2.send("DescribeNetworkInterfaces", { Filters: [{ Name: "description", Values: ["once"] }] });
  assert.equal(found.NetworkInterfaces?.length, 1);
  await fails(ec2.send("CreateNetworkInterface", { ...call, Description: "other" }), "IdempotentParameterMismatch");
});

test("DryRun tells what would happen and does nothing", async () => {
  const [a = ""] = network.subnetIds;
  const before_ = await free(a);
  await fails(
    ec2.send("CreateNetworkInterface", { SubnetId: a, DryRun: true }),
    "DryRunOperation",
    /would have succeeded/,
    412,
  );
  await fails(
    ec2.send("CreateNetworkInterface", { SubnetId: "subnet-0123456789abcdef0", DryRun: true }),
    "InvalidSubnetID.NotFound",
  );
  assert.equal(await free(a), before_);
});

test("what is in use cannot be deleted", async () => {
  const [a = ""] = network.subnetIds;
  const group =
    (await ec2.send("CreateSecurityGroup", { GroupName: "used", Description: "d", VpcId: network.vpcId })).GroupId ??
    "";
  const id = await eni(a, { Groups: [group] });
  await fails(
    ec2.send("DeleteSecurityGroup", { GroupId: group }),
    "DependencyViolation",
    `resource ${group} has a dependent object`,
  );
  await fails(ec2.send("DeleteSubnet", { SubnetId: a }), "DependencyViolation");
  await fails(ec2.send("DeleteVpc", { VpcId: network.vpcId }), "DependencyViolation");
  await fails(ec2.send("DeleteInternetGateway", { InternetGatewayId: network.gatewayId }), "DependencyViolation");
  await ec2.send("DeleteNetworkInterface", { NetworkInterfaceId: id });
  await ec2.send("DeleteSecurityGroup", { GroupId: group });
  const standard =
    (await ec2.send("DescribeSecurityGroups", { Filters: [{ Name: "group-name", Values: ["default"] }] }))
      .SecurityGroups?.[0]?.GroupId ?? "";
  await fails(ec2.send("DeleteSecurityGroup", { GroupId: standard }), "CannotDelete");
});

test("subnets and VPCs keep to their ranges", async () => {
  await fails(subnet("10.43.0.0/24"), "InvalidSubnet.Range");
  await fails(
    subnet("10.42.0.128/25"),
    "InvalidSubnet.Conflict",
    "The CIDR '10.42.0.128/25' conflicts with another subnet",
  );
  await fails(subnet("10.42.200.0/29"), "InvalidSubnet.Range");
  await fails(
    ec2.send("CreateVpc", { CidrBlock: "10.0.0.0/8" }),
    "InvalidVpc.Range",
    "The CIDR '10.0.0.0/8' is invalid.",
  );
  await fails(ec2.send("CreateVpc", { CidrBlock: "ten" }), "InvalidParameterValue");
  const { CidrBlockAssociation } = await ec2.send("AssociateVpcCidrBlock", {
    VpcId: network.vpcId,
    CidrBlock: "100.64.0.0/16",
  });
  assert.equal(CidrBlockAssociation?.CidrBlockState?.State, "associating");
  const far = await subnet("100.64.0.0/19");
  await fails(
    ec2.send("DisassociateVpcCidrBlock", { AssociationId: CidrBlockAssociation?.AssociationId }),
    "InvalidCidrBlock.InUse",
  );
  await ec2.send("DeleteSubnet", { SubnetId: far });
  await ec2.send("DisassociateVpcCidrBlock", { AssociationId: CidrBlockAssociation?.AssociationId });
});

test("duplicate and missing rules are told apart, quotas hold", async () => {
  const GroupId =
    (await ec2.send("CreateSecurityGroup", { GroupName: "rules", Description: "d", VpcId: network.vpcId })).GroupId ??
    "";
  const rule = { IpProtocol: "tcp", FromPort: 1, ToPort: 1, IpRanges: [{ CidrIp: "10.0.0.0/8" }] };
  await ec2.send("AuthorizeSecurityGroupIngress", { GroupId, IpPermissions: [rule] });
  await fails(
    ec2.send("AuthorizeSecurityGroupIngress", { GroupId, IpPermissions: [rule] }),
    "InvalidPermission.Duplicate",
  );
  await fails(ec2.send("RevokeSecurityGroupEgress", { GroupId, IpPermissions: [rule] }), "InvalidPermission.NotFound");
  const many = Array.from({ length: 60 }, (_, n) => ({ ...rule, FromPort: n + 2, ToPort: n + 2 }));
  await fails(
    ec2.send("AuthorizeSecurityGroupIngress", { GroupId, IpPermissions: many }),
    "RulesPerSecurityGroupLimitExceeded",
  );
  await fails(
    ec2.send("CreateSecurityGroup", { GroupName: "rules", Description: "d", VpcId: network.vpcId }),
    "InvalidGroup.Duplicate",
  );
});

test("a route whose target goes is a blackhole; unassociated subnets follow the main table", async () => {
  const [a = ""] = network.subnetIds;
  const AllocationId = (await ec2.send("AllocateAddress", { Domain: "vpc" })).AllocationId;
  const { NatGateway } = await ec2.send("CreateNatGateway", { SubnetId: a, AllocationId });
  const NatGatewayId = NatGateway?.NatGatewayId ?? "";
  assert.equal(NatGateway?.State, "pending");
  await until(
    "the NAT gateway",
    async () =>
      (await ec2.send("DescribeNatGateways", { NatGatewayIds: [NatGatewayId] })).NatGateways?.[0]?.State ===
      "available",
  );
  const main = await ec2.send("DescribeRouteTables", {
    Filters: [
      { Name: "association.main", Values: ["true"] },
      { Name: "vpc-id", Values: [network.vpcId] },
    ],
  });
  const RouteTableId = main.RouteTables?.[0]?.RouteTableId ?? "";
  const route = { RouteTableId, DestinationCidrBlock: "0.0.0.0/0" };
  await ec2.send("CreateRoute", { ...route, NatGatewayId });
  await fails(
    ec2.send("CreateRoute", { ...route, GatewayId: network.gatewayId }),
    "RouteAlreadyExists",
    "The route identified by 0.0.0.0/0 already exists.",
  );
  await fails(ec2.send("DeleteRoute", { RouteTableId, DestinationCidrBlock: "1.0.0.0/8" }), "InvalidRoute.NotFound");
  await fails(ec2.send("ReleaseAddress", { AllocationId }), "InvalidIPAddress.InUse");
  await ec2.send("DeleteNatGateway", { NatGatewayId });
  const after_ = await ec2.send("DescribeRouteTables", { RouteTableIds: [RouteTableId] });
  assert.equal(
    after_.RouteTables?.[0]?.Routes?.find((one) => one.DestinationCidrBlock === "0.0.0.0/0")?.State,
    "blackhole",
  );
  await ec2.send("ReleaseAddress", { AllocationId });
});

test("a NAT gateway without an internet gateway fails by its state", async () => {
  const { Vpc } = await ec2.send("CreateVpc", { CidrBlock: "10.99.0.0/16" });
  const { Subnet } = await ec2.send("CreateSubnet", { VpcId: Vpc?.VpcId, CidrBlock: "10.99.0.0/24" });
  const { AllocationId } = await ec2.send("AllocateAddress", { Domain: "vpc" });
  const { NatGateway } = await ec2.send("CreateNatGateway", { SubnetId: Subnet?.SubnetId, AllocationId });
  const found = await ec2.send("DescribeNatGateways", { NatGatewayIds: [NatGateway?.NatGatewayId ?? ""] });
  assert.deepEqual(
    [found.NatGateways?.[0]?.State, found.NatGateways?.[0]?.FailureCode],
    ["failed", "Gateway.NotAttached"],
  );
});

test("pages follow each other and meet every item once", async () => {
  const seen: (string | undefined)[] = [];
  for await (const page of ec2.pages("DescribeNetworkInterfaces", { MaxResults: 5 }))
    seen.push(...(page.NetworkInterfaces ?? []).map((one) => one.NetworkInterfaceId));
  const all = (await ec2.send("DescribeNetworkInterfaces", {})).NetworkInterfaces?.map((one) => one.NetworkInterfaceId);
  assert.deepEqual(seen, all);
  assert.ok(seen.length > 5);
  await fails(ec2.send("DescribeNetworkInterfaces", { MaxResults: 4 }), "InvalidParameterValue");
  await fails(ec2.send("DescribeNetworkInterfaces", { NextToken: "nonsense" }), "InvalidParameterValue");
  await fails(
    ec2.send("DescribeNetworkInterfaces", { MaxResults: 5, NetworkInterfaceIds: [seen[0] ?? ""] }),
    "InvalidParameterCombination",
  );
});

test("what this cloud does not do is refused by name", async () => {
  const [a = ""] = network.subnetIds;
  await fails(
    ec2.send("DescribeSubnets", { Filters: [{ Name: "colour", Values: ["red"] }] }),
    "InvalidParameterValue",
    "The filter 'colour' is invalid",
  );
  await fails(
    ec2.send("CreateNetworkInterface", { SubnetId: a, Ipv6AddressCount: 1 }),
    "UnsupportedOperation",
    /Ipv6AddressCount/,
  );
  const run = { ImageId: image, InstanceType: "m5.large", MinCount: 1, MaxCount: 1 };
  await fails(
    ec2.send("RunInstances", { ...run, NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: a, Ipv6AddressCount: 1 }] }),
    "UnsupportedOperation",
    "The parameter NetworkInterface.1.Ipv6AddressCount is not supported.",
  );
  await fails(ec2.send("CreateNetworkInterface", {}), "MissingParameter", /subnetId/i);
  await fails(
    ec2.send("RebootInstances", { InstanceIds: ["i-0123456789abcdef0"] }),
    "InvalidAction",
    "The action RebootInstances is not valid for this web service.",
    400,
  );
  await fails(
    ec2.send("DescribeSubnets", { SubnetIds: ["subnet-xyz"] }),
    "InvalidSubnetID.Malformed",
    'Invalid id: "subnet-xyz" (expecting "subnet-...")',
  );
  await fails(
    ec2.send("CreateTags", { Resources: [a], Tags: [{ Key: "aws:x", Value: "y" }] }),
    "InvalidParameterValue",
    /reserved/,
  );
  await fails(
    ec2.send("CreateVpc", {
      CidrBlock: "10.5.0.0/16",
      TagSpecifications: [{ ResourceType: "subnet", Tags: [{ Key: "a", Value: "b" }] }],
    }),
    "InvalidParameterValue",
  );
});

test("an answered write survives kill -9", async () => {
  const [, b = ""] = network.subnetIds;
  const id = await eni(b, { Description: "survivor" });
  const countBefore = await free(b);
  await cloud.crash();
  const found = await ec2.send("DescribeNetworkInterfaces", { NetworkInterfaceIds: [id] });
  assert.equal(found.NetworkInterfaces?.[0]?.Description, "survivor");
  assert.equal(await free(b), countBefore);
});
