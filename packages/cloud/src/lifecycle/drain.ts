/** Draining a node before its instance ends, as EKS does when a managed node group is deleted: cordon, then evict pod by pod. */
import { askApiServer } from "./kubernetes-door.ts";

type Pod = {
  metadata: {
    name: string;
    namespace: string;
    annotations?: Record<string, string>;
    deletionTimestamp?: string;
    ownerReferences?: { kind: string; controller?: boolean }[];
  };
};

/**
 * One step: cordons the node and asks for the eviction of what still runs there. "drained" when nothing is left to evict or there
 * is no such node; "waiting" while pods end, a budget holds one back, or the API server does not answer.
 */
export async function drainNode(directory: string, node: string): Promise<"drained" | "waiting"> {
  const cordoned = await ask(directory, `/api/v1/nodes/${node}`, "PATCH", {
    type: "application/merge-patch+json",
    content: { spec: { unschedulable: true } },
  });
  if (cordoned?.status === 404) return "drained";
  if (cordoned?.status !== 200) return "waiting";
  const listed = await ask(
    directory,
    `/api/v1/pods?fieldSelector=${encodeURIComponent(`spec.nodeName=${node}`)}`,
    "GET",
  );
  if (listed?.status !== 200) return "waiting";
  const pods = ((JSON.parse(listed.body) as { items?: Pod[] }).items ?? []).filter(mustGo);
  const asked = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  await Promise.all(asked.map(({ metadata: { name, namespace } }) => evict(directory, namespace, name)));
  return pods.length === 0 ? "drained" : "waiting";
}

/** Pods of DaemonSets and static pods stay, as with `kubectl drain --ignore-daemonsets`. */
export function mustGo({ metadata }: Pod): boolean {
  if (metadata.annotations?.["kubernetes.io/config.mirror"] !== undefined) return false;
  return metadata.ownerReferences?.some(({ kind, controller }) => kind === "DaemonSet" && controller === true) !== true;
}

/** A refusal (429: a disruption budget) is no failure: the next step asks again. */
async function evict(directory: string, namespace: string, name: string): Promise<void> {
  await ask(directory, `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, "POST", {
    type: "application/json",
    content: { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } },
  });
}

const ask = (...args: Parameters<typeof askApiServer>) => askApiServer(...args).catch(() => undefined);
