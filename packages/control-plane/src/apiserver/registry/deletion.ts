/**
 * DELETE: preconditions, finalizers and propagation policies, the grace protocol of pods, namespaces.
 * The decision (`planDeletion`) is pure; applying it is storing or removing one object.
 */
import { conflict } from "../api-error.ts";
import { kubernetesTime, type ApiObject, type AnyJson } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";
import { toStorage } from "./conversions.ts";
import type { Registry } from "./registry.ts";
import type { DeleteOptions, WriteOptions } from "./write-options.ts";

export type DeletionPlan =
  /** Gone; `announce` is a MODIFIED state before the DELETED one (pods whose kubelet has finished). */
  | { readonly do: "remove"; readonly object: ApiObject; readonly announce: boolean }
  | { readonly do: "mark"; readonly object: ApiObject }
  /** Already as asked. */
  | { readonly do: "nothing" };

/** What a DELETE does to `object`. */
export function planDeletion(info: ResourceInfo, object: ApiObject, options: DeleteOptions, now: number): DeletionPlan {
  const next = structuredClone(object);
  const { metadata } = next;
  const alreadyMarked = metadata.deletionTimestamp !== undefined;
  const finalizers = finalizersAfter(info, metadata.finalizers ?? [], options);
  const finalizersChanged = JSON.stringify(finalizers) !== JSON.stringify(metadata.finalizers ?? []);
  if (finalizers.length > 0) metadata.finalizers = finalizers;
  else delete metadata.finalizers;
  const grace = graceSeconds(info, object, options);
  const held = finalizers.length > 0 || (info.storage === "/namespaces" && (next["spec"]?.finalizers ?? []).length > 0);

  if (grace === 0 && !held) {
    if (!alreadyMarked || metadata.deletionGracePeriodSeconds === 0)
      return { do: "remove", object: next, announce: false };
    mark(next, 0, now);
    return { do: "remove", object: next, announce: true };
  }
  if (alreadyMarked) {
    const before = metadata.deletionGracePeriodSeconds ?? 0;
    if (grace >= before && !finalizersChanged) return { do: "nothing" };
    if (grace < before) mark(next, grace, now);
    return { do: "mark", object: next };
  }
  mark(next, grace, now);
  if (metadata.generation !== undefined) metadata.generation += 1;
  if (info.storage === "/namespaces") next["status"] = { ...next["status"], phase: "Terminating" };
  return { do: "mark", object: next };
}

function mark(object: ApiObject, graceSeconds: number, now: number): void {
  object.metadata.deletionTimestamp = kubernetesTime(now + graceSeconds * 1000);
  object.metadata.deletionGracePeriodSeconds = graceSeconds;
}

/** Only bound, unfinished pods have a grace period. */
function graceSeconds(info: ResourceInfo, object: ApiObject, options: DeleteOptions): number {
  if (info.storage !== "/pods") return 0;
  const { spec = {}, status = {} } = object as { spec?: AnyJson; status?: AnyJson };
  if (!spec.nodeName || status.phase === "Succeeded" || status.phase === "Failed") return 0;
  const asked = options.gracePeriodSeconds ?? spec.terminationGracePeriodSeconds ?? 30;
  return asked < 0 ? 1 : asked;
}

const orphanByDefault = new Set(["batch/jobs", "/replicationcontrollers"]);

function finalizersAfter(info: ResourceInfo, finalizers: readonly string[], options: DeleteOptions): string[] {
  const policy =
    options.propagationPolicy ??
    (orphanByDefault.has(info.storage) && !finalizers.includes("foregroundDeletion") ? "Orphan" : undefined);
  if (policy === undefined) return [...finalizers];
  const others = finalizers.filter((name) => name !== "orphan" && name !== "foregroundDeletion");
  if (policy === "Orphan") return [...others, "orphan"];
  return policy === "Foreground" ? [...others, "foregroundDeletion"] : others;
}

export type Deleted = { readonly gone: boolean; readonly object: ApiObject };

/** Deletes one object; answers whether it is gone and its last or new state. */
export async function deleteObject(
  registry: Registry,
  info: ResourceInfo,
  namespace: string,
  name: string,
  options: DeleteOptions,
  write: WriteOptions,
  now: () => number,
): Promise<Deleted> {
  for (let attempt = 1; ; attempt++) {
    const entry = registry.find(info, namespace, name);
    const object = registry.object(entry, info);
    checkPreconditions(info, object, options);
    await registry.admitDelete(info, object, write);
    if (registry.store.get(info.storage, namespace, name) !== entry) {
      if (attempt < 6) continue;
      throw conflict(info, name);
    }
    const plan = planDeletion(info, object, options, now());
    if (write.dryRun || plan.do === "nothing")
      return { gone: plan.do === "remove", object: plan.do === "nothing" ? object : plan.object };
    if (plan.do === "mark") registry.store.put(info.storage, toStorage(info, plan.object));
    else {
      if (plan.announce) registry.store.put(info.storage, toStorage(info, structuredClone(plan.object)));
      registry.remove(info, plan.object);
    }
    await registry.store.settled();
    return { gone: plan.do === "remove", object: plan.object };
  }
}

function checkPreconditions(info: ResourceInfo, object: ApiObject, { preconditions }: DeleteOptions): void {
  const { uid, resourceVersion, name } = object.metadata;
  if (preconditions?.uid !== undefined && preconditions.uid !== uid) {
    throw conflict(
      info,
      name,
      `Precondition failed: UID in precondition: ${preconditions.uid}, UID in object meta: ${uid}`,
    );
  }
  if (preconditions?.resourceVersion !== undefined && preconditions.resourceVersion !== resourceVersion) {
    throw conflict(
      info,
      name,
      `Precondition failed: ResourceVersion in precondition: ${preconditions.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`,
    );
  }
}
