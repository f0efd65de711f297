/** Cuts the lists of one set into objects of at most so many entries a list, disturbing the objects that already exist as little as possible. */
import type { PodEndpoint, PolicyEndpoint, PolicyEndpointEntry, PolicyEndpointSpec } from "../api/policy-endpoint.ts";
import type { CompiledSet } from "./compile.ts";
import { entryKey, subjectKey } from "./entries.ts";

/** What one object should say; without `object` it is to be created. */
export type DesiredObject = { readonly object?: PolicyEndpoint; readonly spec: PolicyEndpointSpec };
export type Chunks = { readonly desired: DesiredObject[]; readonly unused: PolicyEndpoint[] };

/**
 * Each list is spread by itself: entries stay in the object that holds them, new ones fill spare room, first of objects still in use,
 * then of those that would be deleted; what is left goes to new objects. At least one object always remains.
 */
export function chunksOf(set: CompiledSet, existing: readonly PolicyEndpoint[], chunkSize: number): Chunks {
  const slots: Slot[] = existing
    .toSorted((a, b) => compare(a.metadata.name ?? "", b.metadata.name ?? ""))
    .map((object) => ({ object, subjects: [], ingress: [], egress: [] }));
  const rest = {
    subjects: keep(set.subjects, subjectKey, slots, "podSelectorEndpoints", "subjects", chunkSize),
    ingress: keep(set.ingress, entryKey, slots, "ingress", "ingress", chunkSize),
    egress: keep(set.egress, entryKey, slots, "egress", "egress", chunkSize),
  };
  const order = [...slots.filter((slot) => !isEmpty(slot)), ...slots.filter(isEmpty)];
  fill(rest.subjects, order, "subjects", chunkSize);
  fill(rest.ingress, order, "ingress", chunkSize);
  fill(rest.egress, order, "egress", chunkSize);
  const used = order.filter((slot) => !isEmpty(slot));
  if (used.length === 0) used.push(order[0] ?? { subjects: [], ingress: [], egress: [] });
  const usedObjects = new Set(used.map(({ object }) => object));
  return {
    desired: used.map((slot) => ({ ...(slot.object ? { object: slot.object } : {}), spec: specOf(set, slot) })),
    unused: existing.filter((object) => !usedObjects.has(object)),
  };
}

type Lists = { subjects: PodEndpoint[]; ingress: PolicyEndpointEntry[]; egress: PolicyEndpointEntry[] };
type Slot = Lists & { object?: PolicyEndpoint };

/** Puts what an object already holds into its slot, in its present form; returns what no object holds. */
function keep<K extends keyof Lists>(
  wanted: Lists[K],
  keyOf: (item: Lists[K][number] & PodEndpoint & PolicyEndpointEntry) => string,
  slots: readonly Slot[],
  field: "podSelectorEndpoints" | "ingress" | "egress",
  list: K,
  chunkSize: number,
): Lists[K][number][] {
  type Item = Lists[K][number] & PodEndpoint & PolicyEndpointEntry;
  const left = new Map((wanted as Item[]).map((item) => [keyOf(item), item]));
  for (const slot of slots) {
    const into = slot[list] as Item[];
    for (const held of (slot.object?.spec[field] ?? []) as Item[]) {
      const key = keyOf(held);
      const item = left.get(key);
      if (!item || into.length >= chunkSize) continue;
      into.push(item);
      left.delete(key);
    }
  }
  return [...left.values()];
}

function fill<K extends keyof Lists>(rest: Lists[K][number][], slots: Slot[], list: K, chunkSize: number): void {
  let next = 0;
  for (let at = 0; next < rest.length; at += 1) {
    const slot = (slots[at] ??= { subjects: [], ingress: [], egress: [] });
    const into = slot[list] as Lists[K][number][];
    const taken = rest.slice(next, next + Math.max(0, chunkSize - into.length));
    into.push(...taken);
    next += taken.length;
  }
}

/** Absent rather than empty lists, as upstream's JSON. */
function specOf(set: CompiledSet, { subjects, ingress, egress }: Slot): PolicyEndpointSpec {
  return {
    podSelector: set.podSelector,
    policyRef: set.policyRef,
    podIsolation: [...set.podIsolation],
    ...(subjects.length > 0 ? { podSelectorEndpoints: subjects } : {}),
    ...(ingress.length > 0 ? { ingress } : {}),
    ...(egress.length > 0 ? { egress } : {}),
  };
}

function isEmpty({ subjects, ingress, egress }: Slot): boolean {
  return subjects.length + ingress.length + egress.length === 0;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
