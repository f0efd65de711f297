/** Internet gateways: attached to at most one VPC each, and one per VPC. */
import type { Ec2Actions, InternetGateway as InternetGatewayOutput } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type InternetGateway = { readonly id: string; readonly vpcId?: string; readonly tags: Tags };

export const internetGatewayOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateInternetGateway: {
    takes: ["TagSpecifications"],
    run({ TagSpecifications }) {
      const gateway = world.store.put("internet-gateway", {
        id: newId("igw-"),
        tags: tagsFrom(TagSpecifications, "internet-gateway"),
      });
      return { InternetGateway: render(world, gateway) };
    },
  },
  DescribeInternetGateways: {
    takes: ["InternetGatewayIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const ids = input.InternetGatewayIds;
      const given = ids?.length ? findAll(world, "internet-gateway", ids) : world.store.all("internet-gateway");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, { ids });
      return { InternetGateways: page.map((gateway) => render(world, gateway)), ...next };
    },
  },
  DeleteInternetGateway: {
    takes: ["InternetGatewayId"],
    run({ InternetGatewayId = "" }) {
      const gateway = find(world, "internet-gateway", InternetGatewayId);
      if (gateway.vpcId !== undefined)
        throw new ApiError(
          "DependencyViolation",
          `The internetGateway '${gateway.id}' has dependencies and cannot be deleted.`,
        );
      world.store.remove("internet-gateway", gateway.id);
      return {};
    },
  },
  AttachInternetGateway: {
    takes: ["InternetGatewayId", "VpcId"],
    run({ InternetGatewayId = "", VpcId = "" }) {
      const gateway = find(world, "internet-gateway", InternetGatewayId);
      const vpc = find(world, "vpc", VpcId);
      if (gateway.vpcId !== undefined)
        throw new ApiError(
          "Resource.AlreadyAssociated",
          `resource ${gateway.id} is already attached to network ${gateway.vpcId}`,
        );
      if (world.store.all("internet-gateway").some((other) => other.vpcId === vpc.id))
        throw new ApiError("InvalidParameterValue", `Network ${vpc.id} already has an internet gateway attached`);
      world.store.put("internet-gateway", { ...gateway, vpcId: vpc.id });
      return {};
    },
  },
  DetachInternetGateway: {
    takes: ["InternetGatewayId", "VpcId"],
    run({ InternetGatewayId = "", VpcId = "" }) {
      const gateway = find(world, "internet-gateway", InternetGatewayId);
      find(world, "vpc", VpcId);
      if (gateway.vpcId !== VpcId)
        throw new ApiError("Gateway.NotAttached", `resource ${gateway.id} is not attached to network ${VpcId}`);
      const mapped = world.store
        .all("eni")
        .some((eni) => eni.vpcId === VpcId && eni.addresses.some((one) => one.publicAddress !== undefined));
      if (mapped)
        throw new ApiError(
          "DependencyViolation",
          `Network ${VpcId} has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.`,
        );
      const { vpcId: _, ...rest } = gateway;
      world.store.put("internet-gateway", rest);
      return {};
    },
  },
});

function render(world: World, gateway: InternetGateway): InternetGatewayOutput {
  return {
    Attachments: gateway.vpcId === undefined ? [] : [{ State: "available", VpcId: gateway.vpcId }],
    InternetGatewayId: gateway.id,
    OwnerId: world.accountId,
    Tags: tagList(gateway.tags),
  };
}

const filtersOf = (world: World): FilterTable<InternetGateway> => ({
  "attachment.state": (gateway) => (gateway.vpcId === undefined ? [] : ["available"]),
  "attachment.vpc-id": (gateway) => [gateway.vpcId],
  "internet-gateway-id": (gateway) => [gateway.id],
  "owner-id": () => [world.accountId],
});
