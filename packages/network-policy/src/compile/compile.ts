/**
 * The compiler: one NetworkPolicy and a view of the cluster → what its PolicyEndpoints say, not yet cut into objects (chunks.ts).
 * Pure, and without state: the same cluster always gives the same lists in the same order. It decides nothing about packets;
 * what a policy means for one is written down a second time, independently, in semantics/.
 *
 * A policy gives one set of lists, or one for each combination of numbers that its named ingress ports have in the pods it selects.
 */
import type { NetworkPolicy, Pod } from "@underlay/kube/objects";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { Direction, PodEndpoint, PolicyEndpointEntry, PolicyEndpointSpec } from "../api/policy-endpoint.ts";
import { canBeSubject, livePodAddresses, type ClusterView, type PolicySpec } from "./cluster-view.ts";
import { mergedEntries, sortedSubjects } from "./entries.ts";
import { destinationEntries, sourceEntries } from "./peers.ts";
import { numbersOf, resolved, rulePorts, type NamedPort } from "./ports.ts";

/** What all objects of one set say together. */
export type CompiledSet = {
  /** "" or what the named ports are, e.g. `http/TCP=8080`; goes into the annotation of the objects. */
  readonly variant: string;
  readonly policyRef: PolicyEndpointSpec["policyRef"];
  readonly podSelector: NonNullable<PolicyEndpointSpec["podSelector"]>;
  readonly podIsolation: Direction[];
  readonly subjects: PodEndpoint[];
  readonly ingress: PolicyEndpointEntry[];
  readonly egress: PolicyEndpointEntry[];
};

/** At least one set, also when the policy selects nothing. */
export function compilePolicy(policy: NetworkPolicy, view: ClusterView): CompiledSet[] {
  const spec = policy.spec ?? {};
  const namespace = policy.metadata.namespace ?? "";
  const podSelector = spec.podSelector ?? {};
  const podIsolation = effectiveTypes(spec);
  const egress = podIsolation.includes("Egress") ? mergedEntries(egressOf(spec, namespace, view)) : [];
  const subjects = [...view.podsOf(namespace)].filter(
    (pod) => canBeSubject(pod) && matchesLabelSelector(podSelector, pod.metadata.labels),
  );
  return variantsOf(spec, podIsolation, subjects).map(({ variant, pods, lookUp }) => ({
    variant,
    policyRef: { namespace, name: policy.metadata.name ?? "" },
    podSelector,
    podIsolation,
    subjects: sortedSubjects(pods.flatMap(podEndpoints)),
    ingress: podIsolation.includes("Ingress") ? mergedEntries(ingressOf(spec, namespace, view, lookUp)) : [],
    egress,
  }));
}

/** The server fills these in; the rule is the same here for objects that came another way. */
export function effectiveTypes(spec: PolicySpec): Direction[] {
  if (spec.policyTypes && spec.policyTypes.length > 0) {
    return (["Ingress", "Egress"] as const).filter((type) => spec.policyTypes?.includes(type));
  }
  return (spec.egress ?? []).length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
}

type LookUp = (named: NamedPort) => readonly number[];
type Variant = { variant: string; pods: Pod[]; lookUp: LookUp };

/** Subjects by what the named ports of the ingress rules are in them. */
function variantsOf(spec: PolicySpec, podIsolation: readonly Direction[], subjects: Pod[]): Variant[] {
  const rules = podIsolation.includes("Ingress") ? (spec.ingress ?? []) : [];
  const names = new Map<string, NamedPort>();
  for (const named of rules.flatMap(({ ports }) => rulePorts(ports).named)) names.set(nameKey(named), named);
  if (names.size === 0 || subjects.length === 0) return [{ variant: "", pods: subjects, lookUp: () => [] }];
  const sorted = [...names.values()].sort((a, b) => (nameKey(a) < nameKey(b) ? -1 : 1));
  const byVariant = Map.groupBy(subjects, (pod) =>
    sorted.map((named) => `${nameKey(named)}=${numbersOf(pod, named).join("+")}`).join(","),
  );
  return [...byVariant]
    .map(([variant, pods]) => ({ variant, pods, lookUp: (named: NamedPort) => numbersOf(pods[0]!, named) }))
    .sort((a, b) => (a.variant < b.variant ? -1 : 1));
}

const nameKey = ({ name, protocol }: NamedPort): string => `${name}/${protocol}`;

function ingressOf(spec: PolicySpec, namespace: string, view: ClusterView, lookUp: LookUp): PolicyEndpointEntry[] {
  return (spec.ingress ?? []).flatMap((rule) => {
    const ports = resolved(rulePorts(rule.ports), lookUp);
    return ports ? sourceEntries(rule.from ?? [], ports, namespace, view) : [];
  });
}

function egressOf(spec: PolicySpec, namespace: string, view: ClusterView): PolicyEndpointEntry[] {
  return (spec.egress ?? []).flatMap((rule) =>
    destinationEntries(rule.to ?? [], rulePorts(rule.ports), namespace, view),
  );
}

function podEndpoints(pod: Pod): PodEndpoint[] {
  const { name = "", namespace = "" } = pod.metadata;
  return livePodAddresses(pod).map((podIP) => ({ hostIP: pod.status?.hostIP ?? "", podIP, name, namespace }));
}
