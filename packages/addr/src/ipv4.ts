import { AddressError } from "./errors.ts";

/** An IPv4 address as an unsigned 32-bit number. */
export type Ipv4 = number & { readonly brand: "ipv4" };

const OCTETS = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** Reads dotted-quad text; leading zeros are refused, since half the world reads them as octal. */
export function findIpv4(text: string): Ipv4 | undefined {
  const match = OCTETS.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (let i = 1; i <= 4; i++) {
    const octet = match[i] as string;
    if (octet.length > 1 && octet.startsWith("0")) return undefined;
    const number = Number(octet);
    if (number > 255) return undefined;
    value = value * 256 + number;
  }
  return value as Ipv4;
}

/** Like findIpv4, but throws AddressError. */
export function parseIpv4(text: string): Ipv4 {
  const value = findIpv4(text);
  if (value === undefined) throw new AddressError("an IPv4 address", text);
  return value;
}

export function isIpv4(text: string): boolean {
  return findIpv4(text) !== undefined;
}

/** Dotted-quad text of an unsigned 32-bit number. */
export function formatIpv4(value: number): string {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff)
    throw new AddressError("a 32-bit address", String(value));
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** The address `offset` places after `text`: addIpv4('10.0.0.0', 2) is '10.0.0.2'. */
export function addIpv4(text: string, offset: number): string {
  return formatIpv4(parseIpv4(text) + offset);
}
