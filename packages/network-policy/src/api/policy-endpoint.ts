/**
 * PolicyEndpoint (networking.k8s.aws/v1alpha1): the wire from the controller to the agents, with upstream's schema and names.
 *
 * How the objects of one policy are read together. The three lists of a policy are split over as many objects as needed, each
 * list by itself, so a subject may stand in one object and the rules for it in another. Objects of one policy (`policyRef`) and one
 * variant (`variantOf`) form a set:
 * - a pod is isolated by the set in the directions `podIsolation` of the object that lists it in `podSelectorEndpoints`;
 * - the set allows it every entry of `ingress` (or `egress`) of all objects of the set;
 * - a pod in several sets (several policies) is allowed what any of them allows.
 * The controller writes allowances first, and names a subject only after every entry of its set is stored.
 */
import type { KubeObject, LabelSelector } from "@underlay/kube/objects";
import { resource } from "@underlay/kube/resources";

export type Direction = "Ingress" | "Egress";

export type PolicyEndpointPort = {
  /** TCP, UDP or SCTP; absent only in entries written by others, meaning every protocol. */
  protocol?: string;
  /** Absent: every port of the protocol. */
  port?: number;
  /** Inclusive end of a range that starts at `port`. */
  endPort?: number;
};

/** One remote side: allowed when the address is in `cidr`, in no `except`, and in one of `ports` (none: everything, ICMP too). */
export type PolicyEndpointEntry = {
  /** A CIDR as the policy has it (host bits possible), or a bare address. Absent in domain rules, which match no address here. */
  cidr?: string;
  except?: string[];
  ports?: PolicyEndpointPort[];
  domainName?: string;
};

/** A subject: one address of a pod the policy selects. A pod with two addresses is listed twice. */
export type PodEndpoint = { hostIP: string; podIP: string; name: string; namespace: string };

export type PolicyEndpointSpec = {
  podSelector?: LabelSelector;
  policyRef: { namespace: string; name: string };
  podIsolation?: Direction[];
  podSelectorEndpoints?: PodEndpoint[];
  ingress?: PolicyEndpointEntry[];
  egress?: PolicyEndpointEntry[];
};

export type PolicyEndpoint = KubeObject & { spec: PolicyEndpointSpec };

export const policyEndpoints = resource<PolicyEndpoint>({
  group: "networking.k8s.aws",
  version: "v1alpha1",
  kind: "PolicyEndpoint",
  plural: "policyendpoints",
  namespaced: true,
});

/** RFC 3339 time of the change that led to this state of the object; agents measure their latency from it. */
export const lastChangeTriggerTime = "networking.k8s.aws/last-change-trigger-time";

/**
 * Annotation of sets that hold only for pods whose named ports resolve to the same numbers, e.g. `http/TCP=8080`. Upstream's
 * schema has no such thing: there, the numbers of all subjects are united, which opens a port of one pod because another names it.
 */
export const variantAnnotation = "network-policy.underlay.test/named-ports";

/** Which set of its policy an object belongs to; "" where the policy needs no variants. */
export function variantOf(object: PolicyEndpoint): string {
  return object.metadata.annotations?.[variantAnnotation] ?? "";
}

/** "namespace/name" of the NetworkPolicy an object was made from. */
export function policyKeyOf({ spec: { policyRef } }: PolicyEndpoint): string {
  return `${policyRef.namespace}/${policyRef.name}`;
}

/** Entries a list of one object holds at most: what the controller of EKS behaves like (upstream's own default is 200). */
export const defaultChunkSize = 1000;

/** Keeps a NetworkPolicy until its PolicyEndpoints are gone. */
export const policyFinalizer = "networking.k8s.aws/resources";
