/**
 * Builds the base network of a cluster through the public EC2 API, as an operator's Terraform would: VPC, subnets, internet
 * gateway, NAT gateway, route tables. Every step looks first, by its Name tag, so a second run after a crash only adds what is missing.
 */
import { isAwsError } from "@underlay/aws/aws-error";
import type { Ec2Client } from "@underlay/aws/ec2-client";
import { waitUntil } from "./wait.ts";
import type { ClusterPlan } from "./cluster-file.ts";
import { planSubnets, type SubnetPlan } from "./vpc-plan.ts";

export type BuiltSubnet = SubnetPlan & { readonly subnetId: string };
export type BuiltNetwork = { readonly vpcId: string; readonly subnets: readonly BuiltSubnet[] };

type Tag = { Key: string; Value: string };

export async function buildNetwork(ec2: Ec2Client, plan: ClusterPlan): Promise<BuiltNetwork> {
  const tagsOf = (name: string): Tag[] => [
    { Key: "Name", Value: name },
    { Key: "created-by", Value: "eks-workshop-v2" },
    { Key: "env", Value: plan.name },
    ...Object.entries(plan.tags).map(([Key, Value]) => ({ Key, Value })),
  ];
  const subnetPlans = planSubnets(plan);
  const vpcId = await ensureVpc(ec2, plan, tagsOf(`${plan.name}/VPC`));
  const gatewayId = await ensureInternetGateway(ec2, vpcId, tagsOf(`${plan.name}/InternetGateway`));
  const publicTable = await ensureRouteTable(ec2, vpcId, tagsOf(`${plan.name}/PublicRouteTable`));
  await ensureRoute(ec2, { RouteTableId: publicTable, DestinationCidrBlock: "0.0.0.0/0", GatewayId: gatewayId });
  const subnets: BuiltSubnet[] = [];
  for (const subnet of subnetPlans) subnets.push(await ensureSubnet(ec2, vpcId, subnet, tagsOf(subnet.name)));
  for (const subnet of subnets.filter(({ public: isPublic }) => isPublic))
    await ensureAssociation(ec2, publicTable, subnet.subnetId);

  const natGatewayId =
    plan.natGateway === "Single" && subnets[0]
      ? await ensureNatGateway(ec2, subnets[0].subnetId, tagsOf(`${plan.name}/NATGateway`))
      : undefined;
  for (const subnet of subnets.filter(({ public: isPublic }) => !isPublic)) {
    const table = await ensureRouteTable(
      ec2,
      vpcId,
      tagsOf(`${plan.name}/PrivateRouteTable${subnet.zone.replace(/-/g, "").toUpperCase()}`),
    );
    if (natGatewayId)
      await ensureRoute(ec2, { RouteTableId: table, DestinationCidrBlock: "0.0.0.0/0", NatGatewayId: natGatewayId });
    await ensureAssociation(ec2, table, subnet.subnetId);
  }
  return { vpcId, subnets };
}

const byName = (tags: readonly Tag[]): { Name: string; Values: string[] } => ({
  Name: "tag:Name",
  Values: [tags.find((tag) => tag.Key === "Name")?.Value ?? ""],
});

async function ensureVpc(ec2: Ec2Client, plan: ClusterPlan, tags: Tag[]): Promise<string> {
  const found = await ec2.send("DescribeVpcs", { Filters: [byName(tags)] });
  let vpcId = found.Vpcs?.[0]?.VpcId;
  if (!vpcId) {
    const made = await ec2.send("CreateVpc", {
      CidrBlock: plan.vpcCidr,
      TagSpecifications: [{ ResourceType: "vpc", Tags: tags }],
    });
    vpcId = made.Vpc?.VpcId ?? "";
  }
  await ec2.send("ModifyVpcAttribute", { VpcId: vpcId, EnableDnsHostnames: { Value: true } });
  return vpcId;
}

async function ensureInternetGateway(ec2: Ec2Client, vpcId: string, tags: Tag[]): Promise<string> {
  const found = await ec2.send("DescribeInternetGateways", { Filters: [byName(tags)] });
  let gateway = found.InternetGateways?.[0];
  if (!gateway) {
    const made = await ec2.send("CreateInternetGateway", {
      TagSpecifications: [{ ResourceType: "internet-gateway", Tags: tags }],
    });
    gateway = made.InternetGateway;
  }
  const id = gateway?.InternetGatewayId ?? "";
  if (!gateway?.Attachments?.length) await ec2.send("AttachInternetGateway", { InternetGatewayId: id, VpcId: vpcId });
  return id;
}

async function ensureRouteTable(ec2: Ec2Client, vpcId: string, tags: Tag[]): Promise<string> {
  const found = await ec2.send("DescribeRouteTables", { Filters: [byName(tags), { Name: "vpc-id", Values: [vpcId] }] });
  const existing = found.RouteTables?.[0]?.RouteTableId;
  if (existing) return existing;
  const made = await ec2.send("CreateRouteTable", {
    VpcId: vpcId,
    TagSpecifications: [{ ResourceType: "route-table", Tags: tags }],
  });
  return made.RouteTable?.RouteTableId ?? "";
}

async function ensureRoute(
  ec2: Ec2Client,
  route: { RouteTableId: string; DestinationCidrBlock: string; GatewayId?: string; NatGatewayId?: string },
): Promise<void> {
  try {
    await ec2.send("CreateRoute", route);
  } catch (err) {
    if (!isAwsError(err, "RouteAlreadyExists")) throw err;
  }
}

async function ensureSubnet(ec2: Ec2Client, vpcId: string, subnet: SubnetPlan, tags: Tag[]): Promise<BuiltSubnet> {
  const found = await ec2.send("DescribeSubnets", { Filters: [byName(tags), { Name: "vpc-id", Values: [vpcId] }] });
  let subnetId = found.Subnets?.[0]?.SubnetId;
  if (!subnetId) {
    const role: Tag = { Key: subnet.public ? "kubernetes.io/role/elb" : "kubernetes.io/role/internal-elb", Value: "1" };
    const made = await ec2.send("CreateSubnet", {
      VpcId: vpcId,
      CidrBlock: subnet.cidr,
      AvailabilityZone: subnet.zone,
      TagSpecifications: [{ ResourceType: "subnet", Tags: [...tags, role] }],
    });
    subnetId = made.Subnet?.SubnetId ?? "";
  }
  if (subnet.public)
    await ec2.send("ModifySubnetAttribute", { SubnetId: subnetId, MapPublicIpOnLaunch: { Value: true } });
  return { ...subnet, subnetId };
}

async function ensureAssociation(ec2: Ec2Client, tableId: string, subnetId: string): Promise<void> {
  const found = await ec2.send("DescribeRouteTables", {
    Filters: [{ Name: "association.subnet-id", Values: [subnetId] }],
  });
  if (found.RouteTables?.[0]?.RouteTableId === tableId) return;
  await ec2.send("AssociateRouteTable", { RouteTableId: tableId, SubnetId: subnetId });
}

async function ensureNatGateway(ec2: Ec2Client, subnetId: string, tags: Tag[]): Promise<string> {
  const find = async (): Promise<{ NatGatewayId?: string | undefined; State?: string | undefined } | undefined> => {
    const found = await ec2.send("DescribeNatGateways", {
      Filter: [byName(tags), { Name: "state", Values: ["pending", "available"] }],
    });
    return found.NatGateways?.[0];
  };
  if (!(await find())) {
    const address = await ec2.send("AllocateAddress", {
      Domain: "vpc",
      TagSpecifications: [{ ResourceType: "elastic-ip", Tags: tags }],
    });
    await ec2.send("CreateNatGateway", {
      SubnetId: subnetId,
      AllocationId: address.AllocationId ?? "",
      TagSpecifications: [{ ResourceType: "natgateway", Tags: tags }],
    });
  }
  const gateway = await waitUntil("the NAT gateway to become available", 30_000, async () => {
    const found = await find();
    return found?.State === "available" ? found : undefined;
  });
  return gateway.NatGatewayId ?? "";
}
