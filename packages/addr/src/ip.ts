import { AddressError } from "./errors.ts";
import { findIpv4, formatIpv4 } from "./ipv4.ts";
import { findIpv6, formatIpv6 } from "./ipv6.ts";

export { AddressError };

export type Family = 4 | 6;

/** The number behind an address of either family. */
export function findIp(text: string): { family: Family; value: bigint } | undefined {
  const v4 = findIpv4(text);
  if (v4 !== undefined) return { family: 4, value: BigInt(v4) };
  const v6 = findIpv6(text);
  return v6 === undefined ? undefined : { family: 6, value: v6 };
}

/** Like findIp, but throws AddressError. */
export function parseIp(text: string): { family: Family; value: bigint } {
  const found = findIp(text);
  if (found === undefined) throw new AddressError("an IP address", text);
  return found;
}

/** Canonical text of a number in a family. */
export function formatIp(family: Family, value: bigint): string {
  return family === 4 ? formatIpv4(Number(value)) : formatIpv6(value);
}

export function familyOf(text: string): Family | undefined {
  return findIp(text)?.family;
}

export function isIp(text: string): boolean {
  return findIp(text) !== undefined;
}

/** The one spelling of an address ('FD00:0::1' → 'fd00::1'). */
export function canonicalIp(text: string): string {
  const { family, value } = parseIp(text);
  return formatIp(family, value);
}

/** Network byte order, 4 or 16 bytes. */
export function ipToBytes(text: string): Uint8Array {
  const v4 = findIpv4(text);
  if (v4 !== undefined) return Uint8Array.of(v4 >>> 24, (v4 >>> 16) & 255, (v4 >>> 8) & 255, v4 & 255);
  const { value } = parseIp(text);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, value >> 64n);
  view.setBigUint64(8, value & 0xffffffffffffffffn);
  return bytes;
}

/** Text of 4 or 16 bytes in network byte order. */
export function ipFromBytes(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return formatIpv4(view.getUint32(0));
  if (bytes.length === 16) return formatIpv6((view.getBigUint64(0) << 64n) | view.getBigUint64(8));
  throw new AddressError("address bytes (4 or 16)", `${bytes.length} bytes`);
}

/** Numeric order, IPv4 before IPv6; for Array.sort. */
export function compareIps(a: string, b: string): number {
  const left = parseIp(a);
  const right = parseIp(b);
  if (left.family !== right.family) return left.family - right.family;
  return left.value < right.value ? -1 : left.value > right.value ? 1 : 0;
}
