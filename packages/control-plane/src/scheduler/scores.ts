/** How well a pod sits on each node that fits, by upstream's plugins and weights. Pure. */
import type { Pod } from "@underlay/kube/objects";
import { podRequests } from "@underlay/kube/pod";
import { weightOf, type NodeState } from "./cluster-state.ts";
import { preferredNodeAffinity } from "./node-affinity.ts";
import { preferredPodAffinity, type NamespaceLabels } from "./pod-affinity.ts";
import { tolerates } from "./taints.ts";
import { defaultSpreadCounts, spreadCounts } from "./topology-spread.ts";

const top = 100;
const weights = { leastAllocated: 1, balanced: 1, nodeAffinity: 2, spread: 2, podAffinity: 2, taints: 3, images: 1 };

export function scoreNodes(
  pod: Pod,
  fitting: readonly NodeState[],
  all: readonly NodeState[],
  namespaceLabels: NamespaceLabels,
): { state: NodeState; score: number }[] {
  const own = weightOf(podRequests(pod));
  const nodeAffinity = upTo(fitting.map(({ node }) => preferredNodeAffinity(pod.spec, node)));
  const taints = downTo(fitting.map((state) => intolerable(pod, state)));
  const podAffinity = between(podAffinityScores(pod, fitting, all, namespaceLabels));
  const spread = spreadScores(pod, fitting, all);
  return fitting.map((state, i) => {
    const cpu = share(state.weight.cpu + own.cpu, state.allocatable["cpu"]);
    const memory = share(state.weight.memory + own.memory, state.allocatable["memory"]);
    const score =
      weights.leastAllocated * Math.floor((top * (1 - cpu) + top * (1 - memory)) / 2) +
      weights.balanced * Math.floor(top * (1 - Math.abs(cpu - memory) / 2)) +
      weights.nodeAffinity * (nodeAffinity[i] ?? 0) +
      weights.taints * (taints[i] ?? 0) +
      weights.podAffinity * (podAffinity[i] ?? 0) +
      weights.spread * (spread[i] ?? 0) +
      weights.images * imageLocality(pod, state);
    return { state, score };
  });
}

function share(used: number, of: number | undefined): number {
  return of ? Math.min(1, used / of) : 1;
}

function intolerable(pod: Pod, { node }: NodeState): number {
  return (node.spec?.taints ?? []).filter(
    (taint) =>
      taint.effect === "PreferNoSchedule" &&
      !(pod.spec?.tolerations ?? []).some((toleration) => tolerates(toleration, taint)),
  ).length;
}

function podAffinityScores(
  pod: Pod,
  fitting: readonly NodeState[],
  all: readonly NodeState[],
  namespaceLabels: NamespaceLabels,
): number[] {
  const byPlace = preferredPodAffinity(pod, all, namespaceLabels);
  if (byPlace.size === 0) return fitting.map(() => 0);
  return fitting.map(({ node }) =>
    Object.entries(node.metadata.labels ?? {}).reduce(
      (sum, [key, value]) => sum + (byPlace.get(`${key}=${value}`) ?? 0),
      0,
    ),
  );
}

/** Fewer matching pods in a place is better; places count the more the more of them there are. */
function spreadScores(pod: Pod, fitting: readonly NodeState[], all: readonly NodeState[]): number[] {
  const asked = spreadCounts(pod, all, "ScheduleAnyway");
  const constraints = asked.length > 0 ? asked : defaultSpreadCounts(pod, all);
  if (constraints.length === 0) return fitting.map(() => 0);
  const raw = fitting.map(({ node }) => {
    let sum = 0;
    for (const { constraint, counts } of constraints) {
      const value = node.metadata.labels?.[constraint.topologyKey];
      if (value === undefined) return undefined;
      sum += (counts.get(value) ?? 0) * Math.log(counts.size + 2) + (constraint.maxSkew - 1);
    }
    return Math.round(sum);
  });
  const known = raw.filter((one) => one !== undefined);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return raw.map((one) => (one === undefined ? 0 : most === 0 ? top : Math.floor((top * (most + least - one)) / most)));
}

/** Share of the pod's images that the node already has (its size is not known for built-in images). */
function imageLocality(pod: Pod, { node }: NodeState): number {
  const there = new Set((node.status?.images ?? []).flatMap((image) => image.names ?? []));
  const containers = pod.spec?.containers ?? [];
  return there.size === 0 || containers.length === 0
    ? 0
    : Math.floor((top * containers.filter((container) => there.has(container.image ?? "")).length) / containers.length);
}

function upTo(raw: readonly number[]): number[] {
  const most = Math.max(0, ...raw);
  return raw.map((one) => (most === 0 ? 0 : Math.floor((top * one) / most)));
}

function downTo(raw: readonly number[]): number[] {
  const most = Math.max(0, ...raw);
  return raw.map((one) => (most === 0 ? top : top - Math.floor((top * one) / most)));
}

function between(raw: readonly number[]): number[] {
  const [least, most] = [Math.min(...raw), Math.max(...raw)];
  return raw.map((one) => (most === least ? 0 : Math.floor((top * (one - least)) / (most - least))));
}
