/** What the compiler reads of a cluster: namespaces, and the pods and Services of one. Built from lists here, from informers in the controller. */
import type { Namespace, NetworkPolicy, Pod, Service } from "@underlay/kube/objects";
import { isPodTerminal, podAddresses } from "@underlay/kube/pod";

export type ClusterView = {
  readonly namespaces: () => Iterable<Namespace>;
  readonly podsOf: (namespace: string) => Iterable<Pod>;
  readonly servicesOf: (namespace: string) => Iterable<Service>;
};

export type PolicySpec = NonNullable<NetworkPolicy["spec"]>;
export type IngressRule = NonNullable<PolicySpec["ingress"]>[number];
export type EgressRule = NonNullable<PolicySpec["egress"]>[number];
export type Peer = NonNullable<EgressRule["to"]>[number];
export type RulePort = NonNullable<EgressRule["ports"]>[number];

/** Written by ipamd (ANNOTATE_POD_IP) as soon as the address is known, before the kubelet reports it. */
const podAddressesAnnotation = "vpc.amazonaws.com/pod-ips";

/** The view of plain lists. */
export function viewOfLists(lists: {
  namespaces: readonly Namespace[];
  pods: readonly Pod[];
  services: readonly Service[];
}): ClusterView {
  const pods = Map.groupBy(lists.pods, (pod) => pod.metadata.namespace ?? "");
  const services = Map.groupBy(lists.services, (service) => service.metadata.namespace ?? "");
  return {
    namespaces: () => lists.namespaces,
    podsOf: (namespace) => pods.get(namespace) ?? [],
    servicesOf: (namespace) => services.get(namespace) ?? [],
  };
}

/** The addresses by which a pod takes part in policies: none before it has one, none once it is over (the address is reused). */
export function livePodAddresses(pod: Pod): string[] {
  if (isPodTerminal(pod)) return [];
  const reported = podAddresses(pod);
  if (reported.length > 0) return reported;
  const annotated = pod.metadata.annotations?.[podAddressesAnnotation] ?? "";
  return annotated
    .split(",")
    .map((address) => address.trim())
    .filter((address) => address !== "");
}

/** A pod on the node's own network is the node: policies do not select it. Its address still counts where a peer names it. */
export function canBeSubject(pod: Pod): boolean {
  return pod.spec?.hostNetwork !== true && livePodAddresses(pod).length > 0;
}
