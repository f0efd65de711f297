/**
 * Preemption: which pods of lower priority have to leave which node so that a pod fits. Pure.
 * As few and as unimportant victims as possible; disruption budgets are kept where there is a choice.
 */
import type { Pod } from "@underlay/kube/objects";
import { isPodTerminating } from "@underlay/kube/pod";
import { placedWeight, type NodeState, type PlacedPod } from "./cluster-state.ts";
import { ask, refuse } from "./decide.ts";
import { pinnedNode } from "./node-affinity.ts";
import type { NamespaceLabels } from "./pod-affinity.ts";

export type Preemption = { node: string; victims: Pod[] };
export type PreemptionAnswer =
  | { do: "preempt"; plan: Preemption }
  /** Nothing to gain, or not allowed: `why` is upstream's half sentence when it differs from the usual count. */
  | { do: "nothing"; why: string | undefined };

type Candidate = Preemption & { broken: number };

export function planPreemption(
  pod: Pod,
  nodes: readonly NodeState[],
  namespaceLabels: NamespaceLabels,
  breaksBudget: (pod: Pod) => boolean,
): PreemptionAnswer {
  if (pod.spec?.preemptionPolicy === "Never") {
    return { do: "nothing", why: "not eligible due to preemptionPolicy=Never." };
  }
  const nominated = nodes.find(({ node }) => node.metadata.name === pod.status?.nominatedNodeName);
  if (nominated && lowerThan(pod, nominated).some((one) => isPodTerminating(one.pod))) {
    return { do: "nothing", why: "not eligible due to a terminating pod on the nominated node." };
  }
  // The usual case, and the cheap way out of it: everybody is equal.
  if (!nodes.some((state) => lowerThan(pod, state).length > 0)) return { do: "nothing", why: undefined };
  const asking = ask(pod, nodes, namespaceLabels);
  const pinned = pinnedNode(pod.spec);
  const candidates: Candidate[] = [];
  for (const state of nodes) {
    if (pinned !== undefined && state.node.metadata.name !== pinned) continue;
    const refusal = refuse(asking, state);
    if (!refusal || refusal.final) continue;
    const candidate = victimsOn(pod, state, nodes, namespaceLabels, breaksBudget);
    if (candidate) candidates.push(candidate);
  }
  const [best] = candidates.sort(byHarm);
  return best ? { do: "preempt", plan: { node: best.node, victims: best.victims } } : { do: "nothing", why: undefined };
}

function victimsOn(
  pod: Pod,
  state: NodeState,
  nodes: readonly NodeState[],
  namespaceLabels: NamespaceLabels,
  breaksBudget: (pod: Pod) => boolean,
): Candidate | undefined {
  const lower = lowerThan(pod, state);
  if (lower.length === 0) return undefined;
  const kept = [...state.pods.values()].filter((one) => !lower.includes(one));
  const fitsWith = (placed: readonly PlacedPod[]) => {
    const tried = withPods(state, placed);
    const world = nodes.map((one) => (one === state ? tried : one));
    return refuse(ask(pod, world, namespaceLabels), tried) === undefined;
  };
  if (!fitsWith(kept)) return undefined;
  const victims: Pod[] = [];
  let broken = 0;
  // Spared first: those whose budget would break, then the important, then the old.
  for (const one of [...lower].sort((a, b) => spare(a.pod, b.pod, breaksBudget))) {
    if (fitsWith([...kept, one])) kept.push(one);
    else {
      victims.push(one.pod);
      if (breaksBudget(one.pod)) broken += 1;
    }
  }
  return { node: state.node.metadata.name ?? "", victims, broken };
}

function spare(a: Pod, b: Pod, breaksBudget: (pod: Pod) => boolean): number {
  const budget = Number(breaksBudget(b)) - Number(breaksBudget(a));
  return budget || priorityOf(b) - priorityOf(a) || (startOf(a) < startOf(b) ? -1 : 1);
}

/** Fewer broken budgets, then lower priorities, then fewer victims, then younger ones. */
function byHarm(a: Candidate, b: Candidate): number {
  const highest = (one: Candidate) => Math.max(...one.victims.map(priorityOf));
  const sum = (one: Candidate) => one.victims.reduce((total, victim) => total + priorityOf(victim), 0);
  const earliest = (one: Candidate) => one.victims.map(startOf).sort()[0] ?? "";
  return (
    a.broken - b.broken ||
    highest(a) - highest(b) ||
    sum(a) - sum(b) ||
    a.victims.length - b.victims.length ||
    (earliest(a) > earliest(b) ? -1 : 1)
  );
}

function lowerThan(pod: Pod, state: NodeState): PlacedPod[] {
  return [...state.pods.values()].filter((one) => priorityOf(one.pod) < priorityOf(pod));
}

export function priorityOf(pod: Pod): number {
  return pod.spec?.priority ?? 0;
}

function startOf(pod: Pod): string {
  return pod.status?.startTime ?? pod.metadata.creationTimestamp ?? "";
}

/** The node as it would be with exactly these pods. */
function withPods(state: NodeState, placed: readonly PlacedPod[]): NodeState {
  const { requested, weight } = placedWeight(placed);
  return { ...state, requested, weight, pods: new Map(placed.map((one, i) => [String(i), one])) };
}
