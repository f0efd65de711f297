/**
 * The firewall text of the node: SNAT of what leaves the VPC, and the connection marks that send replies out of the
 * primary ENI. Pure: settings in, text out. `host-firewall.ts` compares it with what the kernel has and applies it.
 *
 * Names, comments and order are upstream's, so that either program recognises the other's rules.
 * Rules are written exactly as `iptables-save` prints them, which makes "is it there already?" a comparison of lines.
 */
import type { RandomizeSnat } from "./settings.ts";

export type FirewallInput = {
  readonly primaryLink: string;
  readonly primaryAddress: string;
  readonly vpcCidrs: readonly string[];
  readonly excludeCidrs: readonly string[];
  readonly externalSnat: boolean;
  readonly nodePortSupport: boolean;
  readonly randomizeSnat: RandomizeSnat;
  readonly connmark: number;
  readonly vethPrefix: string;
};

export type FirewallRules = {
  /** Bodies of our own chains in `nat`. */
  readonly natChains: ReadonlyMap<string, readonly string[]>;
  /** Our rules in the built-in chains, each with its chain: `-A POSTROUTING …`. */
  readonly nat: readonly string[];
  readonly mangle: readonly string[];
  /** The text of `table ip aws-cni`, or undefined when it must not exist. */
  readonly nft: string | undefined;
};

export const snatChain = "AWS-SNAT-CHAIN-0";
export const connmarkTable = "table ip aws-cni";

/** What the kernel should hold. An empty CIDR list is an error: it would SNAT the VPC's own traffic. */
export function planFirewall(input: FirewallInput): FirewallRules {
  if (input.vpcCidrs.length === 0) throw new Error("Cannot plan SNAT: the VPC has no IPv4 CIDR");
  const natChains = new Map<string, readonly string[]>();
  if (!input.externalSnat) natChains.set(snatChain, snatChainRules(input));
  return {
    natChains,
    nat: input.externalSnat ? [] : [`-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j ${snatChain}`],
    mangle: mangleRules(input),
    nft: input.externalSnat ? undefined : connmarkTableText(input),
  };
}

function snatChainRules(input: FirewallInput): readonly string[] {
  const returns = (cidrs: readonly string[], comment: string) =>
    cidrs.map((cidr) => {
      const match = cidr === "0.0.0.0/0" ? "" : `-d ${cidr} `;
      return `-A ${snatChain} ${match}-m comment --comment "${comment}" -j RETURN`;
    });
  const random = { prng: " --random-fully", hashrandom: " --random", none: "" }[input.randomizeSnat];
  return [
    ...returns(input.vpcCidrs, "AWS SNAT CHAIN"),
    ...returns(input.excludeCidrs, "AWS SNAT CHAIN EXCLUSION"),
    `-A ${snatChain} ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source ${input.primaryAddress}${random}`,
  ];
}

function mangleRules(input: FirewallInput): readonly string[] {
  const mark = `0x${input.connmark.toString(16)}`;
  const comment = `-m comment --comment "AWS, primary ENI"`;
  const restore = (link: string) =>
    `-A PREROUTING -i ${link} ${comment} -j CONNMARK --restore-mark --nfmask ${mark} --ctmask ${mark}`;
  const rules: string[] = [];
  if (input.nodePortSupport) {
    rules.push(
      `-A PREROUTING -i ${input.primaryLink} ${comment} -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark ${mark}/${mark}`,
    );
  }
  if (input.nodePortSupport || !input.externalSnat) rules.push(restore(`${input.vethPrefix}+`));
  if (input.nodePortSupport) rules.push(restore("vlan+"));
  return rules;
}

/**
 * `table ip aws-cni`: marks the first packet of a pod's connection that will leave the VPC. Priority -90 is after
 * kube-proxy's DNAT, so a service address is judged by its real destination. The packet mark is set with `or`: a plain
 * copy of the conntrack mark would erase kube-proxy's 0x4000.
 */
function connmarkTableText(input: FirewallInput): string {
  const mark = `0x${input.connmark.toString(16).padStart(8, "0")}`;
  const returns = [...input.vpcCidrs, ...input.excludeCidrs].map((cidr) =>
    cidr === "0.0.0.0/0" ? "\t\treturn" : `\t\tip daddr ${cidr} return`,
  );
  return [
    `${connmarkTable} {`,
    "\tchain nat-prerouting {",
    "\t\ttype nat hook prerouting priority -90; policy accept;",
    "\t\tfib daddr type local return",
    `\t\tiifname "${input.vethPrefix}*" jump snat-mark`,
    `\t\tct mark & ${mark} == ${mark} meta mark set meta mark | ${mark}`,
    "\t}",
    "",
    "\tchain snat-mark {",
    ...returns,
    `\t\tct mark set ct mark | ${mark}`,
    "\t}",
    "}",
    "",
  ].join("\n");
}

const ourComments = ["AWS SNAT CHAIN", "AWS, primary ENI", "AWS, outbound connections", "AWS, CONNMARK"];

/**
 * The `iptables-restore --noflush` input that turns `saved` (one table of `iptables-save`) into the desired rules;
 * empty when nothing differs. Rules of others are never touched.
 */
export function diffIptablesTable(
  table: "nat" | "mangle",
  saved: string,
  desired: { chains: ReadonlyMap<string, readonly string[]>; rules: readonly string[] },
): string {
  const lines = saved.split("\n");
  const rulesOf = (chain: string) => lines.filter((line) => line.startsWith(`-A ${chain} `)).map(canonicalRule);
  const ourChains = lines.flatMap((line) => /^:(AWS-(?:SNAT|CONNMARK)-CHAIN-\d+) /.exec(line)?.[1] ?? []);
  const leftover = table === "nat" ? ourChains.filter((chain) => !desired.chains.has(chain)) : [];
  const builtIn = lines.filter((line) => /^-A (PREROUTING|POSTROUTING) /.test(line) && isOurs(line)).map(canonicalRule);
  const wanted = desired.rules.map(canonicalRule);

  const out: string[] = [];
  for (const [chain, rules] of desired.chains) {
    if (ourChains.includes(chain) && sameLines(rulesOf(chain), rules.map(canonicalRule))) continue;
    // Naming the chain empties it (also with --noflush), so that its rules are replaced as one.
    out.push(`:${chain} - [0:0]`, ...rules);
  }
  if (!sameLines(builtIn, wanted)) {
    out.push(...builtIn.map((rule) => rule.replace(/^-A/, "-D")), ...desired.rules);
  }
  out.push(...leftover.map((chain) => `-F ${chain}`), ...leftover.map((chain) => `-X ${chain}`));
  if (out.length === 0) return "";
  const declared = out.filter((line) => line.startsWith(":"));
  return [`*${table}`, ...declared, ...out.filter((line) => !line.startsWith(":")), "COMMIT", ""].join("\n");
}

function isOurs(line: string): boolean {
  return (
    ourComments.some((comment) => line.includes(`--comment "${comment}`)) || /-j AWS-(SNAT|CONNMARK)-CHAIN-/.test(line)
  );
}

/** iptables versions print a bare address with or without /32 and marks with or without leading zeros. */
function canonicalRule(line: string): string {
  return line.trim().replace(/(-d \d+\.\d+\.\d+\.\d+)(?= )/g, "$1/32");
}

function sameLines(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((line, index) => line === b[index]);
}
