/** A NAT gateway: a namespace with one ENI that rewrites every source to its own private address. Pure. */
import { parseCidr } from "@underlay/addr/cidr";
import type { Item } from "./items.ts";
import { forwardingSysctls } from "./plan-internet.ts";
import { gatewayOf } from "./plan-subnet.ts";
import { natNetns } from "./places.ts";
import type { FabricNatGateway, FabricSubnet } from "./seam.ts";

export function planNatGateway(cid: string, nat: FabricNatGateway, subnet: FabricSubnet): Item[] {
  const netns = natNetns(cid, nat.natGatewayId);
  const own = nat.privateAddress;
  const chain = (name: string, hook: string, rules: string[]): Item => ({ kind: "chain", netns, name, hook, rules });
  return [
    // AWS forgets a flow after 350 s without a packet.
    {
      kind: "netns",
      netns,
      owned: true,
      sysctls: {
        ...forwardingSysctls,
        "net.netfilter.nf_conntrack_tcp_timeout_established": 350,
        "net.netfilter.nf_conntrack_udp_timeout_stream": 350,
        "net.netfilter.nf_conntrack_tcp_be_liberal": 1,
      },
    },
    { kind: "address", netns, dev: "eth0", address: `${own}/${parseCidr(subnet.cidr).prefixLength}` },
    { kind: "route", netns, route: { to: "default", via: gatewayOf(subnet.cidr), dev: "eth0" } },
    chain("outbound", "type nat hook postrouting priority srcnat; policy accept;", [
      `ip saddr != ${own} meta l4proto tcp snat to ${own}:1024-65535`,
      `ip saddr != ${own} meta l4proto udp snat to ${own}:1024-65535`,
      `ip saddr != ${own} snat to ${own}`,
    ]),
    chain("through", "type filter hook forward priority 0; policy drop;", [
      "ct state established,related accept",
      "meta l4proto { tcp, udp, icmp } accept",
    ]),
    // Nothing can be opened towards the gateway itself.
    chain("inbound", "type filter hook input priority 0; policy drop;", ["ct state established,related accept"]),
  ];
}
