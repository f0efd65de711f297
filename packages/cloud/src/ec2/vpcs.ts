/** VPCs: their CIDR blocks, DNS attributes and what comes with each (main route table, default group). */
import type { Ec2Actions, Vpc as VpcOutput } from "@underlay/aws/generated/ec2-types";
import { covers, overlaps, parseCidr } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { requireIpv4Cidr } from "./cidr-input.ts";
import { dhcpOptionsId } from "./dhcp-options.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { createDefaultAcl } from "./network-acls.ts";
import { pageOf } from "./pages.ts";
import { createMainRouteTable } from "./route-tables.ts";
import { createDefaultGroup } from "./security-groups.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type Vpc = {
  readonly id: string;
  /** The primary block first. */
  readonly cidrs: readonly { readonly associationId: string; readonly cidr: string }[];
  readonly enableDnsSupport: boolean;
  readonly enableDnsHostnames: boolean;
  readonly enableNetworkAddressUsageMetrics: boolean;
  readonly instanceTenancy: string;
  readonly tags: Tags;
};

const mostCidrs = 5;

export const vpcOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateVpc: {
    takes: ["CidrBlock", "InstanceTenancy", "TagSpecifications"],
    run(input) {
      if (input.CidrBlock === undefined)
        throw new ApiError("MissingParameter", "Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided");
      const cidr = requireIpv4Cidr(input.CidrBlock, { code: "InvalidVpc.Range", least: 16, most: 28 });
      const vpc = world.store.put("vpc", {
        id: newId("vpc-"),
        cidrs: [{ associationId: newId("vpc-cidr-assoc-"), cidr }],
        enableDnsSupport: true,
        enableDnsHostnames: false,
        enableNetworkAddressUsageMetrics: false,
        instanceTenancy: input.InstanceTenancy ?? "default",
        tags: tagsFrom(input.TagSpecifications, "vpc"),
      });
      createMainRouteTable(world, vpc.id);
      createDefaultGroup(world, vpc.id);
      createDefaultAcl(world, vpc.id);
      return { Vpc: { ...renderVpc(world, vpc), State: "pending" } };
    },
  },

  DescribeVpcs: {
    takes: ["VpcIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const given = input.VpcIds?.length ? findAll(world, "vpc", input.VpcIds) : world.store.all("vpc");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, {
        ids: input.VpcIds,
      });
      return { Vpcs: page.map((vpc) => renderVpc(world, vpc)), ...next };
    },
  },

  DeleteVpc: {
    takes: ["VpcId"],
    run({ VpcId = "" }) {
      const vpc = find(world, "vpc", VpcId);
      const { store } = world;
      const inUse =
        store.all("subnet").some((subnet) => subnet.vpcId === VpcId) ||
        store.all("security-group").some((group) => group.vpcId === VpcId && group.name !== "default") ||
        store.all("route-table").some((table) => table.vpcId === VpcId && !table.main) ||
        store.all("network-acl").some((acl) => acl.vpcId === VpcId && !acl.isDefault) ||
        store.all("internet-gateway").some((gateway) => gateway.vpcId === VpcId);
      if (inUse)
        throw new ApiError("DependencyViolation", `The vpc '${VpcId}' has dependencies and cannot be deleted.`);
      for (const group of store.all("security-group").filter((one) => one.vpcId === VpcId)) {
        for (const rule of store.all("security-group-rule"))
          if (rule.groupId === group.id) store.remove("security-group-rule", rule.id);
        store.remove("security-group", group.id);
      }
      for (const table of store.all("route-table")) if (table.vpcId === VpcId) store.remove("route-table", table.id);
      for (const acl of store.all("network-acl")) if (acl.vpcId === VpcId) store.remove("network-acl", acl.id);
      store.remove("vpc", vpc.id);
      return {};
    },
  },

  DescribeVpcAttribute: {
    takes: ["VpcId", "Attribute"],
    run({ VpcId = "", Attribute }) {
      const vpc = find(world, "vpc", VpcId);
      switch (Attribute) {
        case "enableDnsSupport":
          return { VpcId, EnableDnsSupport: { Value: vpc.enableDnsSupport } };
        case "enableDnsHostnames":
          return { VpcId, EnableDnsHostnames: { Value: vpc.enableDnsHostnames } };
        default:
          return { VpcId, EnableNetworkAddressUsageMetrics: { Value: vpc.enableNetworkAddressUsageMetrics } };
      }
    },
  },

  ModifyVpcAttribute: {
    takes: ["VpcId", "EnableDnsSupport", "EnableDnsHostnames", "EnableNetworkAddressUsageMetrics"],
    run({ VpcId = "", EnableDnsSupport, EnableDnsHostnames, EnableNetworkAddressUsageMetrics }) {
      const vpc = find(world, "vpc", VpcId);
      const given = [EnableDnsSupport, EnableDnsHostnames, EnableNetworkAddressUsageMetrics].filter(
        (one) => one !== undefined,
      );
      if (given.length !== 1) throw new ApiError("InvalidParameterCombination", "Exactly one attribute must be given");
      world.store.put("vpc", {
        ...vpc,
        enableDnsSupport: EnableDnsSupport?.Value ?? vpc.enableDnsSupport,
        enableDnsHostnames: EnableDnsHostnames?.Value ?? vpc.enableDnsHostnames,
        enableNetworkAddressUsageMetrics:
          EnableNetworkAddressUsageMetrics?.Value ?? vpc.enableNetworkAddressUsageMetrics,
      });
      return {};
    },
  },

  AssociateVpcCidrBlock: {
    takes: ["VpcId", "CidrBlock"],
    run({ VpcId = "", CidrBlock }) {
      const vpc = find(world, "vpc", VpcId);
      if (CidrBlock === undefined)
        throw new ApiError("MissingParameter", "The request must contain the parameter CidrBlock");
      const cidr = requireIpv4Cidr(CidrBlock, { code: "InvalidVpc.Range", least: 16, most: 28 });
      if (vpc.cidrs.length >= mostCidrs)
        throw new ApiError(
          "CidrLimitExceeded",
          `This network '${VpcId}' has met its maximum number of allowed CIDRs: ${mostCidrs}`,
        );
      const why = whyRefused(
        vpc.cidrs.map((one) => one.cidr),
        cidr,
      );
      if (why === "overlap") throw new ApiError("CidrConflict", `The CIDR '${cidr}' conflicts with another subnet`);
      if (why === "restricted")
        throw new ApiError(
          "InvalidVpc.Range",
          `The CIDR '${cidr}' is restricted. Use a CIDR from the same private address range as the current VPC CIDR, or use a publicly-routable CIDR.`,
        );
      const routes = world.store.all("route-table").filter((table) => table.vpcId === VpcId);
      const routed = routes.flatMap((table) => table.routes).find((route) => covers(cidr, route.cidr));
      if (routed !== undefined)
        throw new ApiError("CidrConflict", `The CIDR '${cidr}' conflicts with the route to ${routed.cidr}`);
      const association = { associationId: newId("vpc-cidr-assoc-"), cidr };
      world.store.put("vpc", { ...vpc, cidrs: [...vpc.cidrs, association] });
      return {
        VpcId,
        CidrBlockAssociation: {
          AssociationId: association.associationId,
          CidrBlock: cidr,
          CidrBlockState: { State: "associating" },
        },
      };
    },
  },

  DisassociateVpcCidrBlock: {
    takes: ["AssociationId"],
    run({ AssociationId = "" }) {
      const vpc = world.store
        .all("vpc")
        .find((one) => one.cidrs.some((block) => block.associationId === AssociationId));
      const block = vpc?.cidrs.find((one) => one.associationId === AssociationId);
      if (vpc === undefined || block === undefined)
        throw new ApiError(
          "InvalidVpcCidrBlockAssociationID.NotFound",
          `The vpc CIDR block association ID '${AssociationId}' does not exist`,
        );
      if (vpc.cidrs[0] === block)
        throw new ApiError(
          "OperationNotPermitted",
          `The vpc CIDR block with association ID ${AssociationId} may not be disassociated. It is the primary IPv4 CIDR block of the VPC`,
        );
      if (world.store.all("subnet").some((subnet) => subnet.vpcId === vpc.id && covers(block.cidr, subnet.cidr)))
        throw new ApiError(
          "InvalidCidrBlock.InUse",
          `The vpc ${vpc.id} currently has a subnet within CIDR block ${block.cidr}`,
        );
      world.store.put("vpc", { ...vpc, cidrs: vpc.cidrs.filter((one) => one !== block) });
      return {
        VpcId: vpc.id,
        CidrBlockAssociation: { AssociationId, CidrBlock: block.cidr, CidrBlockState: { State: "disassociating" } },
      };
    },
  },
});

/** Ranges that may not come together in one VPC (VPC user guide, "IPv4 CIDR block association restrictions"). */
const restrictions: readonly { readonly within: string; readonly refused: readonly string[] }[] = [
  { within: "10.0.0.0/8", refused: ["172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16"] },
  { within: "172.16.0.0/12", refused: ["10.0.0.0/8", "192.168.0.0/16", "198.19.0.0/16", "172.31.0.0/16"] },
  { within: "192.168.0.0/16", refused: ["10.0.0.0/8", "172.16.0.0/12", "198.19.0.0/16"] },
  { within: "198.19.0.0/16", refused: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] },
];
const publicRefused = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16"];

/** Why a block may not join those a VPC has; undefined when it may. */
export function whyRefused(blocks: readonly string[], added: string): "overlap" | "restricted" | undefined {
  if (blocks.some((block) => overlaps(block, added))) return "overlap";
  const [primary] = blocks;
  if (primary === undefined) return undefined;
  const rule = restrictions.find(({ within }) => covers(within, primary));
  const refused = [...(rule?.refused ?? publicRefused)];
  // 10.0.0.0/16 is kept for AWS's own services when the VPC lies in 10.0.0.0/15.
  if (covers("10.0.0.0/15", primary)) refused.push("10.0.0.0/16");
  return refused.some((range) => overlaps(range, added)) ? "restricted" : undefined;
}

/** Whether `cidr` lies in one of the VPC's blocks. */
export function liesInVpc(vpc: Vpc, cidr: string): boolean {
  return vpc.cidrs.some((block) => covers(block.cidr, parseCidr(cidr)));
}

function renderVpc(world: World, vpc: Vpc): VpcOutput {
  return {
    CidrBlock: vpc.cidrs[0]?.cidr,
    DhcpOptionsId: dhcpOptionsId,
    State: "available",
    VpcId: vpc.id,
    OwnerId: world.accountId,
    InstanceTenancy: vpc.instanceTenancy,
    CidrBlockAssociationSet: vpc.cidrs.map(({ associationId, cidr }) => ({
      AssociationId: associationId,
      CidrBlock: cidr,
      CidrBlockState: { State: "associated" },
    })),
    IsDefault: false,
    Tags: tagList(vpc.tags),
    BlockPublicAccessStates: { InternetGatewayBlockMode: "off" },
  };
}

const filtersOf = (world: World): FilterTable<Vpc> => ({
  cidr: (vpc) => [vpc.cidrs[0]?.cidr],
  "cidr-block-association.cidr-block": (vpc) => vpc.cidrs.map(({ cidr }) => cidr),
  "cidr-block-association.association-id": (vpc) => vpc.cidrs.map(({ associationId }) => associationId),
  "cidr-block-association.state": () => ["associated"],
  "dhcp-options-id": () => [dhcpOptionsId],
  "is-default": () => [false],
  isDefault: () => [false],
  "owner-id": () => [world.accountId],
  state: () => ["available"],
  "vpc-id": (vpc) => [vpc.id],
});
