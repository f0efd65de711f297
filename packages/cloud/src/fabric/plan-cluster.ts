/**
 * The AWS-managed namespace of a control plane: its X-ENIs in the customer's subnets, and a wire to the internet with the
 * cluster's public endpoint. Pure.
 *
 *   from an X-ENI's address   → that X-ENI          (table 200 + device index)
 *   from the public address   → aws0                (table 100)
 *   198.51.100.0/24           → aws0                AWS's own endpoints
 *   else                      → eth0                nodes, pods, webhooks
 */
import { canonicalCidr, parseCidr } from "@underlay/addr/cidr";
import type { Item } from "./items.ts";
import type { Lookup } from "./plan.ts";
import { planWire, publicRoute } from "./plan-internet.ts";
import { gatewayOf } from "./plan-subnet.ts";
import { awsLink, clusterNetns, endpointRange, wireLink, wireNear } from "./places.ts";
import type { FabricCluster, FabricEni } from "./seam.ts";

const publicTable = 100;
const firstEniTable = 200;

export function planCluster(cid: string, cluster: FabricCluster, enis: readonly FabricEni[], lookup: Lookup): Item[] {
  const netns = clusterNetns(cid, cluster.name);
  const nearName = wireLink("eks", cluster.name);
  const viaWire = { via: wireNear, dev: awsLink, onlink: true };
  return [
    { kind: "netns", netns, owned: true, sysctls: managedSysctls },
    ...planWire({ cid, farNetns: netns, farName: awsLink, nearName, alias: `cluster ${cluster.name}` }),
    { kind: "address", netns, dev: awsLink, address: `${cluster.publicAddress}/32` },
    { kind: "rule", netns, rule: { priority: 100, from: `${cluster.publicAddress}/32`, table: publicTable } },
    { kind: "route", netns, route: { to: "default", table: publicTable, ...viaWire } },
    { kind: "route", netns, route: { to: endpointRange, ...viaWire } },
    publicRoute(cid, cluster.publicAddress, nearName),
    {
      kind: "chain",
      netns,
      name: "endpoint",
      hook: "type filter hook input priority 0; policy accept;",
      rules: endpointRules(cluster),
    },
    ...enis.flatMap((eni) => planXeni(netns, eni, lookup)),
  ];
}

function planXeni(netns: string, eni: FabricEni, lookup: Lookup): Item[] {
  const subnet = lookup.subnets.get(eni.subnetId);
  if (eni.attachment?.kind !== "cluster" || subnet === undefined) return [];
  const { deviceIndex } = eni.attachment;
  const address = eni.addresses[0]!.address;
  const dev = `eth${deviceIndex}`;
  const table = firstEniTable + deviceIndex;
  const via = gatewayOf(subnet.cidr);
  return [
    { kind: "address", netns, dev, address: `${address}/${parseCidr(subnet.cidr).prefixLength}` },
    { kind: "rule", netns, rule: { priority: firstEniTable + deviceIndex, from: `${address}/32`, table } },
    { kind: "route", netns, route: { to: canonicalCidr(subnet.cidr), dev, table, scope: "link" } },
    { kind: "route", netns, route: { to: "default", via, dev, table } },
    ...(deviceIndex === 0 ? [{ kind: "route", netns, route: { to: "default", via, dev } } as const] : []),
  ];
}

/** Who may reach the API server by its public address. */
function endpointRules(cluster: FabricCluster): string[] {
  const allowed = cluster.endpointPublicAccess ? cluster.publicAccessCidrs.filter((cidr) => !cidr.includes(":")) : [];
  return [
    `iifname "${awsLink}" ct state established,related accept`,
    ...allowed.map((cidr) => `iifname "${awsLink}" ip saddr ${cidr} tcp dport 443 accept`),
    `iifname "${awsLink}" drop`,
  ];
}

const managedSysctls = {
  "net.ipv4.ip_forward": 0,
  "net.ipv4.conf.all.rp_filter": 0,
  "net.ipv4.conf.default.rp_filter": 0,
  "net.ipv4.conf.all.arp_ignore": 0,
  "net.ipv4.conf.default.arp_ignore": 0,
  "net.ipv6.conf.all.disable_ipv6": 1,
  "net.ipv6.conf.default.disable_ipv6": 1,
};
