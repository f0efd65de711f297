/** Names of links and keys: the contract that lets a restarted ipamd recognise what it made before. */
import { createHash } from "node:crypto";
import { randomMac } from "@underlay/addr/mac";

/** First 11 hex digits of SHA-1 of `namespace.name` (interface 0) or `namespace.name.i`. */
export function podSuffix(namespace: string, name: string, interfaceIndex = 0): string {
  const hashed = interfaceIndex === 0 ? `${namespace}.${name}` : `${namespace}.${name}.${interfaceIndex}`;
  return createHash("sha1").update(hashed).digest("hex").slice(0, 11);
}

/** `eni` + 11 hex digits: 14 or 15 characters, a link name's limit. */
export function hostVethName(prefix: string, namespace: string, name: string): string {
  return prefix + podSuffix(namespace, name);
}

/** A random, locally administered, unicast MAC that no link of the host has (ten tries, as upstream). */
export function pickHostVethMac(taken: ReadonlySet<string>, random: () => number = Math.random): string {
  let mac = randomMac(random);
  for (let attempt = 0; taken.has(mac) && attempt < 10; attempt++) mac = randomMac(random);
  return mac;
}

/** Route table of a non-primary ENI on network card 0; the primary's pods use main. */
export function routeTableOf(deviceNumber: number): number {
  return deviceNumber === 0 ? mainTable : deviceNumber + 1;
}

export const mainTable = 254;
