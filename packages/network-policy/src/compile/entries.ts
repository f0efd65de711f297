/** Lists of entries in their one form: equal blocks merged, ports united, everything sorted. */
import { familyOf, parseIp } from "@underlay/addr/ip";
import type { PodEndpoint, PolicyEndpointEntry, PolicyEndpointPort } from "../api/policy-endpoint.ts";

/** What makes two entries one: the block and its holes. */
export function entryKey({ cidr = "", except = [], domainName = "" }: PolicyEndpointEntry): string {
  return `${domainName}|${cidr}|${[...except].sort().join(",")}`;
}

export function subjectKey({ namespace, name, podIP, hostIP }: PodEndpoint): string {
  return `${namespace}/${name}/${podIP}/${hostIP}`;
}

/**
 * One entry for each block with its holes, its ports united; an entry for all ports swallows the others. Blocks are never merged
 * with different holes: a hole belongs to its own block only.
 */
export function mergedEntries(entries: readonly PolicyEndpointEntry[]): PolicyEndpointEntry[] {
  const byKey = new Map<string, PolicyEndpointEntry>();
  for (const entry of entries) {
    const key = entryKey(entry);
    const known = byKey.get(key);
    const ports =
      known && (known.ports === undefined || entry.ports === undefined || entry.ports.length === 0)
        ? undefined
        : unitedPorts([...(known?.ports ?? []), ...(entry.ports ?? [])]);
    const { ports: _, except, ...block } = entry;
    byKey.set(key, {
      ...block,
      ...(except && except.length > 0 ? { except: [...except].sort() } : {}),
      ...(ports && ports.length > 0 ? { ports } : {}),
    });
  }
  return sortedByKey([...byKey.values()], (entry) => `${blockOrder(entry.cidr ?? "")}|${entryKey(entry)}`);
}

export function sortedSubjects(subjects: readonly PodEndpoint[]): PodEndpoint[] {
  return sortedByKey(subjects, subjectKey);
}

/** Sorted, without repeats, and without what a whole protocol already covers. */
function unitedPorts(ports: readonly PolicyEndpointPort[]): PolicyEndpointPort[] {
  const whole = new Set(ports.filter(({ port }) => port === undefined).map(({ protocol }) => protocol));
  const byKey = new Map<string, PolicyEndpointPort>();
  for (const port of ports) {
    if (port.port !== undefined && whole.has(port.protocol)) continue;
    const single = port.endPort === undefined || port.endPort === port.port;
    byKey.set(portKey(port), single ? without(port) : port);
  }
  return sortedByKey([...byKey.values()], portKey);
}

function without({ protocol, port }: PolicyEndpointPort): PolicyEndpointPort {
  return { ...(protocol === undefined ? {} : { protocol }), ...(port === undefined ? {} : { port }) };
}

function portKey({ protocol = "", port = 0, endPort = port }: PolicyEndpointPort): string {
  return `${protocol} ${String(port).padStart(5, "0")} ${String(endPort).padStart(5, "0")}`;
}

/** Text that sorts blocks by family and number, then the wider first. */
function blockOrder(cidr: string): string {
  const [address = "", length] = cidr.split("/");
  const family = familyOf(address);
  if (family === undefined) return `9${cidr}`;
  const value = parseIp(address).value.toString(16).padStart(32, "0");
  return `${family}${value}/${(length ?? (family === 4 ? "32" : "128")).padStart(3, "0")}`;
}

function sortedByKey<T>(items: readonly T[], key: (item: T) => string): T[] {
  return items
    .map((item) => ({ item, key: key(item) }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ item }) => item);
}
