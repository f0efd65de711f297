/** Which pods of a set go first when it shrinks. Pure. */
import { availableInMs, isPodReady } from "@underlay/kube/pod";
import type { Pod } from "@underlay/kube/objects";

const phaseRank: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };

/** Sorted so that the first is the first to be deleted. `perNode` counts active pods of the same set by node. */
export function deletionOrder(pods: readonly Pod[], now: Date): Pod[] {
  const perNode = new Map<string, number>();
  for (const pod of pods) perNode.set(pod.spec?.nodeName ?? "", (perNode.get(pod.spec?.nodeName ?? "") ?? 0) + 1);
  const ranks = new Map(pods.map((pod) => [pod, rankOf(pod, perNode, now)]));
  return [...pods].sort((a, b) => compare(ranks.get(a) ?? [], ranks.get(b) ?? []));
}

/** Smaller goes first: unassigned, pending, not ready, low deletion cost, crowded node, ready for less, restarting, newer. */
function rankOf(pod: Pod, perNode: Map<string, number>, now: Date): number[] {
  const node = pod.spec?.nodeName ?? "";
  const ready = isPodReady(pod);
  return [
    node === "" ? 0 : 1,
    phaseRank[pod.status?.phase ?? "Pending"] ?? 1,
    ready ? 1 : 0,
    Number(pod.metadata.annotations?.["controller.kubernetes.io/pod-deletion-cost"] ?? 0) || 0,
    -(perNode.get(node) ?? 0),
    // The logarithm of the time spent ready: pods of about one age are equal.
    ready ? Math.floor(Math.log2(1 + Math.max(0, -availableInMs(pod, 1, now)))) : 0,
    -Math.max(0, ...(pod.status?.containerStatuses ?? []).map((status) => status.restartCount)),
    -Date.parse(pod.metadata.creationTimestamp ?? "") || 0,
  ];
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [i, left] of a.entries()) {
    const right = b[i] ?? 0;
    if (left !== right) return left - right;
  }
  return 0;
}
