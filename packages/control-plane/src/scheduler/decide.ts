/**
 * Where a pod goes: filters, then scores, over the cluster's state. Pure but for the tie-break, which is passed in.
 * The words of a refusal are upstream's, since people and scripts read them.
 */
import type { Pod } from "@underlay/kube/objects";
import { podHostPorts, podRequests, type ResourceAmounts } from "@underlay/kube/pod";
import type { HostPort, NodeState } from "./cluster-state.ts";
import { matchesNodeAffinity, pinnedNode } from "./node-affinity.ts";
import { podAffinityState, podAffinityVerdict, type NamespaceLabels, type PodAffinityState } from "./pod-affinity.ts";
import { scoreNodes } from "./scores.ts";
import { spreadCounts, spreadVerdict, type SpreadCounts } from "./topology-spread.ts";
import { tolerates, untoleratedTaint } from "./taints.ts";

/** Why a node will not do. `final` reasons would stay if other pods left (preemption cannot help). */
export type Refusal = { reasons: string[]; final: boolean };
/** `message` is the whole sentence, `refusals` its half before preemption. */
export type Decision = { ok: true; node: string } | { ok: false; message: string; refusals: string };

/** The facts about the pod that filters share. */
export type Asking = {
  readonly pod: Pod;
  readonly requests: ResourceAmounts;
  readonly ports: readonly HostPort[];
  readonly affinity: PodAffinityState;
  readonly spread: readonly SpreadCounts[];
};

export function decide(
  pod: Pod,
  nodes: readonly NodeState[],
  namespaceLabels: NamespaceLabels,
  random: () => number,
): Decision {
  const nowhere = "no nodes available to schedule pods";
  if (nodes.length === 0) return { ok: false, message: nowhere, refusals: nowhere };
  const asking = ask(pod, nodes, namespaceLabels);
  const pinned = pinnedNode(pod.spec);
  const fitting: NodeState[] = [];
  const refusals: Refusal[] = [];
  for (const node of nodes) {
    const refusal = pinned !== undefined && node.node.metadata.name !== pinned ? notPinned : refuse(asking, node);
    if (refusal) refusals.push(refusal);
    else fitting.push(node);
  }
  if (fitting.length === 0) {
    return { ok: false, message: explain(refusals), refusals: explainRefusals(refusals) };
  }
  const best = fitting.length === 1 ? fitting[0] : pick(scoreNodes(pod, fitting, nodes, namespaceLabels), random);
  return { ok: true, node: best?.node.metadata.name ?? "" };
}

const notPinned: Refusal = { reasons: ["node(s) didn't satisfy plugin(s) [NodeAffinity]"], final: true };

export function ask(pod: Pod, nodes: readonly NodeState[], namespaceLabels: NamespaceLabels): Asking {
  return {
    pod,
    requests: podRequests(pod),
    ports: podHostPorts(pod),
    affinity: podAffinityState(pod, nodes, namespaceLabels),
    spread: spreadCounts(pod, nodes, "DoNotSchedule"),
  };
}

/** The first filter that says no, in upstream's order; undefined when the pod fits. */
export function refuse(asking: Asking, state: NodeState): Refusal | undefined {
  const { pod } = asking;
  const { node } = state;
  const tolerations = pod.spec?.tolerations ?? [];
  const cordon = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
  if (node.spec?.unschedulable && !tolerations.some((toleration) => tolerates(toleration, cordon)))
    return final("node(s) were unschedulable");
  const taint = untoleratedTaint(node, tolerations);
  if (taint) return final(`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`);
  if (!matchesNodeAffinity(pod.spec, node)) return final("node(s) didn't match Pod's node affinity/selector");
  if (asking.ports.some((port) => portTaken(port, state)))
    return passing("node(s) didn't have free ports for the requested pod ports");
  const short = shortages(asking.requests, state);
  if (short) return short;
  switch (spreadVerdict(asking.spread, node.metadata.labels)) {
    case "missing-label":
      return final("node(s) didn't match pod topology spread constraints (missing required label)");
    case "skew":
      return passing("node(s) didn't match pod topology spread constraints");
    case "ok":
  }
  switch (podAffinityVerdict(asking.affinity, node.metadata.labels)) {
    case "affinity":
      return final("node(s) didn't match pod affinity rules");
    case "anti-affinity":
      return passing("node(s) didn't match pod anti-affinity rules");
    case "existing-anti-affinity":
      return passing("node(s) didn't satisfy existing pods anti-affinity rules");
    case "ok":
  }
  return undefined;
}

function shortages(requests: ResourceAmounts, state: NodeState): Refusal | undefined {
  const reasons: string[] = [];
  let never = false;
  if (state.pods.size + 1 > (state.allocatable["pods"] ?? 0)) reasons.push("Too many pods");
  for (const [name, amount] of Object.entries(requests)) {
    if (amount === 0) continue;
    const allocatable = state.allocatable[name] ?? 0;
    if (amount > allocatable - (state.requested[name] ?? 0)) reasons.push(`Insufficient ${name}`);
    if (amount > allocatable) never = true;
  }
  return reasons.length > 0 ? { reasons, final: never } : undefined;
}

function portTaken(wanted: HostPort, state: NodeState): boolean {
  const any = (address: string) => address === "0.0.0.0";
  for (const { ports } of state.pods.values()) {
    for (const taken of ports) {
      if (taken.port !== wanted.port || taken.protocol !== wanted.protocol) continue;
      if (any(taken.hostIP) || any(wanted.hostIP) || taken.hostIP === wanted.hostIP) return true;
    }
  }
  return false;
}

/** `0/3 nodes are available: 1 Too many pods, 2 node(s) didn't match … . preemption: 0/3 nodes are available: …` */
function explain(refusals: readonly Refusal[]): string {
  const none = `0/${refusals.length} nodes are available: `;
  const preemption = countReasons(
    refusals.map((refusal) =>
      refusal.final ? "Preemption is not helpful for scheduling" : "No preemption victims found for incoming pod",
    ),
  );
  return `${explainRefusals(refusals)} preemption: ${none}${preemption}.`;
}

function explainRefusals(refusals: readonly Refusal[]): string {
  return `0/${refusals.length} nodes are available: ${countReasons(refusals.flatMap((refusal) => refusal.reasons))}.`;
}

/** A refusal that has nothing to do with any one node. */
export function explainForAll(problem: string, nodes: number): string {
  const none = `0/${nodes} nodes are available: `;
  return `${none}${problem}. preemption: ${none}${nodes} Preemption is not helpful for scheduling.`;
}

function countReasons(reasons: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts]
    .map(([reason, count]) => `${count} ${reason}`)
    .sort()
    .join(", ");
}

function pick(scored: readonly { state: NodeState; score: number }[], random: () => number): NodeState | undefined {
  const highest = Math.max(...scored.map(({ score }) => score));
  const best = scored.filter(({ score }) => score === highest);
  return best[Math.floor(random() * best.length)]?.state;
}

function final(reason: string): Refusal {
  return { reasons: [reason], final: true };
}

function passing(reason: string): Refusal {
  return { reasons: [reason], final: false };
}
