/** Sets of (IP protocol, port): what one address may be talked to about. Merged, canonical, comparable by their key. */

/** A PolicyEndpoint's port entry: no port is every port of the protocol, no protocol is TCP only when a port is named. */
export type PortEntry = {
  readonly protocol?: string | undefined;
  readonly port?: number | undefined;
  readonly endPort?: number | undefined;
};

export type PortRange = { readonly low: number; readonly high: number };

export type PortSet = {
  /** Every protocol, ICMP among them. */
  readonly any: boolean;
  /** By IP protocol number, ascending; ranges ascending, neither touching nor overlapping. Empty when `any`. */
  readonly ranges: readonly { readonly protocol: number; readonly ranges: readonly PortRange[] }[];
  /** Equal keys, equal sets. */
  readonly key: string;
};

const protocolNumbers: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const lastPort = 65535;

export const everything: PortSet = { any: true, ranges: [], key: "any" };

/** No entries is everything, as the API has it. An entry of an unknown protocol allows nothing. */
export function portSetOf(entries: readonly PortEntry[] | undefined): PortSet {
  if (entries === undefined || entries.length === 0) return everything;
  const found = new Map<number, PortRange[]>();
  for (const { protocol, port, endPort } of entries) {
    // Upstream's agent writes no protocol and no port for "all".
    if (protocol === undefined && port === undefined) return everything;
    const number = protocolNumbers[(protocol ?? "TCP").toUpperCase()];
    if (number === undefined) continue;
    const range = port === undefined || port === 0 ? { low: 0, high: lastPort } : { low: port, high: endPort ?? port };
    found.set(number, [...(found.get(number) ?? []), range]);
  }
  return build(found);
}

export function unionOf(sets: readonly PortSet[]): PortSet {
  if (sets.length === 1) return sets[0] as PortSet;
  if (sets.some((one) => one.any)) return everything;
  const found = new Map<number, PortRange[]>();
  for (const { ranges } of sets) {
    for (const one of ranges) found.set(one.protocol, [...(found.get(one.protocol) ?? []), ...one.ranges]);
  }
  return build(found);
}

/** `port` is ignored for a protocol that has none: only a set with the whole protocol admits it. */
export function allows(set: PortSet, protocol: number, port: number | undefined): boolean {
  if (set.any) return true;
  const ranges = set.ranges.find((one) => one.protocol === protocol)?.ranges ?? [];
  return ranges.some(({ low, high }) => (port === undefined ? isWhole({ low, high }) : low <= port && port <= high));
}

export function isWhole(range: PortRange): boolean {
  return range.low === 0 && range.high === lastPort;
}

function build(found: ReadonlyMap<number, readonly PortRange[]>): PortSet {
  const ranges = [...found]
    .toSorted(([a], [b]) => a - b)
    .map(([protocol, list]) => ({ protocol, ranges: merge(list) }));
  const key = ranges
    .map((one) => `${one.protocol}:${one.ranges.map(({ low, high }) => `${low}-${high}`).join(",")}`)
    .join("|");
  return { any: false, ranges, key };
}

function merge(list: readonly PortRange[]): PortRange[] {
  const merged: { low: number; high: number }[] = [];
  for (const { low, high } of list.toSorted((a, b) => a.low - b.low)) {
    const last = merged.at(-1);
    if (last !== undefined && low <= last.high + 1) last.high = Math.max(last.high, high);
    else merged.push({ low, high });
  }
  return merged;
}
