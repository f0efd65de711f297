/**
 * Allowances over an address space as disjoint intervals: nft's concatenated interval sets refuse an element inside another
 * one, and a packet then finds its answer in one lookup however many policies there are.
 *
 * A sweep over the borders of all blocks: between two borders the same allowances hold, their port sets are united, and
 * neighbours with equal port sets are joined. `except` cuts its own block only.
 */
import { parseCidr } from "@underlay/addr/cidr";
import { formatIp, type Family } from "@underlay/addr/ip";
import { isWhole, portSetOf, unionOf, type PortEntry, type PortSet } from "./port-set.ts";

/** One entry of a PolicyEndpoint: a block or a bare address, holes in it, ports (none is all). */
export type Allowance = {
  readonly cidr: string;
  readonly except?: readonly string[] | undefined;
  readonly ports?: readonly PortEntry[] | undefined;
};

/** Addresses `start` to `end`, both included. */
export type Interval = { readonly start: bigint; readonly end: bigint; readonly ports: PortSet };

/** Disjoint and ascending. */
export type AddressSpace = { readonly family: Family; readonly intervals: readonly Interval[] };

type Span = { readonly start: bigint; readonly end: bigint };

export function addressSpace(family: Family, allowances: readonly Allowance[]): AddressSpace {
  const starts = new Map<bigint, PortSet[]>();
  const ends = new Map<bigint, PortSet[]>();
  const borders = new Set<bigint>();
  const interned = new Map<string, PortSet>();
  for (const allowance of allowances) {
    const block = spanOf(allowance.cidr);
    if (block.family !== family) continue;
    const parsed = portSetOf(allowance.ports);
    if (!parsed.any && parsed.ranges.length === 0) continue;
    const ports = interned.get(parsed.key) ?? parsed;
    interned.set(ports.key, ports);
    for (const span of without(block, allowance.except ?? [])) {
      append(starts, span.start, ports);
      append(ends, span.end + 1n, ports);
      borders.add(span.start).add(span.end + 1n);
    }
  }
  const intervals: { start: bigint; end: bigint; ports: PortSet }[] = [];
  const unions = new Map<string, PortSet>();
  const active = new Map<PortSet, number>();
  const sorted = [...borders].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  for (const [index, border] of sorted.entries()) {
    for (const ports of ends.get(border) ?? []) {
      const left = (active.get(ports) ?? 0) - 1;
      if (left === 0) active.delete(ports);
      else active.set(ports, left);
    }
    for (const ports of starts.get(border) ?? []) active.set(ports, (active.get(ports) ?? 0) + 1);
    const next = sorted[index + 1];
    if (active.size === 0 || next === undefined) continue;
    const here = united([...active.keys()], unions);
    const last = intervals.at(-1);
    if (last !== undefined && last.end + 1n === border && last.ports.key === here.key) last.end = next - 1n;
    else intervals.push({ start: border, end: next - 1n, ports: here });
  }
  return { family, intervals };
}

/** What may be talked about with this address, if anything. */
export function findPorts(space: AddressSpace, address: bigint): PortSet | undefined {
  let low = 0;
  let high = space.intervals.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const one = space.intervals[middle] as Interval;
    if (address < one.start) high = middle - 1;
    else if (address > one.end) low = middle + 1;
    else return one.ports;
  }
  return undefined;
}

/** Elements of the set `address . protocol` (whole protocols) and of `address . protocol . port`, as nft reads them. */
export function elementsOf(space: AddressSpace): { whole: string[]; ports: string[] } {
  const whole: string[] = [];
  const ports: string[] = [];
  for (const { start, end, ports: set } of space.intervals) {
    const address = textOf(space.family, start, end);
    if (set.any) {
      whole.push(`${address} . 0-255`);
      continue;
    }
    for (const { protocol, ranges } of set.ranges) {
      for (const range of ranges) {
        if (isWhole(range)) whole.push(`${address} . ${protocol}`);
        else
          ports.push(
            `${address} . ${protocol} . ${range.low === range.high ? range.low : `${range.low}-${range.high}`}`,
          );
      }
    }
  }
  return { whole, ports };
}

function textOf(family: Family, start: bigint, end: bigint): string {
  if (start === end) return formatIp(family, start);
  const size = end - start + 1n;
  const isBlock = (size & (size - 1n)) === 0n && start % size === 0n;
  if (!isBlock) return `${formatIp(family, start)}-${formatIp(family, end)}`;
  const bits = family === 4 ? 32 : 128;
  return `${formatIp(family, start)}/${bits - (size.toString(2).length - 1)}`;
}

/** Host bits are cleared (the API server stores them as given); a bare address is a block of one. */
function spanOf(text: string): Span & { family: Family } {
  const { family, base, prefixLength } = parseCidr(text);
  return { family, start: base, end: base + (1n << BigInt((family === 4 ? 32 : 128) - prefixLength)) - 1n };
}

function without(block: Span & { family: Family }, holes: readonly string[]): Span[] {
  let left: Span[] = [block];
  for (const text of holes) {
    const hole = spanOf(text);
    if (hole.family !== block.family) continue;
    left = left.flatMap((span) => {
      if (hole.end < span.start || hole.start > span.end) return [span];
      const parts: Span[] = [];
      if (span.start < hole.start) parts.push({ start: span.start, end: hole.start - 1n });
      if (span.end > hole.end) parts.push({ start: hole.end + 1n, end: span.end });
      return parts;
    });
  }
  return left;
}

function united(sets: readonly PortSet[], known: Map<string, PortSet>): PortSet {
  if (sets.length === 1) return sets[0] as PortSet;
  const signature = sets
    .map((one) => one.key)
    .sort()
    .join(" ");
  const union = known.get(signature) ?? unionOf(sets);
  known.set(signature, union);
  return union;
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
