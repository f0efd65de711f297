/**
 * What PolicyEndpoints mean for one packet: the contract at the head of policy-endpoint.ts as a function, slow and plain. Agents
 * are held against it, and the compiler is, through it, against semantics/.
 */
import { contains } from "@underlay/addr/cidr";
import {
  policyKeyOf,
  variantOf,
  type Direction,
  type PolicyEndpoint,
  type PolicyEndpointEntry,
} from "./policy-endpoint.ts";

/** A packet that opens a flow, with the destination it has after translation. `port` is absent for protocols without ports. */
export type PacketFacts = { source: string; destination: string; protocol: string; port?: number };
export type EntryVerdict =
  | { verdict: "open" }
  | { verdict: "allow"; policy: string; entry: PolicyEndpointEntry }
  | { verdict: "deny"; policies: string[] };

/** One direction, for the pod that has `address` as its own: the packet's destination for Ingress, its source for Egress. */
export function evaluate(objects: readonly PolicyEndpoint[], direction: Direction, packet: PacketFacts): EntryVerdict {
  const [own, peer] =
    direction === "Ingress" ? [packet.destination, packet.source] : [packet.source, packet.destination];
  const isolating: string[] = [];
  for (const set of Map.groupBy(objects, (object) => `${policyKeyOf(object)} ${variantOf(object)}`).values()) {
    const listing = set.filter(({ spec }) => spec.podSelectorEndpoints?.some(({ podIP }) => podIP === own));
    if (!listing.some(({ spec }) => spec.podIsolation?.includes(direction))) continue;
    const policy = policyKeyOf(set[0]!);
    isolating.push(policy);
    for (const { spec } of set) {
      const entries = (direction === "Ingress" ? spec.ingress : spec.egress) ?? [];
      const entry = entries.find((one) => matches(one, peer, packet));
      if (entry) return { verdict: "allow", policy, entry };
    }
  }
  return isolating.length > 0 ? { verdict: "deny", policies: isolating } : { verdict: "open" };
}

function matches({ cidr, except = [], ports = [] }: PolicyEndpointEntry, peer: string, packet: PacketFacts): boolean {
  if (cidr === undefined || !contains(cidr, peer) || except.some((hole) => contains(hole, peer))) return false;
  if (ports.length === 0) return true;
  return ports.some(({ protocol, port, endPort = port }) => {
    if (protocol !== undefined && protocol !== packet.protocol) return false;
    if (port === undefined || endPort === undefined) return true;
    return packet.port !== undefined && port <= packet.port && packet.port <= endPort;
  });
}
