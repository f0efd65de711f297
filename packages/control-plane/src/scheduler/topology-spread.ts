/** Topology spread constraints: matching pods per topology value, and what one more would do to the skew. Pure. */
import type { V1TopologySpreadConstraint } from "@kubernetes/client-node";
import { controllerOf, type Pod, type Wire } from "@underlay/kube/objects";
import { isPodTerminating } from "@underlay/kube/pod";
import { matchesRequirements, requirementsOf, type Requirement } from "@underlay/kube/selectors";
import type { NodeState } from "./cluster-state.ts";
import { matchesNodeAffinity } from "./node-affinity.ts";
import { untoleratedTaint } from "./taints.ts";

export type SpreadConstraint = Wire<V1TopologySpreadConstraint>;
export type SpreadCounts = {
  readonly constraint: SpreadConstraint;
  readonly matchesItself: boolean;
  readonly counts: Map<string, number>;
};

/** Counts for the constraints of one kind, over the nodes that are candidates at all. */
export function spreadCounts(
  pod: Pod,
  nodes: readonly NodeState[],
  kind: "DoNotSchedule" | "ScheduleAnyway",
): SpreadCounts[] {
  const constraints = (pod.spec?.topologySpreadConstraints ?? []).filter(
    (constraint) => constraint.whenUnsatisfiable === kind,
  );
  if (constraints.length === 0) return [];
  const eligible = nodes.filter(({ node }) =>
    constraints.every(({ topologyKey }) => node.metadata.labels?.[topologyKey] !== undefined),
  );
  return constraints.map((constraint) => {
    const requirements = selectorOf(constraint, pod);
    const matches = (other: Pod) => matchesRequirements(requirements, other.metadata.labels);
    return { constraint, matchesItself: matches(pod), counts: countBy(constraint, pod, eligible, matches) };
  });
}

/** As upstream's default constraints: spread the pods of one controller over hosts and zones. */
export function defaultSpreadCounts(pod: Pod, nodes: readonly NodeState[]): SpreadCounts[] {
  const owner = controllerOf(pod)?.uid;
  if (owner === undefined || (pod.spec?.topologySpreadConstraints ?? []).length > 0) return [];
  const matches = (other: Pod) => controllerOf(other)?.uid === owner;
  return [
    { topologyKey: "kubernetes.io/hostname", maxSkew: 3 },
    { topologyKey: "topology.kubernetes.io/zone", maxSkew: 5 },
  ].map((shape) => {
    const constraint: SpreadConstraint = { ...shape, whenUnsatisfiable: "ScheduleAnyway" };
    return { constraint, matchesItself: true, counts: countBy(constraint, pod, nodes, matches) };
  });
}

export type SpreadVerdict = "ok" | "missing-label" | "skew";

export function spreadVerdict(all: readonly SpreadCounts[], labels: Record<string, string> = {}): SpreadVerdict {
  for (const { constraint, matchesItself, counts } of all) {
    const value = labels[constraint.topologyKey];
    if (value === undefined) return "missing-label";
    const enoughDomains = counts.size >= (constraint.minDomains ?? 1);
    const least = enoughDomains ? Math.min(...counts.values()) : 0;
    if ((counts.get(value) ?? 0) + (matchesItself ? 1 : 0) - least > constraint.maxSkew) return "skew";
  }
  return "ok";
}

function countBy(
  constraint: SpreadConstraint,
  pod: Pod,
  nodes: readonly NodeState[],
  matches: (pod: Pod) => boolean,
): Map<string, number> {
  const counts = new Map<string, number>();
  for (const state of nodes) {
    const value = state.node.metadata.labels?.[constraint.topologyKey];
    if (value === undefined) continue;
    if ((constraint.nodeAffinityPolicy ?? "Honor") === "Honor" && !matchesNodeAffinity(pod.spec, state.node)) continue;
    if (constraint.nodeTaintsPolicy === "Honor" && untoleratedTaint(state.node, pod.spec?.tolerations)) continue;
    let count = counts.get(value) ?? 0;
    for (const { pod: other } of state.pods.values()) {
      if (other.metadata.namespace === pod.metadata.namespace && !isPodTerminating(other) && matches(other)) count += 1;
    }
    counts.set(value, count);
  }
  return counts;
}

function selectorOf(constraint: SpreadConstraint, pod: Pod): Requirement[] {
  // No selector selects nothing, which is what an impossible requirement does.
  if (!constraint.labelSelector) return [{ key: "", operator: "Exists", values: [] }];
  const requirements = requirementsOf(constraint.labelSelector);
  for (const key of constraint.matchLabelKeys ?? []) {
    const value = pod.metadata.labels?.[key];
    if (value !== undefined) requirements.push({ key, operator: "In", values: [value] });
  }
  return requirements;
}
