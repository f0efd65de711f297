/**
 * What every VPC has and nobody made: the default network ACL, which admits everything, and the region's DHCP options.
 * Read only: the fabric has no other ACL yet.
 */
import type { Ec2Actions, NetworkAcl } from "@underlay/aws/generated/ec2-types";
import type { OperationsOf } from "../protocol/service.ts";
import { ApiError } from "../protocol/api-error.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable } from "./filters.ts";
import { pageOf } from "./pages.ts";
import { dhcpOptionsId, type Vpc } from "./vpcs.ts";

type DefaultAcl = {
  readonly id: string;
  readonly vpcId: string;
  readonly subnetIds: readonly string[];
  readonly tags?: never;
};
type DhcpOptions = { readonly id: string; readonly tags?: never };

export const networkAclOperations = (world: World): OperationsOf<Ec2Actions> => ({
  DescribeNetworkAcls: {
    takes: ["NetworkAclIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const all = world.store.all("vpc").map((vpc) => defaultAcl(world, vpc));
      const ids = input.NetworkAclIds ?? [];
      const missing = ids.find((id) => !all.some((acl) => acl.id === id));
      if (missing !== undefined)
        throw new ApiError("InvalidNetworkAclID.NotFound", `The networkAcl ID '${missing}' does not exist`);
      const given = ids.length === 0 ? all : all.filter((acl) => ids.includes(acl.id));
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, { ids });
      return { NetworkAcls: page.map((acl) => render(world, acl)), ...next };
    },
  },
  DescribeDhcpOptions: {
    takes: ["DhcpOptionsIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const missing = input.DhcpOptionsIds?.find((id) => id !== dhcpOptionsId);
      if (missing !== undefined)
        throw new ApiError("InvalidDhcpOptionsID.NotFound", `The dhcpOption ID '${missing}' does not exist`);
      const domain = world.region === "us-east-1" ? "ec2.internal" : `${world.region}.compute.internal`;
      const chosen = applyFilters<DhcpOptions>([{ id: dhcpOptionsId }], input.Filters, {
        "dhcp-options-id": (options) => [options.id],
        key: () => ["domain-name", "domain-name-servers"],
        value: () => [domain, "AmazonProvidedDNS"],
        "owner-id": () => [world.accountId],
      });
      return {
        DhcpOptions: chosen.map(({ id }) => ({
          DhcpOptionsId: id,
          OwnerId: world.accountId,
          Tags: [],
          DhcpConfigurations: [
            { Key: "domain-name", Values: [{ Value: domain }] },
            { Key: "domain-name-servers", Values: [{ Value: "AmazonProvidedDNS" }] },
          ],
        })),
      };
    },
  },
});

/** Ids follow from the VPC's, so that they need no record. */
function defaultAcl(world: World, vpc: Vpc): DefaultAcl {
  const subnetIds = world.store.all("subnet").filter((subnet) => subnet.vpcId === vpc.id);
  return { id: vpc.id.replace("vpc-", "acl-"), vpcId: vpc.id, subnetIds: subnetIds.map(({ id }) => id) };
}

function render(world: World, acl: DefaultAcl): NetworkAcl {
  const entries = [false, true].flatMap((Egress) => [
    { CidrBlock: "0.0.0.0/0", Egress, Protocol: "-1", RuleAction: "allow", RuleNumber: 100 },
    { CidrBlock: "0.0.0.0/0", Egress, Protocol: "-1", RuleAction: "deny", RuleNumber: 32_767 },
  ]);
  return {
    Associations: acl.subnetIds.map((SubnetId) => ({
      NetworkAclAssociationId: SubnetId.replace("subnet-", "aclassoc-"),
      NetworkAclId: acl.id,
      SubnetId,
    })),
    Entries: entries,
    IsDefault: true,
    NetworkAclId: acl.id,
    Tags: [],
    VpcId: acl.vpcId,
    OwnerId: world.accountId,
  };
}

const filtersOf = (world: World): FilterTable<DefaultAcl> => ({
  "association.network-acl-id": (acl) => (acl.subnetIds.length === 0 ? [] : [acl.id]),
  "association.subnet-id": (acl) => acl.subnetIds,
  "association.association-id": (acl) => acl.subnetIds.map((id) => id.replace("subnet-", "aclassoc-")),
  default: () => [true],
  "network-acl-id": (acl) => [acl.id],
  "owner-id": () => [world.accountId],
  "vpc-id": (acl) => [acl.vpcId],
});
