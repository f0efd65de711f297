/**
 * A node's plan as nft text: the whole table, or the difference between two plans as one transaction. Pure.
 *
 *   forward:  established, related → on          (a verdict is for a connection's first packet)
 *             to itself through a Service → on
 *             TCP of an isolated pod that is not a SYN → dropped   (else a cut connection comes back the other way round)
 *             iifname vmap @egress  → the profile's chain: allowed → return, else drop
 *             oifname vmap @ingress → likewise
 *
 * The key is the pod's host veth: no packet can lie about it, it exists before an address is known, and it serves both families.
 * The forward hook sees destinations after a Service's translation and sources before masquerading; what the node itself
 * sends or receives (probes, host network) never passes it.
 */
import type { Direction } from "../api/policy-endpoint.ts";
import { elementsOf } from "./address-space.ts";
import type { NodePlan, PodPlan, Profile } from "./plan.ts";

export const TABLE = "aws_network_policy";

export type RulesetOptions = {
  /** nflog group that gets the first packets judged for isolated pods; none: nothing is logged. */
  readonly logGroup?: number | undefined;
  /** Log what is allowed as well. */
  readonly logAccepted?: boolean | undefined;
};

/** Prefix of a logged packet: verdict, direction. */
export const logPrefix = (verdict: "ACCEPT" | "DENY", direction: Direction): string =>
  `np ${verdict} ${direction.toLowerCase()} `;

/** The table from nothing, replacing what is there in one step. */
export function wholeTable(plan: NodePlan, options: RulesetOptions): string {
  const sets = [...plan.profiles.values()].flatMap((profile) => setsOf(profile).map((set) => defineSet(set)));
  const chains = [...plan.profiles.values()].map(
    (profile) => `chain ${profile.id} {\n${chainBody(profile, options)}\n}`,
  );
  return `table inet ${TABLE} {}
delete table inet ${TABLE}
table inet ${TABLE} {
map egress { type ifname : verdict; ${initial(verdicts(plan, "Egress"))} }
map ingress { type ifname : verdict; ${initial(verdicts(plan, "Ingress"))} }
set self { type ifname . ifname; ${initial([...plan.pods.keys()].map((veth) => `"${veth}" . "${veth}"`))} }
set isolated { type ifname; ${initial([...plan.pods.keys()].map((veth) => `"${veth}"`))} }
${sets.join("\n")}
${chains.join("\n")}
chain midstream {
tcp flags & (fin | syn | rst | ack) != syn counter drop
}
chain forward {
type filter hook forward priority filter; policy accept;
ct state established,related accept
iifname . oifname @self accept
meta l4proto ipv6-icmp icmpv6 type { 133, 134, 135, 136, 137 } accept
meta l4proto tcp iifname @isolated jump midstream
meta l4proto tcp oifname @isolated jump midstream
iifname vmap @egress
oifname vmap @ingress
}
}
`;
}

export function dropTable(): string {
  return `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`;
}

/** What turns `from` into `to`; "" when there is nothing to do. */
export function difference(from: NodePlan, to: NodePlan, options: RulesetOptions): string {
  const lines: string[] = [];
  for (const profile of to.profiles.values()) {
    const before = from.profiles.get(profile.id);
    if (before === undefined) lines.push(...defineProfile(profile, options));
    else if (before !== profile) lines.push(...changeProfile(before, profile));
  }
  lines.push(...changeElements("egress", verdicts(from, "Egress"), verdicts(to, "Egress")));
  lines.push(...changeElements("ingress", verdicts(from, "Ingress"), verdicts(to, "Ingress")));
  const veths = (plan: NodePlan): string[] => [...plan.pods.keys()];
  const pair = (veth: string): string => `"${veth}" . "${veth}"`;
  lines.push(...changeElements("self", veths(from).map(pair), veths(to).map(pair)));
  lines.push(
    ...changeElements(
      "isolated",
      veths(from).map((veth) => `"${veth}"`),
      veths(to).map((veth) => `"${veth}"`),
    ),
  );
  const gone = [...from.profiles.values()].filter(({ id }) => !to.profiles.has(id));
  for (const { id } of gone) lines.push(`flush chain inet ${TABLE} ${id}`, `delete chain inet ${TABLE} ${id}`);
  for (const profile of gone) for (const { name } of setsOf(profile)) lines.push(`delete set inet ${TABLE} ${name}`);
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

type NamedSet = { readonly name: string; readonly type: string; readonly elements: readonly string[] };

function setsOf({ id, space4, space6 }: Profile): NamedSet[] {
  const four = elementsOf(space4);
  const six = elementsOf(space6);
  return [
    { name: `${id}_whole4`, type: "ipv4_addr . inet_proto", elements: four.whole },
    { name: `${id}_ports4`, type: "ipv4_addr . inet_proto . inet_service", elements: four.ports },
    { name: `${id}_whole6`, type: "ipv6_addr . inet_proto", elements: six.whole },
    { name: `${id}_ports6`, type: "ipv6_addr . inet_proto . inet_service", elements: six.ports },
  ];
}

function defineSet({ name, type, elements }: NamedSet): string {
  return `set ${name} { type ${type}; flags interval; ${initial(elements)} }`;
}

function defineProfile(profile: Profile, options: RulesetOptions): string[] {
  const lines = setsOf(profile).map((set) => `add set inet ${TABLE} ${set.name} { type ${set.type}; flags interval; }`);
  for (const { name, elements } of setsOf(profile)) lines.push(...changeElements(name, [], elements));
  lines.push(`add chain inet ${TABLE} ${profile.id}`);
  for (const rule of chainBody(profile, options).split("\n"))
    lines.push(`add rule inet ${TABLE} ${profile.id} ${rule}`);
  return lines;
}

/** Rules follow from the direction alone; only elements change. */
function changeProfile(before: Profile, after: Profile): string[] {
  const old = setsOf(before);
  return setsOf(after).flatMap(({ name, elements }, index) =>
    changeElements(name, old[index]?.elements ?? [], elements),
  );
}

function chainBody({ id, direction }: Profile, { logGroup, logAccepted }: RulesetOptions): string {
  const peer = direction === "Ingress" ? "saddr" : "daddr";
  const log = (verdict: "ACCEPT" | "DENY"): string =>
    logGroup === undefined ? "" : `log prefix "${logPrefix(verdict, direction)}" group ${logGroup} `;
  const allowed = `${logAccepted ? log("ACCEPT") : ""}return`;
  return [
    `ip ${peer} . meta l4proto @${id}_whole4 ${allowed}`,
    `ip ${peer} . meta l4proto . th dport @${id}_ports4 ${allowed}`,
    `ip6 ${peer} . meta l4proto @${id}_whole6 ${allowed}`,
    `ip6 ${peer} . meta l4proto . th dport @${id}_ports6 ${allowed}`,
    `counter ${log("DENY")}drop`,
  ].join("\n");
}

function verdicts(plan: NodePlan, direction: Direction): string[] {
  const found: string[] = [];
  for (const [veth, pod] of plan.pods) {
    const profile = profileOf(pod, direction);
    if (profile !== undefined) found.push(`"${veth}" : jump ${profile.id}`);
  }
  return found;
}

export function profileOf(pod: PodPlan | undefined, direction: Direction): Profile | undefined {
  return direction === "Ingress" ? pod?.ingress : pod?.egress;
}

function initial(elements: readonly string[]): string {
  return elements.length === 0 ? "" : `elements = { ${elements.join(", ")} };`;
}

/** Deletions first: what replaces an element may overlap it. */
function changeElements(name: string, from: readonly string[], to: readonly string[]): string[] {
  const before = new Set(from);
  const after = new Set(to);
  const gone = from.filter((element) => !after.has(element));
  const come = to.filter((element) => !before.has(element));
  const lines: string[] = [];
  if (gone.length > 0) lines.push(`delete element inet ${TABLE} ${name} { ${gone.join(", ")} }`);
  if (come.length > 0) lines.push(`add element inet ${TABLE} ${name} { ${come.join(", ")} }`);
  return lines;
}
