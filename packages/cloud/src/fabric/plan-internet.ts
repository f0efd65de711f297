/** The internet namespace: hosts on its loopback, and nothing for elastic addresses nobody uses. Pure. */
import type { Item } from "./items.ts";
import {
  apiAddress,
  echoAddress,
  elasticRange,
  endpointRange,
  internetMtu,
  internetNetns,
  operatorAddress,
  publicDnsAddress,
  wireFar,
  wireFarMac,
  wireNear,
  wireNearMac,
} from "./places.ts";

/** Settings of every namespace that only forwards: IPv4, no redirects, no path filter (the source check is our own). */
export const forwardingSysctls = {
  "net.ipv4.ip_forward": 1,
  "net.ipv4.conf.all.rp_filter": 0,
  "net.ipv4.conf.default.rp_filter": 0,
  "net.ipv4.conf.all.send_redirects": 0,
  "net.ipv4.conf.default.send_redirects": 0,
  "net.ipv4.conf.all.arp_ignore": 0,
  "net.ipv4.conf.default.arp_ignore": 0,
  "net.ipv4.conf.all.proxy_arp": 0,
  "net.ipv4.conf.default.proxy_arp": 0,
  "net.ipv6.conf.all.disable_ipv6": 1,
  "net.ipv6.conf.default.disable_ipv6": 1,
};

export function planInternet(cid: string): Item[] {
  const netns = internetNetns(cid);
  // The operator's address first: it is the source of what has no better one.
  const hosts = [operatorAddress, echoAddress, publicDnsAddress, apiAddress];
  return [
    { kind: "netns", netns, owned: true, sysctls: forwardingSysctls },
    ...hosts.map((address): Item => ({ kind: "address", netns, dev: "lo", address: `${address}/32` })),
    ...[elasticRange, endpointRange].map((to): Item => ({ kind: "route", netns, route: { to, type: "unreachable" } })),
  ];
}

/** A wire to the internet namespace: MTU 1500 at both ends, link-local next hops known for good. */
export function planWire(o: {
  cid: string;
  farNetns: string;
  farName: string;
  nearName: string;
  alias: string;
}): Item[] {
  const near = internetNetns(o.cid);
  return [
    {
      kind: "veth",
      netns: near,
      name: o.nearName,
      mac: wireNearMac,
      mtu: internetMtu,
      alias: o.alias,
      proxyArp: false,
      guest: false,
      peer: { netns: o.farNetns, name: o.farName, mac: wireFarMac, mtu: internetMtu, up: true },
    },
    { kind: "neighbour", netns: near, neighbour: { to: wireFar, mac: wireFarMac, dev: o.nearName } },
    { kind: "neighbour", netns: o.farNetns, neighbour: { to: wireNear, mac: wireNearMac, dev: o.farName } },
  ];
}

/** Where the internet finds a public address: over the wire of its VPC or control plane. */
export function publicRoute(cid: string, address: string, dev: string): Item {
  const route = { to: `${address}/32`, via: wireFar, dev, onlink: true, src: operatorAddress };
  return { kind: "route", netns: internetNetns(cid), route };
}
