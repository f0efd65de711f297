/** Security groups. Their rules are records of their own (`sgr-…`), in security-group-rules.ts. */
import type { Ec2Actions, SecurityGroup as SecurityGroupOutput } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { permissionsOf } from "./security-group-permissions.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type SecurityGroup = {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly vpcId: string;
  readonly tags: Tags;
};

export type RulePeer =
  | { readonly cidrIpv4: string }
  | { readonly cidrIpv6: string }
  | { readonly groupId: string }
  | { readonly prefixListId: string };

export type SecurityGroupRule = {
  readonly id: string;
  readonly groupId: string;
  readonly isEgress: boolean;
  /** `-1`, `tcp`, `udp`, `icmp`, `icmpv6` or a number. */
  readonly protocol: string;
  /** -1 for all; ICMP type and code for ICMP. */
  readonly fromPort: number;
  readonly toPort: number;
  readonly peer: RulePeer;
  readonly description?: string;
  readonly tags: Tags;
};

const allTraffic = { protocol: "-1", fromPort: -1, toPort: -1, tags: {} } as const;

/** The group every VPC has: in from itself, out to everywhere. */
export function createDefaultGroup(world: World, vpcId: string): void {
  const group = createGroup(world, { name: "default", description: "default VPC security group", vpcId, tags: {} });
  world.store.put("security-group-rule", {
    id: newId("sgr-"),
    groupId: group.id,
    isEgress: false,
    ...allTraffic,
    peer: { groupId: group.id },
  });
}

/** A group with the egress rule every new group has. */
export function createGroup(world: World, facts: Omit<SecurityGroup, "id">): SecurityGroup {
  const group = world.store.put("security-group", { id: newId("sg-"), ...facts });
  world.store.put("security-group-rule", {
    id: newId("sgr-"),
    groupId: group.id,
    isEgress: true,
    ...allTraffic,
    peer: { cidrIpv4: "0.0.0.0/0" },
  });
  return group;
}

export function rulesOf(world: World, groupId: string): SecurityGroupRule[] {
  return world.store.all("security-group-rule").filter((rule) => rule.groupId === groupId);
}

/** Removes a group and its rules; refused while an ENI carries it or another group names it. */
export function removeGroup(world: World, group: SecurityGroup): void {
  const referenced = world.store
    .all("security-group-rule")
    .some((rule) => rule.groupId !== group.id && "groupId" in rule.peer && rule.peer.groupId === group.id);
  if (referenced || world.store.all("eni").some((eni) => eni.groupIds.includes(group.id)))
    throw new ApiError("DependencyViolation", `resource ${group.id} has a dependent object`);
  for (const rule of rulesOf(world, group.id)) world.store.remove("security-group-rule", rule.id);
  world.store.remove("security-group", group.id);
}

export const securityGroupOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateSecurityGroup: {
    takes: ["GroupName", "Description", "VpcId", "TagSpecifications"],
    run({ GroupName = "", Description = "", VpcId, TagSpecifications }) {
      if (VpcId === undefined) throw new ApiError("VPCIdNotSpecified", "No default VPC for this user");
      const vpc = find(world, "vpc", VpcId);
      if (GroupName.startsWith("sg-"))
        throw new ApiError(
          "InvalidParameterValue",
          "Value for parameter GroupName is invalid. Group names may not be in the format sg-*.",
        );
      if (world.store.all("security-group").some((group) => group.vpcId === vpc.id && group.name === GroupName))
        throw new ApiError(
          "InvalidGroup.Duplicate",
          `The security group '${GroupName}' already exists for VPC '${vpc.id}'`,
        );
      const tags = tagsFrom(TagSpecifications, "security-group");
      const group = createGroup(world, { name: GroupName, description: Description, vpcId: vpc.id, tags });
      return { GroupId: group.id, Tags: tagList(tags), SecurityGroupArn: arnOf(world, group) };
    },
  },

  DeleteSecurityGroup: {
    takes: ["GroupId"],
    run({ GroupId }) {
      if (GroupId === undefined)
        throw new ApiError("MissingParameter", "The request must contain the parameter GroupName or GroupId");
      const group = find(world, "security-group", GroupId);
      if (group.name === "default")
        throw new ApiError(
          "CannotDelete",
          'the specified group: "' + group.id + '" name: "default" cannot be deleted by a user',
        );
      removeGroup(world, group);
      return { Return: true, GroupId };
    },
  },

  DescribeSecurityGroups: {
    takes: ["GroupIds", "GroupNames", "Filters", "MaxResults", "NextToken"],
    run(input) {
      let given = input.GroupIds?.length
        ? findAll(world, "security-group", input.GroupIds)
        : world.store.all("security-group");
      for (const name of input.GroupNames ?? [])
        if (!given.some((group) => group.name === name))
          throw new ApiError(
            "InvalidGroup.NotFound",
            `The security group '${name}' does not exist in default VPC 'none'`,
          );
      if (input.GroupNames?.length) given = given.filter((group) => input.GroupNames?.includes(group.name));
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, {
        ids: input.GroupIds,
      });
      return { SecurityGroups: page.map((group) => render(world, group)), ...next };
    },
  },

  GetSecurityGroupsForVpc: {
    takes: ["VpcId", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const vpc = find(world, "vpc", input.VpcId ?? "");
      const groups = world.store.all("security-group").filter((group) => group.vpcId === vpc.id);
      const { page, ...next } = pageOf(applyFilters(groups, input.Filters, filtersOf(world)), input);
      return {
        SecurityGroupForVpcs: page.map((group) => ({
          Description: group.description,
          GroupName: group.name,
          OwnerId: world.accountId,
          GroupId: group.id,
          Tags: tagList(group.tags),
          PrimaryVpcId: group.vpcId,
        })),
        ...next,
      };
    },
  },
});

export function arnOf(world: World, group: SecurityGroup): string {
  return `arn:aws:ec2:${world.region}:${world.accountId}:security-group/${group.id}`;
}

function render(world: World, group: SecurityGroup): SecurityGroupOutput {
  const rules = rulesOf(world, group.id);
  return {
    GroupId: group.id,
    IpPermissionsEgress: permissionsOf(
      world,
      rules.filter((rule) => rule.isEgress),
    ),
    Tags: tagList(group.tags),
    VpcId: group.vpcId,
    SecurityGroupArn: arnOf(world, group),
    OwnerId: world.accountId,
    GroupName: group.name,
    Description: group.description,
    IpPermissions: permissionsOf(
      world,
      rules.filter((rule) => !rule.isEgress),
    ),
  };
}

const ruleFilters = (world: World, prefix: string, isEgress: boolean): FilterTable<SecurityGroup> => {
  const see = (value: (rule: SecurityGroupRule) => string | number | undefined) => (group: SecurityGroup) =>
    rulesOf(world, group.id)
      .filter((rule) => rule.isEgress === isEgress)
      .map(value);
  return {
    [`${prefix}.cidr`]: see(({ peer }) => ("cidrIpv4" in peer ? peer.cidrIpv4 : undefined)),
    [`${prefix}.ipv6-cidr`]: see(({ peer }) => ("cidrIpv6" in peer ? peer.cidrIpv6 : undefined)),
    [`${prefix}.group-id`]: see(({ peer }) => ("groupId" in peer ? peer.groupId : undefined)),
    [`${prefix}.prefix-list-id`]: see(({ peer }) => ("prefixListId" in peer ? peer.prefixListId : undefined)),
    [`${prefix}.protocol`]: see(({ protocol }) => protocol),
    [`${prefix}.from-port`]: see(({ fromPort }) => fromPort),
    [`${prefix}.to-port`]: see(({ toPort }) => toPort),
  };
};

const filtersOf = (world: World): FilterTable<SecurityGroup> => ({
  description: (group) => [group.description],
  "group-id": (group) => [group.id],
  "group-name": (group) => [group.name],
  "owner-id": () => [world.accountId],
  "vpc-id": (group) => [group.vpcId],
  ...ruleFilters(world, "ip-permission", false),
  ...ruleFilters(world, "egress.ip-permission", true),
});
