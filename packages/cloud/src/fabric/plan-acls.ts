/**
 * Network ACLs in a router: looked at only when a packet crosses a subnet's boundary, before the groups' gates and on every packet,
 * since they keep no state. An ACL that allows everything costs nothing: it is not in the state. Pure.
 *
 *   forward -10   out of A (from A, not to A) → entries of A's egress; into B (to B, not from B) → entries of B's ingress
 */
import type { Item } from "./items.ts";
import { eniLink, routerNetns, subnetMark, subnetMask } from "./places.ts";
import type { FabricAclEntry, FabricEni, FabricSubnet } from "./seam.ts";

const hex = (mark: number): string => `0x${mark.toString(16).padStart(8, "0")}`;
const linksOf = (subnet: FabricSubnet): string => `links_${subnet.number}`;
const chainOf = (subnet: FabricSubnet, direction: string): string => `acl_${subnet.number}_${direction}`;

export function planAcls(
  cid: string,
  vpcId: string,
  subnets: readonly FabricSubnet[],
  enis: readonly FabricEni[],
): Item[] {
  const netns = routerNetns(cid, vpcId);
  const chain = (name: string, rules: string[], hook?: string): Item => ({
    kind: "chain",
    netns,
    name,
    rules,
    ...(hook === undefined ? {} : { hook }),
  });
  return [
    ...subnets.flatMap((subnet): Item[] => [
      { kind: "set", netns, name: linksOf(subnet), type: "set", definition: "type ifname" },
      ...enis
        .filter(({ subnetId }) => subnetId === subnet.subnetId)
        .map(({ number }): Item => ({
          kind: "element",
          netns,
          set: linksOf(subnet),
          key: eniLink(number),
          keyType: "ifname",
        })),
      chain(chainOf(subnet, "out"), aclRules(subnet.acl ?? [], true)),
      chain(chainOf(subnet, "in"), aclRules(subnet.acl ?? [], false)),
    ]),
    chain("acls", subnets.flatMap(crossings), "type filter hook forward priority -10; policy accept;"),
  ];
}

function crossings(subnet: FabricSubnet): string[] {
  const mark = `meta mark & ${hex(subnetMask)}`;
  const own = hex(subnetMark(subnet.number));
  return [
    `${mark} == ${own} oifname != @${linksOf(subnet)} jump ${chainOf(subnet, "out")}`,
    `oifname @${linksOf(subnet)} ${mark} != ${own} jump ${chainOf(subnet, "in")}`,
  ];
}

/** Lowest number first, the first match decides, and what none matches is denied. `return` lets the other subnet's ACL speak too. */
export function aclRules(entries: readonly FabricAclEntry[], egress: boolean): string[] {
  const own = entries.filter((entry) => entry.egress === egress).toSorted((a, b) => a.number - b.number);
  const rules = own.map((entry) =>
    [matchPeer(entry), matchService(entry), entry.action === "allow" ? "return" : "drop"]
      .filter((part) => part !== "")
      .join(" "),
  );
  return [...rules, "drop"];
}

function matchPeer({ cidr, egress }: FabricAclEntry): string {
  return cidr === "0.0.0.0/0" ? "" : `ip ${egress ? "daddr" : "saddr"} ${cidr}`;
}

function matchService({ protocol, ports, icmp }: FabricAclEntry): string {
  if (protocol === "-1") return "";
  if (ports !== undefined) {
    const name = protocol === "6" ? "tcp" : "udp";
    if (ports.from === 0 && ports.to === 65_535) return `meta l4proto ${name}`;
    return `${name} dport ${ports.from === ports.to ? ports.from : `${ports.from}-${ports.to}`}`;
  }
  if (icmp === undefined) return `meta l4proto ${protocol}`;
  if (icmp.type === -1) return "meta l4proto icmp";
  return `icmp type ${icmp.type}${icmp.code === -1 ? "" : ` icmp code ${icmp.code}`}`;
}
