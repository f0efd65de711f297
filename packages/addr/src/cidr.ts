/**
 * CIDR blocks of either family. A Cidr is its base (host bits zero) and prefix length; every function also takes text,
 * so callers that hold strings need not parse first.
 */
import { AddressError } from "./errors.ts";
import { findIp, formatIp, parseIp, type Family } from "./ip.ts";
import { formatIpv4 } from "./ipv4.ts";

export interface Cidr {
  readonly family: Family;
  readonly base: bigint;
  readonly prefixLength: number;
}

const widthOf = (family: Family): number => (family === 4 ? 32 : 128);

/** Reads 'address/length'; host bits are cleared, as EC2 does; a bare address is a /32 or /128. */
export function parseCidr(text: string): Cidr {
  const { family, value, prefixLength } = readCidr(text);
  const hostBits = BigInt(widthOf(family) - prefixLength);
  return { family, base: (value >> hostBits) << hostBits, prefixLength };
}

/** Like parseCidr, but text with host bits set or without a length is refused. */
export function parseCanonicalCidr(text: string): Cidr {
  const cidr = parseCidr(text);
  if (!text.includes("/") || readCidr(text).value !== cidr.base)
    throw new AddressError("a CIDR block without host bits", text);
  return cidr;
}

function readCidr(text: string): { family: Family; value: bigint; prefixLength: number } {
  const slash = text.indexOf("/");
  const found = findIp(slash < 0 ? text : text.slice(0, slash));
  if (found === undefined) throw new AddressError("a CIDR block", text);
  const width = widthOf(found.family);
  if (slash < 0) return { ...found, prefixLength: width };
  const length = text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(length) || Number(length) > width) throw new AddressError("a CIDR block", text);
  return { ...found, prefixLength: Number(length) };
}

/** True for 'address/length' text; false for a bare address. */
export function isCidr(text: string): boolean {
  if (!text.includes("/")) return false;
  try {
    readCidr(text);
    return true;
  } catch (error) {
    if (error instanceof AddressError) return false;
    throw error;
  }
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.family, cidr.base)}/${cidr.prefixLength}`;
}

/** '10.0.0.9/24' → '10.0.0.0/24'. */
export function canonicalCidr(text: string): string {
  return formatCidr(parseCidr(text));
}

const toCidr = (cidr: Cidr | string): Cidr => (typeof cidr === "string" ? parseCidr(cidr) : cidr);

/** The number of addresses in a block. */
export function sizeOf(cidr: Cidr | string): bigint {
  const { family, prefixLength } = toCidr(cidr);
  return 1n << BigInt(widthOf(family) - prefixLength);
}

export function contains(cidr: Cidr | string, address: string): boolean {
  const block = toCidr(cidr);
  const { family, value } = parseIp(address);
  return family === block.family && value >= block.base && value < block.base + sizeOf(block);
}

/** Every address of `inner` is in `outer`. */
export function covers(outer: Cidr | string, inner: Cidr | string): boolean {
  const big = toCidr(outer);
  const small = toCidr(inner);
  return (
    big.family === small.family &&
    big.prefixLength <= small.prefixLength &&
    small.base >= big.base &&
    small.base < big.base + sizeOf(big)
  );
}

export function overlaps(a: Cidr | string, b: Cidr | string): boolean {
  return covers(a, b) || covers(b, a);
}

export function firstAddress(cidr: Cidr | string): string {
  const { family, base } = toCidr(cidr);
  return formatIp(family, base);
}

export function lastAddress(cidr: Cidr | string): string {
  const block = toCidr(cidr);
  return formatIp(block.family, block.base + sizeOf(block) - 1n);
}

/** The address `n` places after the base; throws when that is outside the block. */
export function nthAddress(cidr: Cidr | string, n: number | bigint): string {
  const block = toCidr(cidr);
  const offset = BigInt(n);
  if (offset < 0n || offset >= sizeOf(block)) throw new AddressError(`address ${offset} of a block`, formatCidr(block));
  return formatIp(block.family, block.base + offset);
}

/** All blocks of a longer prefix inside a block, lowest first. */
export function* subnetsOf(cidr: Cidr | string, prefixLength: number): Generator<string> {
  const block = toCidr(cidr);
  const width = widthOf(block.family);
  if (prefixLength < block.prefixLength || prefixLength > width) {
    throw new AddressError(`a block that holds /${prefixLength} blocks`, formatCidr(block));
  }
  const step = 1n << BigInt(width - prefixLength);
  const end = block.base + sizeOf(block);
  for (let base = block.base; base < end; base += step) yield formatCidr({ family: block.family, base, prefixLength });
}

/** '255.255.255.0' for an IPv4 /24. */
export function netmaskOf(cidr: Cidr | string): string {
  const { family, prefixLength } = toCidr(cidr);
  if (family !== 4) throw new AddressError("an IPv4 block", typeof cidr === "string" ? cidr : formatCidr(cidr));
  return formatIpv4(2 ** 32 - 2 ** (32 - prefixLength));
}
