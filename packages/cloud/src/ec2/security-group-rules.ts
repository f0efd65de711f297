/** Security group rules: authorize, revoke, modify, describe. */
import type { Ec2Actions, IpPermission, SecurityGroupRule as RuleOutput } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { prefixListWeight } from "./prefix-lists.ts";
import { peerText, rulesFrom, sameRule, type RuleFacts } from "./security-group-permissions.ts";
import { rulesOf, type SecurityGroup, type SecurityGroupRule } from "./security-groups.ts";
import { tagList, tagsFrom } from "./tags.ts";

/** Default quota, per direction; a prefix list counts as its MaxEntries. */
const mostRules = 60;

type RulesInput = {
  GroupId?: string | undefined;
  GroupName?: string | undefined;
  IpPermissions?: readonly IpPermission[] | undefined;
  IpProtocol?: string | undefined;
  FromPort?: number | undefined;
  ToPort?: number | undefined;
  CidrIp?: string | undefined;
  SecurityGroupRuleIds?: readonly string[] | undefined;
  TagSpecifications?: Ec2Actions["AuthorizeSecurityGroupIngress"]["input"]["TagSpecifications"];
};

export const securityGroupRuleOperations = (world: World): OperationsOf<Ec2Actions> => ({
  AuthorizeSecurityGroupIngress: {
    takes: ["GroupId", "GroupName", "IpPermissions", "IpProtocol", "FromPort", "ToPort", "CidrIp", "TagSpecifications"],
    run: (input) => authorize(world, input, false),
  },
  AuthorizeSecurityGroupEgress: {
    takes: ["GroupId", "IpPermissions", "TagSpecifications"],
    run: (input) => authorize(world, input, true),
  },
  RevokeSecurityGroupIngress: {
    takes: [
      "GroupId",
      "GroupName",
      "IpPermissions",
      "IpProtocol",
      "FromPort",
      "ToPort",
      "CidrIp",
      "SecurityGroupRuleIds",
    ],
    run: (input) => revoke(world, input, false),
  },
  RevokeSecurityGroupEgress: {
    takes: ["GroupId", "IpPermissions", "SecurityGroupRuleIds"],
    run: (input) => revoke(world, input, true),
  },
  UpdateSecurityGroupRuleDescriptionsIngress: {
    takes: ["GroupId", "IpPermissions"],
    run: (input) => describeAnew(world, input, false),
  },
  UpdateSecurityGroupRuleDescriptionsEgress: {
    takes: ["GroupId", "IpPermissions"],
    run: (input) => describeAnew(world, input, true),
  },

  ModifySecurityGroupRules: {
    takes: ["GroupId", "SecurityGroupRules"],
    run({ GroupId = "", SecurityGroupRules = [] }) {
      const group = find(world, "security-group", GroupId);
      for (const { SecurityGroupRuleId = "", SecurityGroupRule: wanted } of SecurityGroupRules) {
        const rule = find(world, "security-group-rule", SecurityGroupRuleId);
        if (rule.groupId !== group.id || wanted === undefined) throw noSuchRule(SecurityGroupRuleId);
        const note = wanted.Description;
        const permission: IpPermission = {
          IpProtocol: wanted.IpProtocol,
          FromPort: wanted.FromPort,
          ToPort: wanted.ToPort,
          ...(wanted.CidrIpv4 === undefined ? {} : { IpRanges: [{ CidrIp: wanted.CidrIpv4, Description: note }] }),
          ...(wanted.CidrIpv6 === undefined ? {} : { Ipv6Ranges: [{ CidrIpv6: wanted.CidrIpv6, Description: note }] }),
          ...(wanted.PrefixListId === undefined
            ? {}
            : { PrefixListIds: [{ PrefixListId: wanted.PrefixListId, Description: note }] }),
          ...(wanted.ReferencedGroupId === undefined
            ? {}
            : { UserIdGroupPairs: [{ GroupId: wanted.ReferencedGroupId, Description: note }] }),
        };
        const [facts] = rulesFrom(world, group, [permission]);
        if (facts === undefined) throw noSuchRule(SecurityGroupRuleId);
        const { description: _, ...rest } = rule;
        world.store.put("security-group-rule", { ...rest, ...facts });
      }
      return { Return: true };
    },
  },

  DescribeSecurityGroupRules: {
    takes: ["SecurityGroupRuleIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const ids = input.SecurityGroupRuleIds;
      const given = ids?.length ? findAll(world, "security-group-rule", ids) : world.store.all("security-group-rule");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filters), input, { ids });
      return { SecurityGroupRules: page.map((rule) => render(world, rule)), ...next };
    },
  },

  DescribeSecurityGroupReferences: {
    takes: ["GroupId"],
    run({ GroupId = [] }) {
      findAll(world, "security-group", GroupId);
      // References across VPCs need peering, and there is none.
      return { SecurityGroupReferenceSet: [] };
    },
  },
});

const filters: FilterTable<SecurityGroupRule> = {
  "group-id": (rule) => [rule.groupId],
  "security-group-rule-id": (rule) => [rule.id],
};

function authorize(
  world: World,
  input: RulesInput,
  isEgress: boolean,
): { Return: boolean; SecurityGroupRules: RuleOutput[] } {
  const group = requireGroup(world, input);
  const tags: Tags = tagsFrom(input.TagSpecifications, "security-group-rule");
  const existing = rulesOf(world, group.id).filter((rule) => rule.isEgress === isEgress);
  const wanted = rulesFrom(world, group, permissionsIn(input));
  for (const facts of wanted) {
    const duplicate = [...existing, ...wanted.filter((other) => other !== facts)].some((other) =>
      sameRule(other, facts),
    );
    if (duplicate)
      throw new ApiError("InvalidPermission.Duplicate", `the specified rule "${ruleText(facts)}" already exists`);
  }
  const weight = (facts: RuleFacts) =>
    "prefixListId" in facts.peer ? prefixListWeight(world, facts.peer.prefixListId) : 1;
  if ([...existing, ...wanted].reduce((sum, facts) => sum + weight(facts), 0) > mostRules)
    throw new ApiError(
      "RulesPerSecurityGroupLimitExceeded",
      "The maximum number of rules per security group has been reached.",
    );
  const made = wanted.map((facts) =>
    world.store.put("security-group-rule", { id: newId("sgr-"), groupId: group.id, isEgress, ...facts, tags }),
  );
  return { Return: true, SecurityGroupRules: made.map((rule) => render(world, rule)) };
}

function revoke(
  world: World,
  input: RulesInput,
  isEgress: boolean,
): Ec2Actions["RevokeSecurityGroupIngress"]["output"] {
  const group = requireGroup(world, input);
  const existing = rulesOf(world, group.id).filter((rule) => rule.isEgress === isEgress);
  const ids = input.SecurityGroupRuleIds ?? [];
  const byId = ids.map((id) => {
    find(world, "security-group-rule", id);
    const rule = existing.find((one) => one.id === id);
    if (rule === undefined) throw noSuchRule(id);
    return rule;
  });
  const byFacts = (ids.length > 0 ? [] : rulesFrom(world, group, permissionsIn(input))).map((facts) => {
    const rule = existing.find((one) => sameRule(one, facts));
    if (rule === undefined)
      throw new ApiError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.");
    return rule;
  });
  const revoked = [...byId, ...byFacts];
  for (const rule of revoked) world.store.remove("security-group-rule", rule.id);
  return {
    Return: true,
    UnknownIpPermissions: [],
    RevokedSecurityGroupRules: revoked.map((rule) => {
      const {
        GroupOwnerId: _owner,
        Tags: _tags,
        SecurityGroupRuleArn: _arn,
        ReferencedGroupInfo,
        ...rest
      } = render(world, rule);
      return ReferencedGroupInfo === undefined ? rest : { ...rest, ReferencedGroupId: ReferencedGroupInfo.GroupId };
    }),
  };
}

function describeAnew(world: World, input: RulesInput, isEgress: boolean): { Return: boolean } {
  const group = requireGroup(world, input);
  for (const facts of rulesFrom(world, group, input.IpPermissions ?? [])) {
    const rule = rulesOf(world, group.id).find((one) => one.isEgress === isEgress && sameRule(one, facts));
    if (rule === undefined)
      throw new ApiError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.");
    const { description: _, ...rest } = rule;
    world.store.put("security-group-rule", { ...rest, ...facts });
  }
  return { Return: true };
}

function requireGroup(world: World, input: RulesInput): SecurityGroup {
  if (input.GroupId !== undefined) return find(world, "security-group", input.GroupId);
  if (input.GroupName === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter groupName or groupId");
  throw new ApiError(
    "InvalidGroup.NotFound",
    `The security group '${input.GroupName}' does not exist in default VPC 'none'`,
  );
}

/** The list form, or the old form with one rule in top-level parameters. */
function permissionsIn(input: RulesInput): readonly IpPermission[] {
  if (input.IpPermissions?.length) return input.IpPermissions;
  if (input.IpProtocol === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter ipPermissions");
  const { IpProtocol, FromPort, ToPort, CidrIp } = input;
  return [{ IpProtocol, FromPort, ToPort, IpRanges: CidrIp === undefined ? [] : [{ CidrIp }] }];
}

function ruleText(facts: RuleFacts): string {
  const ports =
    facts.protocol === "-1"
      ? "ALL"
      : `${facts.protocol.toUpperCase()}, from port: ${facts.fromPort}, to port: ${facts.toPort}`;
  return `peer: ${peerText(facts.peer)}, ${ports}, ALLOW`;
}

function noSuchRule(id: string): ApiError {
  return new ApiError("InvalidSecurityGroupRuleId.NotFound", `The security group rule ID '${id}' does not exist`);
}

function render(world: World, rule: SecurityGroupRule): RuleOutput {
  const { peer } = rule;
  return {
    SecurityGroupRuleId: rule.id,
    GroupId: rule.groupId,
    GroupOwnerId: world.accountId,
    IsEgress: rule.isEgress,
    IpProtocol: rule.protocol,
    FromPort: rule.fromPort,
    ToPort: rule.toPort,
    ...("cidrIpv4" in peer ? { CidrIpv4: peer.cidrIpv4 } : {}),
    ...("cidrIpv6" in peer ? { CidrIpv6: peer.cidrIpv6 } : {}),
    ...("prefixListId" in peer ? { PrefixListId: peer.prefixListId } : {}),
    ...("groupId" in peer ? { ReferencedGroupInfo: { GroupId: peer.groupId, UserId: world.accountId } } : {}),
    ...(rule.description === undefined ? {} : { Description: rule.description }),
    Tags: tagList(rule.tags),
    SecurityGroupRuleArn: `arn:aws:ec2:${world.region}:${world.accountId}:security-group-rule/${rule.id}`,
  };
}
