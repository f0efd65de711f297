/**
 * ReplicaSet: keeps a number of pods of one template. planReplicaSet decides; the controller claims, applies, reports.
 * Read next: claim.ts, expectations.ts, pod-deletion-order.ts.
 */
import { isNotFound } from "@underlay/kube/client";
import { findCondition, wireTime } from "@underlay/kube/conditions";
import { controllerOf, keyOf, type Pod, type ReplicaSet } from "@underlay/kube/objects";
import { availableInMs, isPodActive, isPodAvailable, isPodReady, isPodTerminating } from "@underlay/kube/pod";
import { pods, replicaSets } from "@underlay/kube/resources";
import { hasLabels, matchesLabelSelector } from "@underlay/kube/selectors";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { claimObjects } from "./claim.ts";
import { orphansOf, runQueue, type ControllerContext } from "./context.ts";
import { Expectations } from "./expectations.ts";
import { podFromTemplate, PodControl, slowStart } from "./pod-control.ts";
import { sameStatus } from "./status.ts";
import { deletionOrder } from "./pod-deletion-order.ts";

const burst = 500;

export type ReplicaSetPlan = { create: number; delete: Pod[] };

/** How many pods to make or which to delete, given the active ones. Pure. */
export function planReplicaSet(set: ReplicaSet, active: readonly Pod[], now: Date): ReplicaSetPlan {
  const missing = (set.spec?.replicas ?? 1) - active.length;
  if (missing >= 0) return { create: Math.min(missing, burst), delete: [] };
  return { create: 0, delete: deletionOrder(active, now).slice(0, Math.min(-missing, burst)) };
}

/** The status that the pods amount to. Pure. */
export function replicaSetStatus(
  set: ReplicaSet,
  owned: readonly Pod[],
  failure: { creating: boolean; error: unknown } | undefined,
  now: Date,
) {
  const active = owned.filter(isPodActive);
  const templateLabels = set.spec?.template?.metadata?.labels;
  const conditions = (set.status?.conditions ?? []).filter((condition) => condition.type !== "ReplicaFailure");
  if (failure) {
    const old = findCondition(set.status?.conditions, "ReplicaFailure");
    conditions.push({
      type: "ReplicaFailure",
      status: "True",
      reason: failure.creating ? "FailedCreate" : "FailedDelete",
      message: (failure.error as Error).message,
      lastTransitionTime: old?.lastTransitionTime ?? wireTime(now),
    });
  }
  return {
    replicas: active.length,
    fullyLabeledReplicas: active.filter((pod) => hasLabels(templateLabels, pod.metadata.labels)).length,
    readyReplicas: active.filter(isPodReady).length,
    availableReplicas: active.filter((pod) => isPodAvailable(pod, set.spec?.minReadySeconds ?? 0, now)).length,
    terminatingReplicas: owned.filter(isPodTerminating).length,
    observedGeneration: set.metadata.generation,
    ...(conditions.length > 0 ? { conditions } : {}),
  };
}

export async function runReplicaSetController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const sets = informers.of(replicaSets);
  const allPods = informers.of(pods);
  const control = new PodControl(client, context.recorder("replicaset-controller"));
  const queue = new WorkQueue();
  const expectations = new Expectations();

  const setOf = (pod: Pod): string | undefined => {
    const owner = controllerOf(pod);
    return owner?.kind === "ReplicaSet" ? `${pod.metadata.namespace}/${owner.name}` : undefined;
  };
  const onPod = (pod: Pod) => {
    const key = setOf(pod);
    if (key) return queue.add(key);
    if (controllerOf(pod)) return;
    for (const set of sets.byIndex("namespace", pod.metadata.namespace ?? "")) {
      if (matchesLabelSelector(set.spec?.selector, pod.metadata.labels)) queue.add(keyOf(set));
    }
  };
  const onGone = (pod: Pod) => {
    const key = setOf(pod);
    if (key) expectations.deleted(key, pod.metadata.uid ?? "");
    onPod(pod);
  };
  allPods.on({
    add: (pod) => {
      const key = setOf(pod);
      if (key) expectations.created(key);
      if (isPodTerminating(pod)) onGone(pod);
      else onPod(pod);
    },
    update: (old, pod) => {
      if (setOf(old) !== setOf(pod)) onPod(old);
      if (isPodTerminating(pod)) onGone(pod);
      else onPod(pod);
    },
    delete: onGone,
  });
  sets.on({
    add: (set) => queue.add(keyOf(set)),
    update: (_old, set) => queue.add(keyOf(set)),
    delete: (set) => queue.add(keyOf(set)),
  });

  const reconcile = async (key: string): Promise<Requeue> => {
    const set = sets.get(key);
    if (!set?.spec?.template) {
      expectations.forget(key);
      return;
    }
    const { namespace = "" } = set.metadata;
    const candidates = [
      ...allPods.byIndex("controller", set.metadata.uid ?? ""),
      ...allPods.byIndex("controller", orphansOf(namespace)),
    ].filter((pod) => pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed");
    const mayAct = expectations.satisfied(key);
    const owned = await claimObjects(
      client,
      { object: set, of: replicaSets, selector: set.spec.selector },
      { of: pods, candidates },
    );
    const active = owned.filter(isPodActive);
    let failure: { creating: boolean; error: unknown } | undefined;
    if (mayAct && set.metadata.deletionTimestamp === undefined) {
      failure = await apply(key, set, planReplicaSet(set, active, new Date()));
    }
    await writeStatus(set, owned, failure);
    if (failure) throw failure.error;
    return recheckAvailability(set.spec.minReadySeconds ?? 0, active);
  };

  const apply = async (
    key: string,
    set: ReplicaSet,
    plan: ReplicaSetPlan,
  ): Promise<{ creating: boolean; error: unknown } | undefined> => {
    if (plan.create > 0) {
      expectations.expect(key, { creations: plan.create });
      const owner = { object: set, of: replicaSets };
      let started = 0;
      const { error } = await slowStart(plan.create, async () => {
        started += 1;
        try {
          await control.create(set, podFromTemplate(owner, set.spec?.template ?? {}));
        } catch (err) {
          expectations.created(key);
          throw err;
        }
      });
      for (let skipped = started; skipped < plan.create; skipped += 1) expectations.created(key);
      return error ? { creating: true, error } : undefined;
    }
    if (plan.delete.length === 0) return undefined;
    expectations.expect(key, { deletions: plan.delete.map((pod) => pod.metadata.uid ?? "") });
    const results = await Promise.allSettled(
      plan.delete.map(async (pod) => {
        try {
          await control.delete(set, pod);
        } catch (err) {
          expectations.deleted(key, pod.metadata.uid ?? "");
          throw err;
        }
      }),
    );
    const failed = results.find((result) => result.status === "rejected");
    return failed ? { creating: false, error: failed.reason } : undefined;
  };

  const writeStatus = async (
    set: ReplicaSet,
    owned: readonly Pod[],
    failure: { creating: boolean; error: unknown } | undefined,
  ) => {
    const status = replicaSetStatus(set, owned, failure, new Date());
    if (sameStatus(status, set.status)) return;
    try {
      await client.updateStatus(replicaSets, { ...set, status });
    } catch (err) {
      if (!isNotFound(err)) throw err;
    }
  };

  await runQueue(context, "replicaset", queue, reconcile, 5);
}

/** When minReadySeconds will have passed for the next pod. */
export function recheckAvailability(minReadySeconds: number, active: readonly Pod[]): Requeue {
  if (minReadySeconds === 0) return;
  const now = new Date();
  const waits = active
    .filter(isPodReady)
    .map((pod) => availableInMs(pod, minReadySeconds, now))
    .filter((ms) => ms > 0);
  return waits.length > 0 ? { requeueAfterMs: Math.min(...waits) } : undefined;
}
