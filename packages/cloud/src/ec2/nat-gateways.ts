/** NAT gateways: an ENI of their own in a subnet; pending → available once packets can pass, or failed with a reason. */
import type { Ec2Actions, NatGateway as NatGatewayOutput } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { associate, disassociate } from "./addresses.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { createEni } from "./network-interfaces.ts";
import { pageOf } from "./pages.ts";
import { freeCount } from "./subnets.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type NatGateway = {
  readonly id: string;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly connectivity: "public" | "private";
  readonly state: "pending" | "available" | "failed" | "deleting" | "deleted";
  readonly failure?: { readonly code: string; readonly message: string };
  readonly eniId?: string;
  readonly privateAddress?: string;
  readonly allocationId?: string;
  readonly publicAddress?: string;
  readonly associationId?: string;
  readonly createTime: string;
  readonly deleteTime?: string;
  readonly tags: Tags;
};

export const natGatewayOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateNatGateway: {
    takes: ["SubnetId", "AllocationId", "ConnectivityType", "PrivateIpAddress", "TagSpecifications"],
    run(input) {
      if (input.SubnetId === undefined)
        throw new ApiError("MissingParameter", "The request must contain the parameter SubnetId");
      const subnet = find(world, "subnet", input.SubnetId);
      const connectivity = input.ConnectivityType === "private" ? "private" : "public";
      if (connectivity === "public" && input.AllocationId === undefined)
        throw new ApiError(
          "MissingParameter",
          "The request must include the AllocationId parameter. Add the required parameter and retry the request.",
        );
      const base: NatGateway = {
        id: newId("nat-"),
        vpcId: subnet.vpcId,
        subnetId: subnet.id,
        connectivity,
        state: "pending",
        createTime: world.now().toISOString(),
        tags: tagsFrom(input.TagSpecifications, "natgateway"),
      };
      // What EC2 finds out after the answer is found out here at once, and told the same way: by state.
      const failure = failureOf(world, base, input.AllocationId);
      const gateway =
        failure === undefined ? realise(world, base, input) : { ...base, state: "failed" as const, failure };
      world.store.put("nat-gateway", gateway);
      return { NatGateway: render({ ...gateway, state: failure === undefined ? "pending" : "failed" }) };
    },
  },
  DescribeNatGateways: {
    takes: ["NatGatewayIds", "Filter", "MaxResults", "NextToken"],
    run(input) {
      const given = input.NatGatewayIds?.length
        ? findAll(world, "nat-gateway", input.NatGatewayIds)
        : world.store.all("nat-gateway");
      const { page, ...next } = pageOf(applyFilters(given, input.Filter, filters), input, { ids: input.NatGatewayIds });
      return { NatGateways: page.map(render), ...next };
    },
  },
  DeleteNatGateway: {
    takes: ["NatGatewayId"],
    run({ NatGatewayId = "" }) {
      const gateway = find(world, "nat-gateway", NatGatewayId);
      const address = gateway.allocationId === undefined ? undefined : world.store.get("address", gateway.allocationId);
      if (address?.association?.eniId === gateway.eniId && address !== undefined) disassociate(world, address);
      if (gateway.eniId !== undefined) world.store.remove("eni", gateway.eniId);
      world.store.put("nat-gateway", { ...gateway, state: "deleted", deleteTime: world.now().toISOString() });
      return { NatGatewayId };
    },
  },
});

/** Pending gateways become available; called once the fabric has them. */
export function settleNatGateways(world: World): void {
  for (const gateway of world.store.all("nat-gateway"))
    if (gateway.state === "pending") world.store.put("nat-gateway", { ...gateway, state: "available" });
}

function failureOf(world: World, gateway: NatGateway, allocationId: string | undefined): NatGateway["failure"] {
  const subnet = find(world, "subnet", gateway.subnetId);
  if (freeCount(world, subnet) < 1)
    return {
      code: "InsufficientFreeAddressesInSubnet",
      message: "Subnet has insufficient free addresses to create this NAT gateway",
    };
  if (gateway.connectivity === "private") return undefined;
  if (!world.store.all("internet-gateway").some((one) => one.vpcId === gateway.vpcId))
    return { code: "Gateway.NotAttached", message: `Network ${gateway.vpcId} has no Internet gateway attached` };
  const address = world.store.get("address", allocationId ?? "");
  if (address === undefined)
    return {
      code: "InvalidAllocationID.NotFound",
      message: `Elastic IP address ${allocationId ?? ""} could not be associated with this NAT gateway`,
    };
  if (address.association !== undefined)
    return { code: "Resource.AlreadyAssociated", message: `Elastic IP address ${address.id} is already associated` };
  return undefined;
}

function realise(
  world: World,
  base: NatGateway,
  input: { AllocationId?: string | undefined; PrivateIpAddress?: string | undefined },
): NatGateway {
  const eni = createEni(world, {
    subnetId: base.subnetId,
    description: `Interface for NAT Gateway ${base.id}`,
    groupIds: [],
    primaryAddress: input.PrivateIpAddress,
    interfaceType: "nat_gateway",
    sourceDestCheck: false,
    requester: "amazon-vpc-nat",
    tags: {},
    attachment: { kind: "nat-gateway", natGatewayId: base.id, id: newId("ela-attach-"), attachTime: base.createTime },
  });
  const privateAddress = eni.addresses[0]?.address ?? "";
  if (base.connectivity === "private") return { ...base, eniId: eni.id, privateAddress };
  const address = find(world, "address", input.AllocationId ?? "");
  const associationId = associate(world, address, eni, privateAddress);
  return {
    ...base,
    eniId: eni.id,
    privateAddress,
    allocationId: address.id,
    publicAddress: address.publicAddress,
    associationId,
  };
}

function render(gateway: NatGateway): NatGatewayOutput {
  return {
    CreateTime: new Date(gateway.createTime),
    ...(gateway.deleteTime === undefined ? {} : { DeleteTime: new Date(gateway.deleteTime) }),
    ...(gateway.failure === undefined
      ? {}
      : { FailureCode: gateway.failure.code, FailureMessage: gateway.failure.message }),
    NatGatewayAddresses: [
      {
        AllocationId: gateway.allocationId,
        NetworkInterfaceId: gateway.eniId,
        PrivateIp: gateway.privateAddress,
        PublicIp: gateway.publicAddress,
        AssociationId: gateway.associationId,
        IsPrimary: true,
        Status: gateway.state === "failed" ? "failed" : "succeeded",
      },
    ],
    NatGatewayId: gateway.id,
    State: gateway.state,
    SubnetId: gateway.subnetId,
    VpcId: gateway.vpcId,
    Tags: tagList(gateway.tags),
    ConnectivityType: gateway.connectivity,
  };
}

const filters: FilterTable<NatGateway> = {
  "nat-gateway-id": (gateway) => [gateway.id],
  state: (gateway) => [gateway.state],
  "subnet-id": (gateway) => [gateway.subnetId],
  "vpc-id": (gateway) => [gateway.vpcId],
};
