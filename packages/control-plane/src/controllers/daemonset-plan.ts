/** What a DaemonSet does next: which nodes get a pod, which pods go, and how an update rolls. Pure. */
import type { DaemonSet, Node, Pod, PodSpec } from "@underlay/kube/objects";
import { isPodAvailable, isPodReady, isPodTerminating } from "@underlay/kube/pod";
import { matchesNodeAffinity, pinnedNode } from "../scheduler/node-affinity.ts";
import { untoleratedTaint } from "../scheduler/taints.ts";
import { intOrPercent } from "./int-or-percent.ts";
import { revisionHashLabel } from "./revisions.ts";

export type DaemonSetPlan = {
  /** Node names. */
  create: string[];
  delete: { pod: Pod; why: "surplus" | "misplaced" | "failed" | "update" }[];
};

type Tolerations = NonNullable<PodSpec["tolerations"]>;

/** What daemon pods tolerate whatever their template says. */
export function daemonTolerations(spec: PodSpec | undefined): Tolerations {
  const noSchedule = (key: string) => ({ key, operator: "Exists", effect: "NoSchedule" });
  const noExecute = (key: string) => ({ key, operator: "Exists", effect: "NoExecute" });
  const always = [
    noExecute("node.kubernetes.io/not-ready"),
    noExecute("node.kubernetes.io/unreachable"),
    noSchedule("node.kubernetes.io/disk-pressure"),
    noSchedule("node.kubernetes.io/memory-pressure"),
    noSchedule("node.kubernetes.io/pid-pressure"),
    noSchedule("node.kubernetes.io/unschedulable"),
    ...(spec?.hostNetwork ? [noSchedule("node.kubernetes.io/network-unavailable")] : []),
  ];
  const own = spec?.tolerations ?? [];
  const missing = always.filter(
    (one) => !own.some((o) => o.key === one.key && o.effect === one.effect && o.operator === one.operator),
  );
  return [...own, ...missing];
}

/** The template's spec pinned to a node by name, as the scheduler then binds it. */
export function daemonPodSpec(spec: PodSpec, node: string): PodSpec {
  const pin = { key: "metadata.name", operator: "In", values: [node] };
  const old = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  const nodeSelectorTerms =
    old && old.length > 0 ? old.map((term) => ({ ...term, matchFields: [pin] })) : [{ matchFields: [pin] }];
  const nodeAffinity = {
    ...spec.affinity?.nodeAffinity,
    requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms },
  };
  return { ...spec, affinity: { ...spec.affinity, nodeAffinity }, tolerations: daemonTolerations(spec) };
}

/** May a pod start there, and may one that runs there stay? */
export function placement(set: DaemonSet, node: Node): { run: boolean; stay: boolean } {
  const spec = set.spec?.template?.spec;
  if (spec?.nodeName && spec.nodeName !== node.metadata.name) return { run: false, stay: false };
  if (!matchesNodeAffinity(spec, node)) return { run: false, stay: false };
  const tolerations = daemonTolerations(spec);
  if (untoleratedTaint(node, tolerations))
    return { run: false, stay: untoleratedTaint(node, tolerations, ["NoExecute"]) === undefined };
  return { run: true, stay: true };
}

/** The node a daemon pod is on or pinned to. */
export function nodeOf(pod: Pod): string {
  return pod.spec?.nodeName || (pinnedNode(pod.spec) ?? "");
}

export function podsByNode(pods: readonly Pod[]): Map<string, Pod[]> {
  const byNode = new Map<string, Pod[]>();
  for (const pod of pods) {
    const node = nodeOf(pod);
    byNode.set(node, [...(byNode.get(node) ?? []), pod]);
  }
  return byNode;
}

export function planDaemonSet(
  set: DaemonSet,
  nodes: readonly Node[],
  pods: readonly Pod[],
  hash: string,
  now: Date,
): DaemonSetPlan {
  const byNode = podsByNode(pods);
  const plan: DaemonSetPlan = { create: [], delete: [] };
  const surge = rollingLimits(set, nodes).maxSurge > 0;
  for (const node of nodes) {
    const name = node.metadata.name ?? "";
    const { run, stay } = placement(set, node);
    const here = byNode.get(name) ?? [];
    const failed = here.filter((pod) => pod.status?.phase === "Failed" && !isPodTerminating(pod));
    for (const pod of failed) plan.delete.push({ pod, why: "failed" });
    const live = here.filter((pod) => !failed.includes(pod));
    if (run && here.length === 0) plan.create.push(name);
    if (!stay) for (const pod of live) if (!isPodTerminating(pod)) plan.delete.push({ pod, why: "misplaced" });
    if (stay) for (const pod of surplus(set, live, hash, surge, now)) plan.delete.push({ pod, why: "surplus" });
  }
  const known = new Set(nodes.map((node) => node.metadata.name));
  for (const [name, there] of byNode) {
    // Pods of nodes that are gone and that never got there; those bound are the pod collector's.
    if (name !== "" && !known.has(name)) {
      for (const pod of there)
        if (!pod.spec?.nodeName && !isPodTerminating(pod)) plan.delete.push({ pod, why: "misplaced" });
    }
  }
  if (plan.create.length > 0 || plan.delete.length > 0) return plan;
  return set.spec?.updateStrategy?.type === "OnDelete" ? plan : planUpdate(set, nodes, byNode, hash, now);
}

/** One pod a node is enough, two (old and its successor) while surging; the oldest stays. */
function surplus(set: DaemonSet, pods: readonly Pod[], hash: string, surge: boolean, now: Date): Pod[] {
  const running = pods
    .filter((pod) => !isPodTerminating(pod))
    .sort((a, b) => ((a.metadata.creationTimestamp ?? "") < (b.metadata.creationTimestamp ?? "") ? -1 : 1));
  if (running.length <= 1) return [];
  if (!surge) return running.slice(1);
  const current = running.filter((pod) => pod.metadata.labels?.[revisionHashLabel] === hash);
  const old = running.filter((pod) => !current.includes(pod));
  const successor = current[0];
  const oldMayGo = successor && isPodAvailable(successor, set.spec?.minReadySeconds ?? 0, now);
  return [...current.slice(1), ...(oldMayGo ? old : old.slice(1))];
}

/** Rolling update: delete old pods while no more than maxUnavailable are missing, or surge first. */
function planUpdate(
  set: DaemonSet,
  nodes: readonly Node[],
  byNode: Map<string, Pod[]>,
  hash: string,
  now: Date,
): DaemonSetPlan {
  const { maxUnavailable, maxSurge } = rollingLimits(set, nodes);
  const minReadySeconds = set.spec?.minReadySeconds ?? 0;
  const current = (pod: Pod) => pod.metadata.labels?.[revisionHashLabel] === hash;
  if (maxSurge > 0) {
    const wanting = nodes.filter((node) => {
      const here = byNode.get(node.metadata.name ?? "") ?? [];
      return (
        placement(set, node).run && here.some((pod) => !current(pod) && !isPodTerminating(pod)) && !here.some(current)
      );
    });
    const surging = [...byNode.values()].filter(
      (here) => here.some((pod) => !current(pod)) && here.some(current),
    ).length;
    return {
      create: wanting.slice(0, Math.max(0, maxSurge - surging)).map((node) => node.metadata.name ?? ""),
      delete: [],
    };
  }
  let unavailable = 0;
  const idleOld: Pod[] = [];
  const workingOld: Pod[] = [];
  for (const node of nodes) {
    if (!placement(set, node).run) continue;
    const here = byNode.get(node.metadata.name ?? "") ?? [];
    const pod = here.find((one) => !isPodTerminating(one));
    if (!pod) {
      unavailable += 1;
      continue;
    }
    const available = isPodAvailable(pod, minReadySeconds, now);
    if (!available) unavailable += 1;
    if (!current(pod)) (available ? workingOld : idleOld).push(pod);
  }
  // Old pods that do not work anyway cost no availability.
  const chosen = [...idleOld, ...workingOld.slice(0, Math.max(0, maxUnavailable - unavailable))];
  return { create: [], delete: chosen.map((pod) => ({ pod, why: "update" as const })) };
}

function rollingLimits(set: DaemonSet, nodes: readonly Node[]): { maxUnavailable: number; maxSurge: number } {
  const rolling = set.spec?.updateStrategy?.rollingUpdate;
  const desired = nodes.filter((node) => placement(set, node).run).length;
  const maxSurge = intOrPercent(rolling?.maxSurge, desired, "up");
  const maxUnavailable = intOrPercent(rolling?.maxUnavailable, desired, "up", 1);
  return { maxSurge, maxUnavailable: maxSurge === 0 ? Math.max(1, maxUnavailable) : maxUnavailable };
}

export function daemonSetStatus(set: DaemonSet, nodes: readonly Node[], pods: readonly Pod[], hash: string, now: Date) {
  const byNode = podsByNode(pods);
  const status = {
    currentNumberScheduled: 0,
    desiredNumberScheduled: 0,
    numberMisscheduled: 0,
    numberReady: 0,
    updatedNumberScheduled: 0,
    numberAvailable: 0,
    numberUnavailable: 0,
    observedGeneration: set.metadata.generation,
    ...(set.status?.collisionCount ? { collisionCount: set.status.collisionCount } : {}),
  };
  for (const node of nodes) {
    const here = byNode.get(node.metadata.name ?? "") ?? [];
    if (!placement(set, node).run) {
      if (here.length > 0) status.numberMisscheduled += 1;
      continue;
    }
    status.desiredNumberScheduled += 1;
    const [oldest] = [...here].sort((a, b) =>
      (a.metadata.creationTimestamp ?? "") < (b.metadata.creationTimestamp ?? "") ? -1 : 1,
    );
    if (!oldest) continue;
    status.currentNumberScheduled += 1;
    if (isPodReady(oldest)) {
      status.numberReady += 1;
      if (isPodAvailable(oldest, set.spec?.minReadySeconds ?? 0, now)) status.numberAvailable += 1;
    }
    if (here.some((pod) => pod.metadata.labels?.[revisionHashLabel] === hash && !isPodTerminating(pod)))
      status.updatedNumberScheduled += 1;
  }
  status.numberUnavailable = status.desiredNumberScheduled - status.numberAvailable;
  return status;
}
