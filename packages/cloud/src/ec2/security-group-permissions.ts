/** `IpPermissions` (protocol and ports with many peers) to rules (one peer each) and back. */
import type { IpPermission } from "@underlay/aws/generated/ec2-types";
import { canonicalCidr, isCidr, parseCidr } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";
import type { World } from "../store/kinds.ts";
import { find } from "./ids.ts";
import { findPrefixList } from "./prefix-lists.ts";
import type { RulePeer, SecurityGroup, SecurityGroupRule } from "./security-groups.ts";

export type RuleFacts = Pick<SecurityGroupRule, "protocol" | "fromPort" | "toPort" | "peer"> & {
  readonly description?: string;
};

const protocolNames: Readonly<Record<string, string>> = {
  "6": "tcp",
  "17": "udp",
  "1": "icmp",
  "58": "icmpv6",
  all: "-1",
};

/** The rules some permissions mean, checked. */
export function rulesFrom(world: World, group: SecurityGroup, permissions: readonly IpPermission[]): RuleFacts[] {
  return permissions.flatMap((permission) => {
    const ports = portsOf(permission);
    const peers = peersOf(world, group, permission);
    if (peers.length === 0)
      throw new ApiError(
        "MissingParameter",
        "Either CidrIp, CidrIpv6, a source group or a prefix list must be given in each permission",
      );
    return peers.map((peer) => ({ ...ports, ...peer }));
  });
}

function portsOf({ IpProtocol, FromPort, ToPort }: IpPermission): Pick<RuleFacts, "protocol" | "fromPort" | "toPort"> {
  if (IpProtocol === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter ipProtocol");
  const text = IpProtocol.toLowerCase();
  const protocol = protocolNames[text] ?? text;
  if (!/^(-1|tcp|udp|icmp|icmpv6|\d{1,3})$/.test(protocol) || Number(protocol) > 255)
    throw new ApiError("InvalidParameterValue", `Invalid value '${IpProtocol}' for IP protocol. Unknown protocol.`);
  if (protocol === "tcp" || protocol === "udp") {
    if (FromPort === undefined || ToPort === undefined)
      throw new ApiError(
        "InvalidParameterValue",
        `Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.`,
      );
    for (const port of [FromPort, ToPort])
      if (port < 0 || port > 65535)
        throw new ApiError(
          "InvalidParameterValue",
          `Invalid value '${port}' for portRange. Must be between 0 and 65535.`,
        );
    if (FromPort > ToPort)
      throw new ApiError("InvalidParameterValue", `Invalid TCP/UDP port range (${FromPort}:${ToPort})`);
    return { protocol, fromPort: FromPort, toPort: ToPort };
  }
  if (protocol === "icmp" || protocol === "icmpv6") return { protocol, fromPort: FromPort ?? -1, toPort: ToPort ?? -1 };
  // With other protocols the ports mean nothing and EC2 answers -1.
  return { protocol, fromPort: -1, toPort: -1 };
}

function peersOf(
  world: World,
  group: SecurityGroup,
  permission: IpPermission,
): { peer: RulePeer; description?: string }[] {
  const described = (peer: RulePeer, description: string | undefined) =>
    description === undefined ? { peer } : { peer, description };
  return [
    ...(permission.IpRanges ?? []).map((range) => described({ cidrIpv4: cidrOf(range.CidrIp, 4) }, range.Description)),
    ...(permission.Ipv6Ranges ?? []).map((range) =>
      described({ cidrIpv6: cidrOf(range.CidrIpv6, 6) }, range.Description),
    ),
    ...(permission.PrefixListIds ?? []).map((list) =>
      described({ prefixListId: findPrefixList(world, list.PrefixListId ?? "").id }, list.Description),
    ),
    ...(permission.UserIdGroupPairs ?? []).map((pair) =>
      described({ groupId: groupOf(world, group, pair) }, pair.Description),
    ),
  ];
}

function groupOf(
  world: World,
  group: SecurityGroup,
  pair: { GroupId?: string | undefined; GroupName?: string | undefined },
): string {
  if (pair.GroupId === undefined && pair.GroupName !== undefined) {
    const named = world.store
      .all("security-group")
      .find((one) => one.vpcId === group.vpcId && one.name === pair.GroupName);
    if (named === undefined)
      throw new ApiError("InvalidGroup.NotFound", `The security group '${pair.GroupName}' does not exist`);
    return named.id;
  }
  const other = find(world, "security-group", pair.GroupId ?? "");
  if (other.vpcId !== group.vpcId)
    throw new ApiError("InvalidGroup.NotFound", `You have specified two resources that belong to different networks.`);
  return other.id;
}

function cidrOf(text: string | undefined, family: 4 | 6): string {
  if (text === undefined || !isCidr(text) || parseCidr(text).family !== family)
    throw new ApiError("InvalidParameterValue", `CIDR block ${text ?? ""} is malformed`);
  return canonicalCidr(text);
}

/** Whether two rules admit the same: their descriptions do not count. */
export function sameRule(a: RuleFacts, b: RuleFacts): boolean {
  return (
    a.protocol === b.protocol &&
    a.fromPort === b.fromPort &&
    a.toPort === b.toPort &&
    peerText(a.peer) === peerText(b.peer)
  );
}

export function peerText(peer: RulePeer): string {
  return Object.values(peer).join("");
}

/** The rules as EC2 groups them: one permission for each protocol and port range. */
export function permissionsOf(world: World, rules: readonly SecurityGroupRule[]): IpPermission[] {
  const grouped = Map.groupBy(rules, (rule) => `${rule.protocol} ${rule.fromPort} ${rule.toPort}`);
  return [...grouped.values()].map((same) => {
    const first = same[0] as SecurityGroupRule;
    const permission = {
      IpProtocol: first.protocol,
      UserIdGroupPairs: [] as { Description?: string; UserId: string; GroupId: string }[],
      IpRanges: [] as { Description?: string; CidrIp: string }[],
      Ipv6Ranges: [] as { Description?: string; CidrIpv6: string }[],
      PrefixListIds: [] as { Description?: string; PrefixListId: string }[],
      ...(first.protocol === "-1" ? {} : { FromPort: first.fromPort, ToPort: first.toPort }),
    };
    for (const { peer, description } of same) {
      const note = description === undefined ? {} : { Description: description };
      if ("cidrIpv4" in peer) permission.IpRanges.push({ ...note, CidrIp: peer.cidrIpv4 });
      else if ("cidrIpv6" in peer) permission.Ipv6Ranges.push({ ...note, CidrIpv6: peer.cidrIpv6 });
      else if ("groupId" in peer)
        permission.UserIdGroupPairs.push({ ...note, UserId: world.accountId, GroupId: peer.groupId });
      else permission.PrefixListIds.push({ ...note, PrefixListId: peer.prefixListId });
    }
    return permission;
  });
}
