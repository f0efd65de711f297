/** nodeSelector and node affinity. Pure. */
import type { Node, PodSpec, Wire } from "@underlay/kube/objects";
import type { V1NodeSelectorTerm } from "@kubernetes/client-node";
import { hasLabels, matchesRequirement, type Requirement } from "@underlay/kube/selectors";

export type NodeSelectorTerm = Wire<V1NodeSelectorTerm>;

/** nodeSelector and the required terms (ORed; expressions in a term ANDed). */
export function matchesNodeAffinity(spec: PodSpec | undefined, node: Node): boolean {
  if (!hasLabels(spec?.nodeSelector, node.metadata.labels)) return false;
  const required = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required === undefined || required.nodeSelectorTerms.some((term) => matchesTerm(term, node));
}

/** A term without expressions matches nothing. */
export function matchesTerm(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  const named = { "metadata.name": node.metadata.name ?? "" };
  return (
    expressions.every((expression) => matchesRequirement(toRequirement(expression), node.metadata.labels)) &&
    fields.every((field) => matchesRequirement(toRequirement(field), named))
  );
}

/** The weights of the preferred terms that this node matches, added up. */
export function preferredNodeAffinity(spec: PodSpec | undefined, node: Node): number {
  return (spec?.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [])
    .filter(({ preference }) => matchesTerm(preference, node))
    .reduce((sum, { weight }) => sum + weight, 0);
}

/** The only node the required terms allow by name, as DaemonSets pin their pods. */
export function pinnedNode(spec: PodSpec | undefined): string | undefined {
  const terms = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  const names = terms.map(
    (term) => term.matchFields?.find((field) => field.key === "metadata.name" && field.operator === "In")?.values ?? [],
  );
  const [only] = names;
  return names.length > 0 && names.every((values) => values.length === 1 && values[0] === only?.[0])
    ? only?.[0]
    : undefined;
}

function toRequirement(expression: { key: string; operator: string; values?: string[] | undefined }): Requirement {
  return {
    key: expression.key,
    operator: expression.operator as Requirement["operator"],
    values: expression.values ?? [],
  };
}
