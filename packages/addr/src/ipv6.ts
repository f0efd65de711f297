import { AddressError } from "./errors.ts";
import { findIpv4 } from "./ipv4.ts";

/** An IPv6 address as an unsigned 128-bit number. */
export type Ipv6 = bigint & { readonly brand: "ipv6" };

const GROUP = /^[0-9a-fA-F]{1,4}$/;

/** Reads RFC 4291 text, also with an IPv4 tail; zone ids are not addresses and are refused. */
export function findIpv6(text: string): Ipv6 | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = readGroups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? readGroups(halves[1] as string, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  let value = 0n;
  for (const group of [...head, ...Array.from({ length: missing }, () => 0), ...tail])
    value = (value << 16n) | BigInt(group);
  return value as Ipv6;
}

function readGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (GROUP.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const embedded = mayEndInIpv4 && index === parts.length - 1 ? findIpv4(part) : undefined;
    if (embedded === undefined) return undefined;
    groups.push(embedded >>> 16, embedded & 0xffff);
  }
  return groups;
}

/** Like findIpv6, but throws AddressError. */
export function parseIpv6(text: string): Ipv6 {
  const value = findIpv6(text);
  if (value === undefined) throw new AddressError("an IPv6 address", text);
  return value;
}

export function isIpv6(text: string): boolean {
  return findIpv6(text) !== undefined;
}

/** RFC 5952 text: lower case, the longest run of two or more zero groups (the first of equals) as `::`. */
export function formatIpv6(value: bigint): string {
  if (value < 0n || value >> 128n !== 0n) throw new AddressError("a 128-bit address", String(value));
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((value >> shift) & 0xffffn));
  if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff) {
    return `::ffff:${(groups[6] as number) >> 8}.${(groups[6] as number) & 255}.${(groups[7] as number) >> 8}.${(groups[7] as number) & 255}`;
  }
  const run = longestZeroRun(groups);
  const hex = groups.map((g) => g.toString(16));
  if (run === undefined) return hex.join(":");
  return `${hex.slice(0, run.start).join(":")}::${hex.slice(run.start + run.length).join(":")}`;
}

function longestZeroRun(groups: number[]): { start: number; length: number } | undefined {
  let best: { start: number; length: number } | undefined;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length >= 2 && length > (best?.length ?? 0)) best = { start, length };
  }
  return best;
}
