/**
 * The table `svc` as text: base chains, sets and maps, and the chains by endpoint count. One table a family; the layout and
 * why it scales are in the README. `vpc-cni` uses mark 0x80 and priority -90 next to it; 0x4000 (masquerade) is ours.
 */
import type { EndpointMap, PlannedElement, SetName } from "./plan.ts";

export interface TableFacts {
  readonly family: 4 | 6;
  /** Addresses that answer node ports. */
  readonly nodeAddresses: readonly string[];
  /** Sources regarded as pods; on EKS not known, so there is no off-cluster detection. */
  readonly podCidrs: readonly string[];
  /** Unassigned addresses of these are dropped. */
  readonly serviceCidrs: readonly string[];
}

export interface TableContent {
  readonly elements: Iterable<PlannedElement>;
  readonly sharedChains: Iterable<string>;
  readonly ownChains: Iterable<readonly [string, string]>;
  readonly ownSets: Iterable<readonly [string, string]>;
  /** Clients remembered by affinity sets of an earlier table. */
  readonly remembered?: ReadonlyMap<string, string>;
}

export const TABLE = "svc";

const PROTOCOLS = ["tcp", "udp", "sctp"] as const;

/** The whole table in one transaction, in place of what was there. */
export function renderTable(facts: TableFacts, content: TableContent): string {
  const ip = word(facts.family);
  const bySet = new Map<SetName, PlannedElement[]>();
  for (const one of content.elements) bySet.set(one.set, [...(bySet.get(one.set) ?? []), one]);
  const sets = Object.entries(setTypes(facts.family)).map(([name, type]) => {
    const elements = bySet.get(name as SetName) ?? [];
    return block(`${type.startsWith("map ") ? "map" : "set"} ${name}`, [
      type.replace(/^map /, ""),
      ...elementLines(elements.map((one) => (one.value === "" ? one.key : `${one.key} : ${one.value}`))),
    ]);
  });
  const own = [...content.ownSets].map(([name, body]) => {
    const remembered = content.remembered?.get(name);
    return block(`set ${name}`, [body, ...(remembered === undefined ? [] : [`elements = { ${remembered} }`])]);
  });
  const chains = [...withNeeded(content.sharedChains)].map((name) => block(`chain ${name}`, sharedChain(name, facts)));
  const ownChains = [...content.ownChains].map(([name, body]) => block(`chain ${name}`, [body]));
  const nodeSet = block("set node_ips", [`type ${addr(facts.family)}`, ...elementLines(facts.nodeAddresses)]);
  const podSet = block("set pod_cidrs", [
    `type ${addr(facts.family)}; flags interval`,
    ...elementLines(facts.podCidrs),
  ]);
  const serviceSet = block("set service_cidrs", [
    `type ${addr(facts.family)}; flags interval`,
    ...elementLines(facts.serviceCidrs),
  ]);
  // Chains name each other: all exist before the first is filled.
  const declared = [...withNeeded(content.sharedChains), ...[...content.ownChains].map(([name]) => name)].map(
    (name) => `chain ${name} {\n}`,
  );
  const table = [
    nodeSet,
    podSet,
    serviceSet,
    ...sets,
    ...own,
    ...declared,
    ...chains,
    ...ownChains,
    ...baseChains(facts),
  ].join("\n");
  return `add table ${ip} ${TABLE}\ndelete table ${ip} ${TABLE}\ntable ${ip} ${TABLE} {\n${table}\n}\n`;
}

/** Adds chains and sets to a table that stands, and fills chains anew. */
export function renderAdditions(
  facts: TableFacts,
  added: { sharedChains: string[]; ownChains: [string, string][]; ownSets: [string, string][] },
): string {
  const ip = word(facts.family);
  const shared = withNeeded(added.sharedChains);
  const lines = added.ownSets.map(([name, body]) => `add set ${ip} ${TABLE} ${name} { ${body} }`);
  for (const name of [...shared, ...added.ownChains.map(([own]) => own)])
    lines.push(`add chain ${ip} ${TABLE} ${name}`, `flush chain ${ip} ${TABLE} ${name}`);
  for (const name of shared)
    lines.push(...sharedChain(name, facts).map((rule) => `add rule ${ip} ${TABLE} ${name} ${rule}`));
  for (const [name, body] of added.ownChains)
    lines.push(
      ...body
        .split("\n")
        .filter((rule) => rule !== "")
        .map((rule) => `add rule ${ip} ${TABLE} ${name} ${rule}`),
    );
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

export function renderRemovals(family: 4 | 6, removed: { ownChains: string[]; ownSets: string[] }): string {
  const ip = word(family);
  return [
    ...removed.ownChains.map((name) => `flush chain ${ip} ${TABLE} ${name}`),
    ...removed.ownChains.map((name) => `delete chain ${ip} ${TABLE} ${name}`),
    ...removed.ownSets.map((name) => `delete set ${ip} ${TABLE} ${name}`),
  ].join("\n");
}

/** A chain by count and those it goes to. */
export function withNeeded(names: Iterable<string>): Set<string> {
  const all = new Set<string>();
  for (const name of names) for (const one of [...needs(name), name]) all.add(one);
  return all;
}

function needs(name: string): string[] {
  const [, kind = "", first = "", second] = /^([a-z]+)(\d+)(?:-(\d+))?$/.exec(name) ?? [];
  if (kind === "m") return [`d${first}`];
  if (kind === "np") return [`npu${first}`];
  if (second !== undefined && first !== "0")
    return kind === "xl" ? [`d${first}`, `m${first}`] : [`npu${first}`, `np${first}`];
  return [];
}

function sharedChain(name: string, facts: TableFacts): string[] {
  const ip = word(facts.family);
  const [, kind = "", first = "", second] = /^([a-z]+)(\d+)(?:-(\d+))?$/.exec(name) ?? [];
  const vip = (count: string, map: string): string[] =>
    PROTOCOLS.map(
      (protocol) =>
        `dnat ${ip} addr . port to ${ip} daddr . meta l4proto . th dport . numgen random mod ${count} map @${map}_${protocol}`,
    );
  const nodePort = (count: string, map: string): string[] =>
    PROTOCOLS.map(
      (protocol) =>
        `dnat ${ip} addr . port to meta l4proto . th dport . numgen random mod ${count} map @${map}_${protocol}`,
    );
  const mark = "meta mark set meta mark or 0x4000";
  switch (kind) {
    case "d":
      return vip(first, "vip_ep");
    case "m":
      return [mark, `goto d${first}`];
    case "npu":
      return nodePort(first, "np_ep");
    case "np":
      return [mark, `goto npu${first}`];
    case "xl":
    case "nl": {
      const [plain, masqueraded] = kind === "xl" ? ["d", "m"] : ["npu", "np"];
      const anywhere =
        first === "0"
          ? []
          : [`${ip} saddr @pod_cidrs goto ${plain}${first}`, `fib saddr type local goto ${masqueraded}${first}`];
      const here =
        second === undefined || second === "0"
          ? []
          : kind === "xl"
            ? vip(second, "vip_local")
            : nodePort(second, "np_local");
      return [...anywhere, ...here];
    }
    default:
      throw new TypeError(`Cannot render chain ${name}: no such kind of chain`);
  }
}

function baseChains({ family, podCidrs }: TableFacts): string[] {
  const ip = word(family);
  const offCluster =
    podCidrs.length === 0
      ? []
      : [
          `${ip} daddr @cluster_ips ${ip} saddr != @pod_cidrs fib saddr type != local meta mark set meta mark or 0x4000`,
        ];
  // Only a connection's first packet is judged; all others leave each filter chain at its first rule.
  const firstOnly = "ct state != new accept";
  const deadVips = `${ip} daddr . meta l4proto . th dport vmap @dead_vips`;
  const deadNodePorts = `${ip} daddr @node_ips meta l4proto . th dport vmap @dead_nps`;
  const unknown = [`${ip} daddr @cluster_ips goto rej`, `${ip} daddr @service_cidrs drop`];
  return [
    block("chain rej", ["meta l4proto tcp reject with tcp reset", "reject"]),
    block("chain dispatch", [
      ...offCluster,
      `${ip} daddr . meta l4proto . th dport vmap @services`,
      `${ip} daddr @node_ips fib daddr type local meta l4proto . th dport vmap @nodeports`,
    ]),
    block("chain pre", ["type nat hook prerouting priority -100; policy accept;", "jump dispatch"]),
    block("chain out", ["type nat hook output priority -100; policy accept;", "jump dispatch"]),
    block("chain do_masq", ["meta mark set meta mark and 0xffffbfff", "masquerade fully-random"]),
    block("chain post", [
      "type nat hook postrouting priority 100; policy accept;",
      "meta mark and 0x4000 != 0 jump do_masq",
      `ct status dnat ${ip} saddr . ${ip} daddr . meta l4proto . th dport @hairpin masquerade`,
    ]),
    // Source ranges are judged before the destination is translated.
    block("chain ranges", [
      "type filter hook prerouting priority -110; policy accept;",
      `ct state new ${ip} daddr . meta l4proto . th dport vmap @ranged`,
    ]),
    block("chain f_in", ["type filter hook input priority 0; policy accept;", firstOnly, deadVips, deadNodePorts]),
    block("chain f_fwd", ["type filter hook forward priority 0; policy accept;", firstOnly, deadVips, ...unknown]),
    block("chain f_out", [
      "type filter hook output priority 0; policy accept;",
      firstOnly,
      deadVips,
      deadNodePorts,
      ...unknown,
    ]),
  ];
}

/**
 * Sets and maps whose elements come from plans. A key with numgen in it needs `typeof`. Endpoints have a map a protocol: nft
 * 1.0.6 cannot add a rule to a table it has read back when the data says `th dport`, and `tcp dport` makes it match TCP only.
 */
function setTypes(family: 4 | 6): Record<SetName, string> {
  const a = addr(family);
  const ip = word(family);
  const byVip = `map type ${a} . inet_proto . inet_service : verdict`;
  const byPort = "map type inet_proto . inet_service : verdict";
  const endpoints = PROTOCOLS.flatMap((protocol) => {
    const byVipIndex = `map typeof ${ip} daddr . meta l4proto . th dport . numgen random mod 65536 : ${ip} daddr . ${protocol} dport`;
    const byPortIndex = `map typeof meta l4proto . th dport . numgen random mod 65536 : ${ip} daddr . ${protocol} dport`;
    return [
      [`vip_ep_${protocol}`, byVipIndex],
      [`vip_local_${protocol}`, byVipIndex],
      [`np_ep_${protocol}`, byPortIndex],
      [`np_local_${protocol}`, byPortIndex],
    ];
  });
  return {
    cluster_ips: `type ${a}`,
    hairpin: `type ${a} . ${a} . inet_proto . inet_service`,
    ...(Object.fromEntries(endpoints) as Record<EndpointMap, string>),
    services: byVip,
    nodeports: byPort,
    dead_vips: byVip,
    dead_nps: byPort,
    ranged: byVip,
  };
}

const word = (family: 4 | 6): "ip" | "ip6" => (family === 4 ? "ip" : "ip6");
const addr = (family: 4 | 6): string => (family === 4 ? "ipv4_addr" : "ipv6_addr");
const block = (head: string, lines: readonly string[]): string =>
  `${head} {\n${lines.filter((line) => line !== "").join("\n")}\n}`;
const elementLines = (elements: readonly string[]): string[] =>
  elements.length === 0 ? [] : [`elements = { ${elements.join(", ")} }`];
