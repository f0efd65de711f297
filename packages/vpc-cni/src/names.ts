/** Names of links and keys: the contract that lets a restarted ipamd recognise what it made before. */
import { createHash } from "node:crypto";

/** First 11 hex digits of SHA-1 of `namespace.name` (interface 0) or `namespace.name.i`. */
export function podSuffix(namespace: string, name: string, interfaceIndex = 0): string {
  const hashed = interfaceIndex === 0 ? `${namespace}.${name}` : `${namespace}.${name}.${interfaceIndex}`;
  return createHash("sha1").update(hashed).digest("hex").slice(0, 11);
}

/** `eni` + 11 hex digits: 14 or 15 characters, a link name's limit. */
export function hostVethName(prefix: string, namespace: string, name: string): string {
  return prefix + podSuffix(namespace, name);
}

/** Route table of a non-primary ENI on network card 0; the primary's pods use main. */
export function routeTableOf(deviceNumber: number): number {
  return deviceNumber === 0 ? mainTable : deviceNumber + 1;
}

export const mainTable = 254;
