/** What the garbage collector does with one object, given what is known of its owners and dependents. Pure. */
import type { KubeObject, OwnerReference } from "@underlay/kube/objects";

export const foregroundFinalizer = "foregroundDeletion";
export const orphanFinalizer = "orphan";

/** An owner as the collector sees it: gone, there, or there but waiting for its dependents to go first. */
export type OwnerState = "absent" | "solid" | "waiting";

export type GarbagePlan =
  | { do: "nothing" }
  | { do: "delete"; propagationPolicy: "Background" | "Foreground" | "Orphan" }
  /** Drop references to owners that are gone, as others still hold the object. */
  | { do: "release"; uids: string[] }
  | { do: "remove-finalizer"; finalizer: string }
  /** Foreground deletion: these dependents have to go first. */
  | { do: "delete-dependents"; dependents: KubeObject[] }
  | { do: "orphan-dependents"; dependents: KubeObject[] };

export function planGarbage(
  object: KubeObject,
  stateOf: (owner: OwnerReference) => OwnerState,
  dependents: readonly KubeObject[],
): GarbagePlan {
  const { finalizers = [], ownerReferences = [] } = object.metadata;
  if (object.metadata.deletionTimestamp !== undefined) {
    if (finalizers.includes(orphanFinalizer)) {
      return dependents.length > 0
        ? { do: "orphan-dependents", dependents: [...dependents] }
        : { do: "remove-finalizer", finalizer: orphanFinalizer };
    }
    if (!finalizers.includes(foregroundFinalizer)) return { do: "nothing" };
    const blocking = dependents.filter((dependent) => blocks(dependent, object));
    if (blocking.length === 0) return { do: "remove-finalizer", finalizer: foregroundFinalizer };
    const next = blocking.filter((dependent) => dependent.metadata.deletionTimestamp === undefined);
    return next.length > 0 ? { do: "delete-dependents", dependents: next } : { do: "nothing" };
  }
  if (ownerReferences.length === 0) return { do: "nothing" };
  const states = ownerReferences.map((owner) => ({ owner, state: stateOf(owner) }));
  const lost = states.filter(({ state }) => state !== "solid");
  if (lost.length === 0) return { do: "nothing" };
  if (lost.length < states.length) return { do: "release", uids: lost.map(({ owner }) => owner.uid) };
  const waited = states.some(({ state }) => state === "waiting");
  if (waited && dependents.length > 0) return { do: "delete", propagationPolicy: "Foreground" };
  if (finalizers.includes(orphanFinalizer)) return { do: "delete", propagationPolicy: "Orphan" };
  if (finalizers.includes(foregroundFinalizer)) return { do: "delete", propagationPolicy: "Foreground" };
  return { do: "delete", propagationPolicy: "Background" };
}

export function isWaitingForDependents(object: KubeObject): boolean {
  return (
    object.metadata.deletionTimestamp !== undefined && (object.metadata.finalizers ?? []).includes(foregroundFinalizer)
  );
}

function blocks(dependent: KubeObject, owner: KubeObject): boolean {
  return (dependent.metadata.ownerReferences ?? []).some(
    (one) => one.uid === owner.metadata.uid && one.blockOwnerDeletion === true,
  );
}
