/** POST pods/P/eviction: a delete that disruption budgets may refuse. The budget is charged in the same commit as the delete. */
import { ApiError, internalError, tooManyRequests } from "../api-error.ts";
import { kubernetesTime, type ApiObject, type AnyJson } from "../api-object.ts";
import { builtinResources } from "../resource-info.ts";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import { deleteObject } from "./deletion.ts";
import type { Registry } from "./registry.ts";
import type { DeleteOptions, WriteOptions } from "./write-options.ts";

const pods = builtinResources.find((info) => info.storage === "/pods")!;
const budgets = builtinResources.find((info) => info.storage === "policy/poddisruptionbudgets")!;

export async function evictPod(
  registry: Registry,
  namespace: string,
  name: string,
  eviction: ApiObject,
  options: WriteOptions,
  now: () => number,
): Promise<object> {
  const pod = registry.object(registry.find(pods, namespace, name), pods);
  const deleteOptions: DeleteOptions = eviction["deleteOptions"] ?? {};
  const dryRun = options.dryRun || ((eviction["deleteOptions"]?.dryRun ?? []) as string[]).length > 0;
  if (isGuarded(pod)) await charge(registry, namespace, pod, { ...options, dryRun }, now);
  await deleteObject(registry, pods, namespace, name, deleteOptions, { ...options, dryRun }, now);
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 };
}

/** Finished, never started and already leaving pods may always go. */
const isGuarded = (pod: ApiObject): boolean =>
  !["Succeeded", "Failed", "Pending"].includes(pod["status"]?.phase) && pod.metadata.deletionTimestamp === undefined;

async function charge(
  registry: Registry,
  namespace: string,
  pod: ApiObject,
  options: WriteOptions,
  now: () => number,
): Promise<void> {
  const matching = registry.store
    .list(budgets.storage, namespace)
    .map((entry) => registry.object(entry, budgets))
    .filter(
      (budget) =>
        budget["spec"]?.selector !== undefined &&
        matchesLabelSelector(budget["spec"].selector, pod.metadata.labels ?? {}),
    );
  if (matching.length > 1)
    throw internalError(
      "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
    );
  const budget = matching[0];
  if (budget === undefined) return;
  const ready = ((pod["status"]?.conditions ?? []) as AnyJson[]).some((c) => c.type === "Ready" && c.status === "True");
  const { status = {} } = budget as { status?: AnyJson };
  if (!ready) {
    if (budget["spec"].unhealthyPodEvictionPolicy === "AlwaysAllow") return;
    if ((status.currentHealthy ?? 0) >= (status.desiredHealthy ?? 0) && (status.desiredHealthy ?? 0) > 0) return;
  }
  await registry.update(
    budgets,
    {
      namespace,
      name: budget.metadata.name,
      subresource: "status",
      change: (current) => {
        const now_ = (current["status"] ??= {});
        if ((now_.observedGeneration ?? 0) < (current.metadata.generation ?? 0)) {
          throw tooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10, [
            {
              reason: "DisruptionBudget",
              message: `The disruption budget ${current.metadata.name} is still being processed by the server.`,
            },
          ]);
        }
        if ((now_.disruptionsAllowed ?? 0) <= 0) throw blocked(current);
        now_.disruptionsAllowed -= 1;
        now_.disruptedPods = { ...now_.disruptedPods, [pod.metadata.name]: kubernetesTime(now()) };
        return current;
      },
    },
    options,
  );
}

function blocked(budget: ApiObject): ApiError {
  const { desiredHealthy = 0, currentHealthy = 0 } = budget["status"] ?? {};
  return new ApiError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", {
    causes: [
      {
        reason: "DisruptionBudget",
        message: `The disruption budget ${budget.metadata.name} needs ${desiredHealthy} healthy pods and has ${currentHealthy} currently`,
      },
    ],
  });
}
