/**
 * A plain reading of the NetworkPolicy API: policies, namespaces, pods and one packet → may it pass, and what decided.
 * It shares no code with the compiler, which is held against it with random clusters, and it says why in words people use.
 * The packet is the first of a flow, with its destination after translation; replies need no verdict of their own.
 */
import type { Namespace, NetworkPolicy, Pod } from "@underlay/kube/objects";
import { isInBlock, sameAddress } from "./block.ts";
import { selects } from "./selector.ts";

export type Cluster = {
  readonly policies: readonly NetworkPolicy[];
  readonly namespaces: readonly Namespace[];
  readonly pods: readonly Pod[];
};
export type Packet = {
  readonly source: string;
  readonly destination: string;
  readonly protocol: "TCP" | "UDP" | "SCTP" | "ICMP";
  /** Destination port; ICMP has none. */
  readonly port?: number;
};
type Direction = "Ingress" | "Egress";

/** What one end of the flow says. Indexes count in the policy as written; `peer` or `port` is absent where the rule lists none. */
export type Decision =
  | { allowed: true; because: "not a pod" | "same pod" | "own node" | "not isolated" }
  | { allowed: true; because: "rule"; policy: string; rule: number; peer?: number; port?: number }
  | { allowed: false; because: "no rule"; pod: string; policies: string[] };
export type Verdict = { readonly allowed: boolean; readonly egress: Decision; readonly ingress: Decision };

/** A flow needs both ends: egress where it starts, ingress where it ends. */
export function judge(cluster: Cluster, packet: Packet): Verdict {
  const egress = decide(cluster, "Egress", packet);
  const ingress = decide(cluster, "Ingress", packet);
  return { allowed: egress.allowed && ingress.allowed, egress, ingress };
}

/** One line of a decision, for `underlay trace` and test failures. */
export function describe(direction: Direction, decision: Decision): string {
  const way = direction.toLowerCase();
  switch (decision.because) {
    case "rule": {
      const list = direction === "Ingress" ? "from" : "to";
      const peer = decision.peer === undefined ? "" : `.${list}[${decision.peer}]`;
      const port = decision.port === undefined ? "" : `, ports[${decision.port}]`;
      return `${way} allowed by ${decision.policy}: ${way}[${decision.rule}]${peer}${port}`;
    }
    case "no rule":
      return `${way} of ${decision.pod} denied: isolated by ${decision.policies.join(", ")}, and no rule of these allows it`;
    default:
      return `${way} allowed: ${decision.because}`;
  }
}

function decide(cluster: Cluster, direction: Direction, packet: Packet): Decision {
  const [own, other] =
    direction === "Ingress" ? [packet.destination, packet.source] : [packet.source, packet.destination];
  const pod = holdersOf(own, cluster).find((holder) => !holder.spec?.hostNetwork);
  if (!pod) return { allowed: true, because: "not a pod" };
  if (addressesOf(pod).some((address) => sameAddress(address, other))) return { allowed: true, because: "same pod" };
  if (nodeAddressesOf(pod).some((address) => sameAddress(address, other)))
    return { allowed: true, because: "own node" };

  const isolating = cluster.policies.filter((policy) => isolates(policy, pod, direction));
  if (isolating.length === 0) return { allowed: true, because: "not isolated" };
  const destination = holdersOf(packet.destination, cluster);
  for (const policy of isolating) {
    const found = findRule(policy, direction, other, packet, direction === "Ingress" ? [pod] : destination, cluster);
    if (found) return { allowed: true, because: "rule", policy: nameOf(policy), ...found };
  }
  return { allowed: false, because: "no rule", pod: nameOf(pod), policies: isolating.map(nameOf) };
}

function isolates(policy: NetworkPolicy, pod: Pod, direction: Direction): boolean {
  const { podSelector = {}, policyTypes, egress } = policy.spec ?? {};
  if (policy.metadata.namespace !== pod.metadata.namespace || !selects(podSelector, pod.metadata.labels)) return false;
  if (policyTypes?.length) return policyTypes.includes(direction);
  return direction === "Ingress" || (egress?.length ?? 0) > 0;
}

type Found = { rule: number; peer?: number; port?: number };

/** The first rule that lets the packet pass. */
function findRule(
  policy: NetworkPolicy,
  direction: Direction,
  other: string,
  packet: Packet,
  destination: readonly Pod[],
  cluster: Cluster,
): Found | undefined {
  const rules =
    direction === "Ingress"
      ? (policy.spec?.ingress ?? []).map(({ from, ports }) => ({ peers: from ?? [], ports: ports ?? [] }))
      : (policy.spec?.egress ?? []).map(({ to, ports }) => ({ peers: to ?? [], ports: ports ?? [] }));
  for (const [rule, { peers, ports }] of rules.entries()) {
    // Without peers every address will do; `undefined` stands for that.
    for (const [index, peer] of peers.length > 0 ? peers.entries() : [[-1, undefined] as const]) {
      const behind = peer ? peerPods(peer, policy.metadata.namespace ?? "", cluster) : undefined;
      const matching = holdersOf(other, cluster).filter((pod) => behind?.includes(pod));
      const isPeer = peer?.ipBlock ? inIpBlock(other, peer.ipBlock) : behind === undefined || matching.length > 0;
      if (!isPeer) continue;
      // A name means the ports of the pods this peer speaks of; a block speaks of none.
      const named =
        direction === "Ingress" || !peer
          ? destination
          : peer.ipBlock
            ? []
            : destination.filter((p) => matching.includes(p));
      const port = ports.findIndex((one) => admits(one, packet, named));
      if (ports.length > 0 && port < 0) continue;
      return { rule, ...(index >= 0 ? { peer: index } : {}), ...(port >= 0 ? { port } : {}) };
    }
  }
  return undefined;
}

type Peer = NonNullable<NonNullable<NonNullable<NetworkPolicy["spec"]>["egress"]>[number]["to"]>[number];
type Port = NonNullable<NonNullable<NonNullable<NetworkPolicy["spec"]>["egress"]>[number]["ports"]>[number];

function peerPods(
  { podSelector, namespaceSelector, ipBlock }: Peer,
  home: string,
  { namespaces, pods }: Cluster,
): Pod[] {
  if (ipBlock) return [];
  const within = namespaceSelector
    ? namespaces.filter(({ metadata }) => selects(namespaceSelector, metadata.labels)).map(nameOf)
    : [home];
  return pods.filter(
    ({ metadata }) =>
      within.includes(metadata.namespace ?? "") && (!podSelector || selects(podSelector, metadata.labels)),
  );
}

function inIpBlock(address: string, { cidr, except }: NonNullable<Peer["ipBlock"]>): boolean {
  return isInBlock(address, cidr) && !(except ?? []).some((hole) => isInBlock(address, hole));
}

function admits({ protocol = "TCP", port, endPort }: Port, packet: Packet, named: readonly Pod[]): boolean {
  if (protocol !== packet.protocol) return false;
  if (port === undefined) return true;
  if (packet.port === undefined) return false;
  if (typeof port === "string") return named.some((pod) => serves(pod, port, protocol, packet.port));
  return endPort ? packet.port >= port && packet.port <= endPort : packet.port === port;
}

/** A container that runs beside the others, or a sidecar, declares this name for this port. */
function serves(pod: Pod, name: string, protocol: string, number: number | undefined): boolean {
  const sidecars = (pod.spec?.initContainers ?? []).filter((one) => one.restartPolicy === "Always");
  const running = [...sidecars, ...(pod.spec?.containers ?? [])];
  return running.some((container) =>
    container.ports?.some(
      (port) => port.name === name && (port.protocol ?? "TCP") === protocol && port.containerPort === number,
    ),
  );
}

function holdersOf(address: string, { pods }: Cluster): Pod[] {
  return pods.filter((pod) => addressesOf(pod).some((own) => sameAddress(own, address)));
}

/** Over is over: the address of a completed pod is somebody else's. */
function addressesOf({ status }: Pod): string[] {
  if (!status || status.phase === "Succeeded" || status.phase === "Failed") return [];
  const listed = (status.podIPs ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
  return listed.length > 0 || !status.podIP ? listed : [status.podIP];
}

function nodeAddressesOf({ status }: Pod): string[] {
  const listed = (status?.hostIPs ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
  return listed.length > 0 || !status?.hostIP ? listed : [status.hostIP];
}

function nameOf({
  metadata: { namespace, name = "" },
}: {
  metadata: { namespace?: string | undefined; name?: string | undefined };
}) {
  return namespace ? `${namespace}/${name}` : name;
}
