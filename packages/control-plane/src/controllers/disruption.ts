/** Disruption budgets: how many pods of each may be evicted right now. */
import { isNotFound } from "@underlay/kube/client";
import { setCondition } from "@underlay/kube/conditions";
import { controllerOf, keyOf, type Pod, type PodDisruptionBudget } from "@underlay/kube/objects";
import { isPodReady, isPodTerminal, isPodTerminating } from "@underlay/kube/pod";
import { deployments, podDisruptionBudgets, pods, replicaSets, statefulSets } from "@underlay/kube/resources";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";
import { intOrPercent } from "./int-or-percent.ts";
import { sameStatus } from "./status.ts";

/** An eviction that did not lead to a deletion in this time is forgotten. */
const evictionMemoryMs = 120_000;

/** The budget's status, given its pods and the size their controllers want. Pure. */
export function budgetStatus(budget: PodDisruptionBudget, matching: readonly Pod[], expectedPods: number, now: Date) {
  const { maxUnavailable, minAvailable } = budget.spec ?? {};
  const desiredHealthy =
    maxUnavailable !== undefined
      ? Math.max(0, expectedPods - intOrPercent(maxUnavailable, expectedPods, "up"))
      : intOrPercent(minAvailable, expectedPods, "up", 0);
  const disruptedPods: Record<string, string> = {};
  const byName = new Map(matching.map((pod) => [pod.metadata.name ?? "", pod]));
  for (const [name, time] of Object.entries(budget.status?.disruptedPods ?? {})) {
    const pod = byName.get(name);
    const fresh = now.getTime() - Date.parse(String(time)) < evictionMemoryMs;
    if (pod && !isPodTerminating(pod) && fresh) disruptedPods[name] = String(time);
  }
  const healthy = matching.filter(
    (pod) => isPodReady(pod) && !isPodTerminating(pod) && disruptedPods[pod.metadata.name ?? ""] === undefined,
  );
  const disruptionsAllowed = expectedPods === 0 ? 0 : Math.max(0, healthy.length - desiredHealthy);
  const enough = disruptionsAllowed > 0;
  const condition = {
    type: "DisruptionAllowed",
    status: enough ? "True" : "False",
    reason: enough ? "SufficientPods" : "InsufficientPods",
    message: "",
    observedGeneration: budget.metadata.generation,
  };
  return {
    ...(Object.keys(disruptedPods).length > 0 ? { disruptedPods } : {}),
    currentHealthy: healthy.length,
    desiredHealthy,
    disruptionsAllowed,
    expectedPods,
    observedGeneration: budget.metadata.generation,
    conditions: setCondition(
      budget.status?.conditions as { type: string; status: string }[] | undefined,
      condition,
      now,
    ),
  };
}

export async function runDisruptionController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const budgets = informers.of(podDisruptionBudgets);
  const allPods = informers.of(pods);
  const sets = informers.of(replicaSets);
  const owners = { Deployment: informers.of(deployments), StatefulSet: informers.of(statefulSets), ReplicaSet: sets };
  const queue = new WorkQueue();
  const onPod = (pod: Pod) => {
    for (const budget of budgets.byIndex("namespace", pod.metadata.namespace ?? "")) {
      if (matchesLabelSelector(budget.spec?.selector, pod.metadata.labels)) queue.add(keyOf(budget));
    }
  };
  const onOwner = (object: { metadata: { namespace?: string | undefined } }) => {
    for (const budget of budgets.byIndex("namespace", object.metadata.namespace ?? "")) queue.add(keyOf(budget));
  };
  budgets.on({ add: (one) => queue.add(keyOf(one)), update: (_old, one) => queue.add(keyOf(one)) });
  allPods.on({ add: onPod, update: (_old, pod) => onPod(pod), delete: onPod });
  for (const informer of [owners.Deployment, owners.StatefulSet]) {
    (informer as typeof owners.Deployment).on({
      update: (old, object) => {
        if (old.spec?.replicas !== object.spec?.replicas) onOwner(object);
      },
    });
  }

  /** What the pods' controllers want: a Deployment's or StatefulSet's replicas; a pod alone counts as one. */
  const expectedOf = (budget: PodDisruptionBudget, matching: readonly Pod[]): number => {
    const { minAvailable, maxUnavailable } = budget.spec ?? {};
    const countsPods = maxUnavailable === undefined && typeof minAvailable === "number";
    if (countsPods) return matching.length;
    const sizes = new Map<string, number>();
    for (const pod of matching) {
      let owner = controllerOf(pod);
      const namespace = pod.metadata.namespace ?? "";
      const set = owner?.kind === "ReplicaSet" ? sets.get(`${namespace}/${owner.name}`) : undefined;
      owner = (set && controllerOf(set)) ?? owner;
      const informer = owners[owner?.kind as keyof typeof owners] as typeof sets | undefined;
      sizes.set(
        owner?.uid ?? pod.metadata.uid ?? "",
        informer?.get(`${namespace}/${owner?.name}`)?.spec?.replicas ?? 1,
      );
    }
    return [...sizes.values()].reduce((sum, size) => sum + size, 0);
  };

  const reconcile = async (key: string): Promise<Requeue> => {
    const budget = budgets.get(key);
    if (!budget) return;
    const matching = allPods
      .byIndex("namespace", budget.metadata.namespace ?? "")
      .filter((pod) => !isPodTerminal(pod) && matchesLabelSelector(budget.spec?.selector, pod.metadata.labels));
    const status = budgetStatus(budget, matching, expectedOf(budget, matching), new Date());
    if (!sameStatus(status, budget.status)) {
      await client
        .updateStatus(podDisruptionBudgets, { ...budget, status } as unknown as PodDisruptionBudget)
        .catch((err: unknown) => {
          if (!isNotFound(err)) throw err;
        });
    }
    return status.disruptedPods ? { requeueAfterMs: evictionMemoryMs } : undefined;
  };
  await runQueue(context, "disruption", queue, reconcile, 2);
}
