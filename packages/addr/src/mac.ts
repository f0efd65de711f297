import { AddressError } from "./errors.ts";

const MAC = /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/;

export function isMac(text: string): boolean {
  return MAC.test(text);
}

/** Six bytes of 'aa:bb:cc:dd:ee:ff'; throws AddressError. */
export function parseMac(text: string): Uint8Array {
  if (!MAC.test(text)) throw new AddressError("a MAC address", text);
  return Uint8Array.from(text.split(":"), (octet) => Number.parseInt(octet, 16));
}

/** Lower case, colons. */
export function formatMac(bytes: Uint8Array): string {
  if (bytes.length !== 6) throw new AddressError("a MAC address (6 bytes)", `${bytes.length} bytes`);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** A random locally administered unicast address; `random` is called like Math.random. */
export function randomMac(random: () => number): string {
  const bytes = Uint8Array.from({ length: 6 }, () => Math.floor(random() * 256));
  bytes[0] = ((bytes[0] as number) & 0b11111100) | 0b00000010;
  return formatMac(bytes);
}
