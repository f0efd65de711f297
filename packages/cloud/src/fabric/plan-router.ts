/**
 * A VPC's router: the nft frame every packet passes, the link-local services' addresses, the wire to the IGW. Pure.
 *
 *   prerouting raw     source check; mark = subnet of the arriving ENI
 *   prerouting dstnat  IGW: public → private
 *   routing            owned addresses (main table), else the subnet's table, else nothing
 *   forward -10        network ACLs, when a subnet boundary is crossed (plan-acls.ts)
 *   forward 0          egress gate of the arriving ENI      each gate: established passes, then the groups, then drop
 *   forward 10         ingress gate of the leaving ENI
 *   postrouting srcnat IGW: private → public; no public address, no way out
 *   input              DNS, IMDS and time only (groups do not apply to them)
 */
import { nthAddress } from "@underlay/addr/cidr";
import type { Item } from "./items.ts";
import { forwardingSysctls, planWire } from "./plan-internet.ts";
import {
  igwLink,
  imdsAddress,
  nothingPriority,
  ownedPriority,
  resolverAddress,
  routerNetns,
  timeAddress,
  tokenReplyMark,
  wireLink,
} from "./places.ts";
import type { FabricVpc } from "./seam.ts";

/** The address of the VPC's resolver in its primary block. */
export const resolverOf = (vpc: Pick<FabricVpc, "cidrs">): string => nthAddress(vpc.cidrs[0]!, 2);

export function planRouter(cid: string, vpc: Pick<FabricVpc, "vpcId" | "cidrs">, gatewayed: boolean): Item[] {
  const netns = routerNetns(cid, vpc.vpcId);
  const map = (name: string, definition: string): Item => ({ kind: "set", netns, name, type: "map", definition });
  const chain = (name: string, hook: string | undefined, rules: string[]): Item => ({
    kind: "chain",
    netns,
    name,
    rules,
    ...(hook === undefined ? {} : { hook }),
  });
  const resolver = resolverOf(vpc);
  return [
    { kind: "netns", netns, owned: true, sysctls: { ...forwardingSysctls, ...trackingSysctls } },
    ...[imdsAddress, resolverAddress, timeAddress, resolver].map((address): Item => ({
      kind: "address",
      netns,
      dev: "lo",
      address: `${address}/32`,
    })),
    // A route for addresses nobody owns makes the proxy answer ARP for them, as AWS's mapping service does; the forward hook drops the packets.
    ...vpc.cidrs.map((to): Item => ({ kind: "route", netns, route: { to, dev: "lo", scope: "link" } })),
    { kind: "rule", netns, rule: { priority: ownedPriority, table: 254 } },
    { kind: "rule", netns, rule: { priority: nothingPriority, type: "blackhole" } },
    ...(gatewayed
      ? planWire({ cid, farNetns: netns, farName: igwLink, nearName: wireLink("vpc", vpc.vpcId), alias: vpc.vpcId })
      : []),

    map("subnet_of", "type ifname : mark"),
    map("egress_of", "type ifname : verdict"),
    map("ingress_of", "type ifname : verdict"),
    map("hop_limit_of", "type ifname : verdict"),
    map("public_of", "type ipv4_addr : ipv4_addr"),
    map("private_of", "type ipv4_addr : ipv4_addr"),
    { kind: "set", netns, name: "unchecked", type: "set", definition: "type ifname" },

    chain("source_check", "type filter hook prerouting priority raw; policy accept;", [
      `iifname { "lo", "${igwLink}" } return`,
      "iifname != @unchecked fib saddr . iif oif missing drop",
      "meta mark set iifname map @subnet_of",
    ]),
    chain("igw_in", "type nat hook prerouting priority dstnat; policy accept;", [
      `iifname "${igwLink}" dnat to ip daddr map @private_of`,
    ]),
    chain("egress", "type filter hook forward priority 0; policy drop;", [
      `oifname "lo" drop`,
      "ct state established,related accept",
      `iifname "${igwLink}" accept`,
      "iifname vmap @egress_of",
    ]),
    chain("ingress", "type filter hook forward priority 10; policy drop;", [
      "ct state established,related accept",
      `oifname "${igwLink}" accept`,
      "oifname vmap @ingress_of",
    ]),
    chain("igw_out", "type nat hook postrouting priority srcnat; policy accept;", [
      `oifname "${igwLink}" snat to ip saddr map @public_of`,
      `oifname "${igwLink}" drop`,
    ]),
    chain("services", "type filter hook input priority 0; policy drop;", [
      `iifname "lo" accept`,
      `iifname "${igwLink}" ct state established,related accept`,
      "fib saddr . iif oif missing drop",
      `ip daddr ${imdsAddress} tcp dport 80 jump token_request`,
      "ct state established,related accept",
      `ip daddr ${imdsAddress} tcp dport 80 accept`,
      `ip daddr { ${resolverAddress}, ${resolver} } udp dport 53 accept`,
      `ip daddr { ${resolverAddress}, ${resolver} } tcp dport 53 accept`,
      `ip daddr ${timeAddress} udp dport 123 accept`,
    ]),
    // The first four bytes of the request: "PUT " limits how far the reply goes, "GET " and "HEAD" do not.
    chain("token_request", undefined, [
      `@ih,0,32 0x50555420 ct mark set ct mark | ${tokenReplyMark}`,
      "@ih,0,32 { 0x47455420, 0x48454144 } ct mark set ct mark & 0xfffffffd",
    ]),
    chain("token_reply", "type filter hook output priority mangle; policy accept;", [
      `ct mark & ${tokenReplyMark} != 0 oifname vmap @hop_limit_of`,
    ]),
  ];
}

/** EC2's idle timeouts where Linux differs; windows are not ours to judge. */
const trackingSysctls = {
  // The router's own ICMP errors (path MTU) come back to it through a NAT gateway, on their way to who must hear them.
  "net.ipv4.conf.all.accept_local": 1,
  "net.netfilter.nf_conntrack_udp_timeout_stream": 180,
  "net.netfilter.nf_conntrack_tcp_be_liberal": 1,
  "net.ipv4.icmp_ratelimit": 0,
};
