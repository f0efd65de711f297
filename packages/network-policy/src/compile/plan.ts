/**
 * From what a policy should say and the objects there are: the writes that lead from one to the other, in an order in which no
 * reader ever sees a pod isolated without everything that is allowed to it. Watchers receive writes in the order they were made.
 *
 * Between two versions of a policy nothing is denied at either end that both versions allow there, nor allowed that both deny.
 */
import { isDeepStrictEqual } from "node:util";
import {
  variantAnnotation,
  variantOf,
  type PolicyEndpoint,
  type PolicyEndpointEntry,
  type PolicyEndpointSpec,
} from "../api/policy-endpoint.ts";
import { chunksOf } from "./chunks.ts";
import type { CompiledSet } from "./compile.ts";
import { entryKey, subjectKey } from "./entries.ts";

/** `slot` ties the steps on one object together: an object created by one step is updated by a later one. */
export type Step =
  | { do: "create"; slot: number; variant: string; spec: PolicyEndpointSpec }
  | { do: "update"; slot: number; object: PolicyEndpoint | undefined; spec: PolicyEndpointSpec }
  | { do: "delete"; slot: number; object: PolicyEndpoint };

/** No steps when the objects already say it. No sets: everything is to go, as when the policy is deleted. */
export function planWrites(
  sets: readonly CompiledSet[],
  existing: readonly PolicyEndpoint[],
  chunkSize: number,
): Step[] {
  const byVariant = Map.groupBy(existing, variantOf);
  const steps: Step[] = [];
  let slots = 0;
  const newSlot = (change: Omit<Change, "slot">): Change => ({ ...change, slot: slots++ });
  for (const set of sets) {
    const { desired, unused } = chunksOf(set, byVariant.get(set.variant) ?? [], chunkSize);
    byVariant.delete(set.variant);
    const changes = [
      ...desired.map(({ object, spec }) => newSlot({ variant: set.variant, object, final: spec })),
      ...unused.map((object) => newSlot({ variant: set.variant, object, final: undefined })),
    ];
    steps.push(...stepsOfSet(changes));
  }
  // Last, so that a pod that moves to another set is named there first: for a moment it is allowed what either says, never less.
  for (const [variant, objects] of byVariant) {
    steps.push(...stepsOfSet(objects.map((object) => newSlot({ variant, object, final: undefined }))));
  }
  return steps;
}

/** The annotations an object of this set carries. */
export function variantAnnotations(variant: string): Record<string, string> {
  return variant === "" ? {} : { [variantAnnotation]: variant };
}

/** One object's way: from `object` (undefined: not there) to `final` (undefined: deleted). */
type Change = {
  readonly slot: number;
  readonly variant: string;
  readonly object: PolicyEndpoint | undefined;
  readonly final: PolicyEndpointSpec | undefined;
};
type Write = { readonly change: Change; readonly spec: PolicyEndpointSpec | undefined };

/**
 * Four turns over the objects of a set: subjects that leave go; what is newly allowed comes; what is no longer allowed goes; new
 * subjects come. A pod that leaves so never gets the new rules, and one that comes never the old ones.
 * A write followed at once by another on the same object is left out: one changed object takes one write.
 */
function stepsOfSet(changes: readonly Change[]): Step[] {
  const state = new Map(changes.map((change) => [change, change.object?.spec]));
  const writes: Write[] = [];
  const turn = (specFor: (change: Change) => PolicyEndpointSpec | undefined): void => {
    // Starting with the object just written lets that write be left out.
    const last = writes.at(-1)?.change;
    for (const change of last ? [last, ...changes.filter((one) => one !== last)] : changes) {
      const spec = specFor(change);
      if (sameSpec(state.get(change), spec)) continue;
      state.set(change, spec);
      writes.push({ change, spec });
    }
  };
  turn(({ object, final }) => object && withStaying(object.spec, object.spec, final));
  turn(({ object, final }) => withStaying(withEntries(object?.spec, final), object?.spec, final));
  turn(({ object, final }) => final && withStaying(final, object?.spec, final));
  turn(({ final }) => final);
  const needed = writes.filter(({ change }, index) => writes[index + 1]?.change !== change);
  return toSteps(needed);
}

function toSteps(writes: readonly Write[]): Step[] {
  const created = new Set<number>();
  return writes.map(({ change: { slot, variant, object }, spec }) => {
    if (!spec) return { do: "delete", slot, object: object! };
    if (object || created.has(slot)) return { do: "update", slot, object, spec };
    created.add(slot);
    return { do: "create", slot, variant, spec };
  });
}

/** `spec` with only the subjects, and the isolation, that are both now and in the end. Without subjects an object isolates nothing. */
function withStaying<T extends PolicyEndpointSpec | undefined>(
  spec: T,
  current: PolicyEndpointSpec | undefined,
  final: PolicyEndpointSpec | undefined,
): T {
  if (!spec) return spec;
  const { podSelectorEndpoints: _, ...rest } = spec;
  const wanted = new Set(final?.podSelectorEndpoints?.map(subjectKey));
  const staying = (current?.podSelectorEndpoints ?? []).filter((subject) => wanted.has(subjectKey(subject)));
  if (staying.length === 0) return rest as T;
  const podIsolation = (current?.podIsolation ?? []).filter((direction) => final?.podIsolation?.includes(direction));
  return { ...rest, podIsolation, podSelectorEndpoints: staying } as T;
}

/** What the object becomes, allowing what it allows now and what it shall. */
function withEntries(
  current: PolicyEndpointSpec | undefined,
  final: PolicyEndpointSpec | undefined,
): PolicyEndpointSpec | undefined {
  const target = final ?? current;
  if (!target || !current) return target;
  const { ingress: _, egress: __, ...rest } = target;
  const ingress = united(current.ingress, final?.ingress);
  const egress = united(current.egress, final?.egress);
  return { ...rest, ...(ingress.length > 0 ? { ingress } : {}), ...(egress.length > 0 ? { egress } : {}) };
}

function united(current: readonly PolicyEndpointEntry[] = [], final: readonly PolicyEndpointEntry[] = []) {
  const staying = new Set(final.map(entryText));
  return [...final, ...current.filter((entry) => !staying.has(entryText(entry)))];
}

function entryText(entry: PolicyEndpointEntry): string {
  return `${entryKey(entry)}|${JSON.stringify((entry.ports ?? []).map(({ protocol, port, endPort }) => [protocol, port, endPort]))}`;
}

/** Equal when empty and absent lists are the same, and the order of an object's fields says nothing. */
function sameSpec(a: PolicyEndpointSpec | undefined, b: PolicyEndpointSpec | undefined): boolean {
  return a === b || isDeepStrictEqual(a && withoutEmpty(a), b && withoutEmpty(b));
}

function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(
    ([, inner]) => inner !== undefined && inner !== null && !isEmptyList(inner),
  );
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutEmpty(inner)]));
}

const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0;
