/** Inter-pod affinity and anti-affinity: what a pod asks of its neighbours and what placed pods ask of it. Pure. */
import type { V1PodAffinityTerm } from "@kubernetes/client-node";
import type { LabelSelector, Pod, Wire } from "@underlay/kube/objects";
import { matchesRequirements, requirementsOf, type Requirement } from "@underlay/kube/selectors";
import type { NodeState } from "./cluster-state.ts";

export type PodAffinityTerm = Wire<V1PodAffinityTerm>;
export type NamespaceLabels = (namespace: string) => Record<string, string> | undefined;

export type PodAffinityState = {
  /** Per required affinity term of the pod: the topology values where a matching pod is. */
  readonly affinity: readonly { key: string; values: Set<string> }[];
  /** The pod would match its own terms, so the first of a group may go anywhere. */
  readonly matchesItself: boolean;
  /** "key=value" places the pod's own anti-affinity forbids. */
  readonly forbiddenByPod: Set<string>;
  /** "key=value" places that placed pods' anti-affinity forbids to this pod. */
  readonly forbiddenByOthers: Set<string>;
};

export function podAffinityState(
  pod: Pod,
  nodes: Iterable<NodeState>,
  namespaceLabels: NamespaceLabels,
): PodAffinityState {
  const affinityTerms = pod.spec?.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  const antiTerms = pod.spec?.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  const wanted = affinityTerms.map((term) => termMatcher(term, pod, namespaceLabels));
  const unwanted = antiTerms.map((term) => termMatcher(term, pod, namespaceLabels));
  const state = {
    affinity: affinityTerms.map((term) => ({ key: term.topologyKey, values: new Set<string>() })),
    matchesItself: wanted.every((matches) => matches(pod)),
    forbiddenByPod: new Set<string>(),
    forbiddenByOthers: new Set<string>(),
  };
  for (const node of nodes) {
    const labels = node.node.metadata.labels ?? {};
    for (const { pod: other } of node.pods.values()) {
      // Upstream counts a pod for affinity only when it matches all terms together.
      if (wanted.length > 0 && wanted.every((matches) => matches(other))) {
        for (const term of state.affinity) if (labels[term.key] !== undefined) term.values.add(labels[term.key]!);
      }
      for (const [i, term] of antiTerms.entries()) {
        const value = labels[term.topologyKey];
        if (value !== undefined && unwanted[i]?.(other)) state.forbiddenByPod.add(`${term.topologyKey}=${value}`);
      }
      for (const term of other.spec?.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []) {
        const value = labels[term.topologyKey];
        if (value !== undefined && termMatcher(term, other, namespaceLabels)(pod))
          state.forbiddenByOthers.add(`${term.topologyKey}=${value}`);
      }
    }
  }
  return state;
}

export type PodAffinityVerdict = "ok" | "affinity" | "anti-affinity" | "existing-anti-affinity";

export function podAffinityVerdict(state: PodAffinityState, labels: Record<string, string> = {}): PodAffinityVerdict {
  const known = state.affinity.every(({ key }) => labels[key] !== undefined);
  const near = state.affinity.every(({ key, values }) => values.has(labels[key] ?? ""));
  const first = state.affinity.every(({ values }) => values.size === 0) && state.matchesItself;
  if (state.affinity.length > 0 && !(known && (near || first))) return "affinity";
  const at = Object.entries(labels);
  if (state.forbiddenByPod.size > 0 && at.some(([key, value]) => state.forbiddenByPod.has(`${key}=${value}`)))
    return "anti-affinity";
  if (state.forbiddenByOthers.size > 0 && at.some(([key, value]) => state.forbiddenByOthers.has(`${key}=${value}`)))
    return "existing-anti-affinity";
  return "ok";
}

/** Weights per "key=value" from preferred terms: the pod's own, and (symmetrically) those of placed pods about it. */
export function preferredPodAffinity(
  pod: Pod,
  nodes: Iterable<NodeState>,
  namespaceLabels: NamespaceLabels,
): Map<string, number> {
  const weights = new Map<string, number>();
  const own = weightedTerms(pod).map((one) => ({ ...one, matches: termMatcher(one.term, pod, namespaceLabels) }));
  for (const node of nodes) {
    const labels = node.node.metadata.labels ?? {};
    const add = (key: string, weight: number) => {
      const value = labels[key];
      if (value !== undefined) weights.set(`${key}=${value}`, (weights.get(`${key}=${value}`) ?? 0) + weight);
    };
    for (const { pod: other } of node.pods.values()) {
      for (const { term, weight, matches } of own) if (matches(other)) add(term.topologyKey, weight);
      if (!other.spec?.affinity) continue;
      for (const { term, weight } of weightedTerms(other))
        if (termMatcher(term, other, namespaceLabels)(pod)) add(term.topologyKey, weight);
      for (const term of other.spec.affinity.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []) {
        if (termMatcher(term, other, namespaceLabels)(pod)) add(term.topologyKey, 1);
      }
    }
  }
  return weights;
}

function weightedTerms(pod: Pod): { term: PodAffinityTerm; weight: number }[] {
  const affinity = pod.spec?.affinity;
  const near = affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  const far = affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return [
    ...near.map(({ podAffinityTerm, weight }) => ({ term: podAffinityTerm, weight })),
    ...far.map(({ podAffinityTerm, weight }) => ({ term: podAffinityTerm, weight: -weight })),
  ];
}

/** Whether a pod is one that `owner`'s term talks about. */
function termMatcher(term: PodAffinityTerm, owner: Pod, namespaceLabels: NamespaceLabels): (pod: Pod) => boolean {
  const requirements = term.labelSelector ? selectorOf(term, owner) : undefined;
  const namespaces = new Set(term.namespaces ?? []);
  const byLabels = term.namespaceSelector ? requirementsOf(term.namespaceSelector) : undefined;
  if (namespaces.size === 0 && !byLabels) namespaces.add(owner.metadata.namespace ?? "");
  return (pod) => {
    if (!requirements) return false;
    const namespace = pod.metadata.namespace ?? "";
    const inScope =
      namespaces.has(namespace) ||
      (byLabels !== undefined && matchesRequirements(byLabels, namespaceLabels(namespace)));
    return inScope && matchesRequirements(requirements, pod.metadata.labels);
  };
}

function selectorOf(term: PodAffinityTerm, owner: Pod): Requirement[] {
  const requirements = requirementsOf(term.labelSelector as LabelSelector);
  for (const [keys, operator] of [
    [term.matchLabelKeys, "In"],
    [term.mismatchLabelKeys, "NotIn"],
  ] as const) {
    for (const key of keys ?? []) {
      const value = owner.metadata.labels?.[key];
      if (value !== undefined) requirements.push({ key, operator, values: [value] });
    }
  }
  return requirements;
}
