/** Pure: which policies have to be looked at again when a pod, a namespace or a Service changed. Too many cost time; too few are bugs. */
import type { NetworkPolicy } from "@underlay/kube/objects";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { EgressRule, Peer } from "../compile/cluster-view.ts";

export type Labels = Readonly<Record<string, string>> | undefined;
/** The labels an object had and has: one or two of them. */
export type LabelVersions = readonly Labels[];

/** A pod came, went, or changed in what the compiler reads of it. `home` are the labels of its namespace. */
export function touchesPod(policy: NetworkPolicy, namespace: string, home: Labels, versions: LabelVersions): boolean {
  const own = policy.metadata.namespace === namespace;
  const { podSelector = {}, ingress = [], egress = [] } = policy.spec ?? {};
  const selected = (selector: Peer["podSelector"]) =>
    !selector || versions.some((labels) => matchesLabelSelector(selector, labels));
  if (own && selected(podSelector)) return true;
  if (ingress.some(({ from }) => from?.some((peer) => looksIn(peer, own, [home]) && selected(peer.podSelector)))) {
    return true;
  }
  return egress.some((rule) => {
    if ((rule.to ?? []).length === 0) return hasNames(rule);
    // With ports, a Service's port is followed to any pod behind it, whatever the peer selects.
    return rule.to?.some(
      (peer) => looksIn(peer, own, [home]) && (selected(peer.podSelector) || (rule.ports ?? []).length > 0),
    );
  });
}

/** A namespace came, went, or was labelled anew. */
export function touchesNamespace(policy: NetworkPolicy, versions: LabelVersions): boolean {
  const { ingress = [], egress = [] } = policy.spec ?? {};
  const peers = [...ingress.flatMap(({ from }) => from ?? []), ...egress.flatMap(({ to }) => to ?? [])];
  return (
    peers.some(({ namespaceSelector }) => versions.some((labels) => matchesLabelSelector(namespaceSelector, labels))) ||
    egress.some((rule) => (rule.to ?? []).length === 0 && hasNames(rule))
  );
}

/** A Service of this namespace changed: its address is an entry where an egress peer looks there. */
export function touchesService(policy: NetworkPolicy, namespace: string, home: Labels): boolean {
  const own = policy.metadata.namespace === namespace;
  return (policy.spec?.egress ?? []).some(({ to }) => to?.some((peer) => looksIn(peer, own, [home])));
}

function looksIn({ ipBlock, namespaceSelector }: Peer, own: boolean, homes: LabelVersions): boolean {
  if (ipBlock) return false;
  return namespaceSelector ? homes.some((labels) => matchesLabelSelector(namespaceSelector, labels)) : own;
}

function hasNames({ ports }: EgressRule): boolean {
  return (ports ?? []).some(({ port }) => typeof port === "string");
}
