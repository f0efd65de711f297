/**
 * Security groups as nftables text. One chain per group and direction (allow rules only), one set of member addresses
 * and one of member /28s per group, and one gate chain per combination of groups that some ENI carries.
 * A gate is entered from its own base chain, so `accept` in the egress gate still leaves the ingress gate to pass.
 */
import { createHash } from "node:crypto";
import { nftName } from "./places.ts";
import type { FabricRule, FabricSecurityGroup } from "./seam.ts";

type Direction = FabricRule["direction"];

/** Addresses of the ENIs that carry the group. */
export const memberSet = (groupId: string): string => `${nftName(groupId)}_addresses`;
/** Network addresses of the /28 prefixes of those ENIs. */
export const memberPrefixSet = (groupId: string): string => `${nftName(groupId)}_prefixes`;
export const groupChain = (groupId: string, direction: Direction): string => `${nftName(groupId)}_${direction}`;
export const prefixListSet = (prefixListId: string): string => nftName(prefixListId);

/** The chain an ENI with these groups goes through; the same for every ENI with the same groups. */
export function gateChain(groupIds: readonly string[], direction: Direction): string {
  return `${direction}_${createHash("sha256")
    .update([...groupIds].sort().join())
    .digest("hex")
    .slice(0, 12)}`;
}

/** The union of the groups' rules, then nothing. */
export function gateRules(groupIds: readonly string[], direction: Direction): string[] {
  return [...[...groupIds].sort().map((groupId) => `jump ${groupChain(groupId, direction)}`), "drop"];
}

/** The group's allow rules of one direction. IPv6 peers match nothing on an IPv4 fabric. */
export function groupRules(group: FabricSecurityGroup, direction: Direction): string[] {
  return group.rules
    .filter((rule) => rule.direction === direction)
    .flatMap((rule) => {
      const service = matchService(rule);
      if (service === undefined) return [];
      return matchPeer(rule).map((peer) => [peer, service, "accept"].filter((part) => part !== "").join(" "));
    });
}

/** Protocols that these groups together open to everyone on every port, both ways: EC2 does not track such flows. */
export function untrackedProtocols(groups: readonly FabricSecurityGroup[]): ("tcp" | "udp")[] {
  const rules = groups.flatMap((group) => group.rules);
  const isOpen = (direction: Direction, protocol: "tcp" | "udp"): boolean =>
    rules.some(
      (rule) =>
        rule.direction === direction &&
        "cidrIpv4" in rule.peer &&
        rule.peer.cidrIpv4 === "0.0.0.0/0" &&
        ["", `meta l4proto ${protocol}`].includes(matchService(rule) ?? "nothing"),
    );
  return (["tcp", "udp"] as const).filter((protocol) => isOpen("ingress", protocol) && isOpen("egress", protocol));
}

/** Alternatives of the peer match; an empty text matches every address. */
function matchPeer(rule: FabricRule): string[] {
  const side = rule.direction === "ingress" ? "ip saddr" : "ip daddr";
  const { peer } = rule;
  if ("groupId" in peer) {
    return [`${side} @${memberSet(peer.groupId)}`, `${side} & 255.255.255.240 @${memberPrefixSet(peer.groupId)}`];
  }
  if ("prefixListId" in peer) return [`${side} @${prefixListSet(peer.prefixListId)}`];
  if ("cidrIpv6" in peer) return [];
  return [peer.cidrIpv4 === "0.0.0.0/0" ? "" : `${side} ${peer.cidrIpv4}`];
}

/** The protocol and port match; undefined when the rule cannot match an IPv4 packet. */
function matchService(rule: FabricRule): string | undefined {
  switch (rule.protocol) {
    case "-1":
      return "";
    case "tcp":
    case "6":
      return matchPorts("tcp", rule);
    case "udp":
    case "17":
      return matchPorts("udp", rule);
    case "icmp":
    case "1": {
      if (rule.fromPort === -1) return "meta l4proto icmp";
      const code = rule.toPort === -1 ? "" : ` icmp code ${rule.toPort}`;
      return `icmp type ${rule.fromPort}${code}`;
    }
    case "icmpv6":
    case "58":
      return undefined;
    default:
      return `meta l4proto ${rule.protocol}`;
  }
}

function matchPorts(protocol: "tcp" | "udp", { fromPort, toPort }: FabricRule): string {
  if (fromPort === -1 || (fromPort === 0 && toPort === 65535)) return `meta l4proto ${protocol}`;
  return `${protocol} dport ${fromPort === toPort ? fromPort : `${fromPort}-${toPort}`}`;
}
