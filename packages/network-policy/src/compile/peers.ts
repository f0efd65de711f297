/** Peers of rules as entries: pods by their addresses, Services by theirs, blocks as they stand. */
import { isCidr } from "@underlay/addr/cidr";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { Pod, Service } from "@underlay/kube/objects";
import type { PolicyEndpointEntry, PolicyEndpointPort } from "../api/policy-endpoint.ts";
import { livePodAddresses, type ClusterView, type Peer } from "./cluster-view.ts";
import { portsOfService, portsTowardsPod, portsWithoutNames, type RulePorts } from "./ports.ts";

export const everywhere: readonly string[] = ["0.0.0.0/0", "::/0"];

/** Entries for the sources of an ingress rule, given the ports it opens on the subject. */
export function sourceEntries(
  peers: readonly Peer[],
  ports: PolicyEndpointPort[],
  policyNamespace: string,
  view: ClusterView,
): PolicyEndpointEntry[] {
  if (peers.length === 0) return everywhere.map((cidr) => ({ cidr, ports }));
  return peers.flatMap((peer) => {
    if (peer.ipBlock) return blockEntries(peer.ipBlock, ports);
    const pods = namespacesOf(peer, policyNamespace, view).flatMap((namespace) => podsOfPeer(peer, namespace, view));
    return pods.flatMap((pod) => podEntries(pod, ports));
  });
}

/** Entries for the destinations of an egress rule; names among its ports are looked up in each destination. */
export function destinationEntries(
  peers: readonly Peer[],
  ports: RulePorts,
  policyNamespace: string,
  view: ClusterView,
): PolicyEndpointEntry[] {
  if (peers.length === 0) return anyDestination(ports, view);
  return peers.flatMap((peer) => {
    if (peer.ipBlock) {
      const numbers = portsWithoutNames(ports);
      return numbers ? blockEntries(peer.ipBlock, numbers) : [];
    }
    return namespacesOf(peer, policyNamespace, view).flatMap((namespace) => [
      ...podsOfPeer(peer, namespace, view).flatMap((pod) => podEntriesFor(pod, ports)),
      ...serviceEntries(peer, namespace, ports, view),
    ]);
  });
}

/** No `to`: every address for plain ports; a name means every pod that has it, and nothing outside, where there are no names. */
function anyDestination(ports: RulePorts, view: ClusterView): PolicyEndpointEntry[] {
  const numbers = portsWithoutNames(ports);
  const anywhere = numbers ? everywhere.map((cidr) => ({ cidr, ports: numbers })) : [];
  if (ports.named.length === 0) return anywhere;
  const named: RulePorts = { every: false, fixed: [], named: ports.named };
  const pods = [...view.namespaces()].flatMap(({ metadata }) => [...view.podsOf(metadata.name ?? "")]);
  return [...anywhere, ...pods.flatMap((pod) => podEntriesFor(pod, named))];
}

/** The namespaces a peer looks in: those its selector matches, else the policy's own. */
function namespacesOf({ namespaceSelector }: Peer, policyNamespace: string, view: ClusterView): string[] {
  if (!namespaceSelector) return [policyNamespace];
  return [...view.namespaces()]
    .filter(({ metadata }) => matchesLabelSelector(namespaceSelector, metadata.labels))
    .map(({ metadata }) => metadata.name ?? "");
}

function podsOfPeer({ podSelector }: Peer, namespace: string, view: ClusterView): Pod[] {
  const pods = [...view.podsOf(namespace)];
  return podSelector ? pods.filter(({ metadata }) => matchesLabelSelector(podSelector, metadata.labels)) : pods;
}

function podEntriesFor(pod: Pod, ports: RulePorts): PolicyEndpointEntry[] {
  const numbers = portsTowardsPod(ports, pod);
  return numbers ? podEntries(pod, numbers) : [];
}

function podEntries(pod: Pod, ports: PolicyEndpointPort[]): PolicyEndpointEntry[] {
  return livePodAddresses(pod).map((cidr) => ({ cidr, ports }));
}

/** Services whose own selector, read as labels, the peer's selector matches: upstream's way to find those in front of the peer's pods. */
function serviceEntries(peer: Peer, namespace: string, ports: RulePorts, view: ClusterView): PolicyEndpointEntry[] {
  return [...view.servicesOf(namespace)].flatMap((service) => {
    const cidr = clusterIpOf(service);
    const selector = service.spec?.selector ?? {};
    if (!cidr || (peer.podSelector && !matchesLabelSelector(peer.podSelector, selector))) return [];
    const backends = [...view.podsOf(namespace)].filter(({ metadata }) =>
      matchesLabelSelector({ matchLabels: selector }, metadata.labels),
    );
    const numbers = portsOfService(ports, service, backends);
    return numbers ? [{ cidr, ports: numbers }] : [];
  });
}

function clusterIpOf({ spec }: Service): string | undefined {
  return spec?.clusterIP && spec.clusterIP !== "None" ? spec.clusterIP : undefined;
}

/** As the policy has it. An API server refuses a block that is none; should one come anyway, it allows nothing rather than stop an agent. */
function blockEntries(
  { cidr, except }: { cidr: string; except?: string[] | undefined },
  ports: PolicyEndpointPort[],
): PolicyEndpointEntry[] {
  if (![cidr, ...(except ?? [])].every(isCidr)) return [];
  return [{ cidr, ...(except ? { except } : {}), ports }];
}
