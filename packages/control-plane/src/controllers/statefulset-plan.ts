/** What a StatefulSet does next: one ordered step (or all at once when Parallel), and its status. Pure. */
import { controllerOf, type Pod, type StatefulSet } from "@underlay/kube/objects";
import { isPodAvailable, isPodReady, isPodTerminal, isPodTerminating } from "@underlay/kube/pod";
import { revisionHashLabel } from "./revisions.ts";

export type StatefulSetStep =
  | { do: "create"; ordinal: number; revision: string }
  | { do: "delete"; pod: Pod; why: "scale-down" | "failed" | "update" };

/** Names of the ControllerRevisions. */
export type Revisions = { current: string; update: string };
type Status = NonNullable<StatefulSet["status"]>;

export function planStatefulSet(
  set: StatefulSet,
  pods: readonly Pod[],
  revisions: Revisions,
  now: Date,
): StatefulSetStep[] {
  if (set.metadata.deletionTimestamp !== undefined) return [];
  const { start, end } = ordinals(set);
  const byOrdinal = new Map(pods.map((pod) => [ordinalOf(set, pod), pod]));
  const ordered = set.spec?.podManagementPolicy !== "Parallel";
  const healthy = (pod: Pod) => isHealthy(set, pod, now);
  const steps: StatefulSetStep[] = [];
  let waiting = false;

  for (let ordinal = start; ordinal < end; ordinal += 1) {
    const pod = byOrdinal.get(ordinal);
    if (!pod) steps.push({ do: "create", ordinal, revision: revisionFor(set, revisions, ordinal) });
    else if (isPodTerminal(pod)) {
      if (!isPodTerminating(pod)) steps.push({ do: "delete", pod, why: "failed" });
      else waiting = true;
    } else if (!healthy(pod)) waiting = true;
    if (ordered && (steps.length > 0 || waiting)) return steps;
  }

  const condemned = [...byOrdinal].filter(([ordinal]) => ordinal < start || ordinal >= end).sort(([a], [b]) => b - a);
  const firstUnhealthy = [...byOrdinal].sort(([a], [b]) => a - b).find(([, pod]) => !healthy(pod))?.[1];
  for (const [, pod] of condemned) {
    if (isPodTerminating(pod)) {
      if (ordered) return steps;
      continue;
    }
    // Scaling down waits while another pod is in trouble.
    if (ordered && !healthy(pod) && pod !== firstUnhealthy) return steps;
    steps.push({ do: "delete", pod, why: "scale-down" });
    if (ordered) return steps;
  }
  if (steps.length > 0 || set.spec?.updateStrategy?.type === "OnDelete") return steps;

  const partition = set.spec?.updateStrategy?.rollingUpdate?.partition ?? 0;
  for (let ordinal = end - 1; ordinal >= start + partition; ordinal -= 1) {
    const pod = byOrdinal.get(ordinal);
    if (!pod) return steps;
    if (revisionOf(pod) !== revisions.update && !isPodTerminating(pod)) return [{ do: "delete", pod, why: "update" }];
    if (!healthy(pod)) return steps;
  }
  return steps;
}

export function statefulSetStatus(set: StatefulSet, pods: readonly Pod[], revisions: Revisions, now: Date): Status {
  const created = pods.filter((pod) => !isPodTerminal(pod));
  const alive = created.filter((pod) => !isPodTerminating(pod));
  const status: Status = {
    observedGeneration: set.metadata.generation,
    replicas: created.length,
    readyReplicas: created.filter(isPodReady).length,
    availableReplicas: created.filter((pod) => isPodAvailable(pod, set.spec?.minReadySeconds ?? 0, now)).length,
    currentReplicas: alive.filter((pod) => revisionOf(pod) === revisions.current).length,
    updatedReplicas: alive.filter((pod) => revisionOf(pod) === revisions.update).length,
    currentRevision: revisions.current,
    updateRevision: revisions.update,
    collisionCount: set.status?.collisionCount ?? 0,
  };
  const complete = status.updatedReplicas === status.replicas && status.readyReplicas === status.replicas;
  if (set.spec?.updateStrategy?.type !== "OnDelete" && complete && status.replicas === (set.spec?.replicas ?? 1)) {
    status.currentReplicas = status.updatedReplicas;
    status.currentRevision = revisions.update;
  }
  return status;
}

/** Running and ready for long enough, and not on its way out. */
export function isHealthy(set: StatefulSet, pod: Pod, now: Date): boolean {
  return (
    pod.status?.phase === "Running" &&
    !isPodTerminating(pod) &&
    isPodAvailable(pod, set.spec?.minReadySeconds ?? 0, now)
  );
}

export function podName(set: StatefulSet, ordinal: number): string {
  return `${set.metadata.name}-${ordinal}`;
}

/** The number after the set's name; -1 for a pod that has no place in the set. */
export function ordinalOf(set: StatefulSet, pod: Pod): number {
  const name = pod.metadata.name ?? "";
  const prefix = `${set.metadata.name}-`;
  const rest = name.startsWith(prefix) ? name.slice(prefix.length) : "";
  return /^\d+$/.test(rest) && controllerOf(pod)?.uid === set.metadata.uid ? Number(rest) : -1;
}

function ordinals(set: StatefulSet): { start: number; end: number } {
  const start = set.spec?.ordinals?.start ?? 0;
  return { start, end: start + (set.spec?.replicas ?? 1) };
}

/** Below the partition pods keep the old revision, also when they are made again. */
function revisionFor(set: StatefulSet, revisions: Revisions, ordinal: number): string {
  const strategy = set.spec?.updateStrategy;
  const old =
    strategy?.type === "OnDelete" ? false : ordinal < ordinals(set).start + (strategy?.rollingUpdate?.partition ?? 0);
  return old ? revisions.current : revisions.update;
}

function revisionOf(pod: Pod): string {
  return pod.metadata.labels?.[revisionHashLabel] ?? "";
}
