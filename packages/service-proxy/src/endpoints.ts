/** Which endpoints a packet may go to: chosen once for the whole cluster and once for this node. */
import type { EndpointSlice, Service } from "@underlay/kube/objects";

export interface Endpoint {
  readonly address: string;
  readonly port: number;
  /** It runs on this node. */
  readonly isLocal: boolean;
}

/** What the choice depends on besides the endpoints: who and where we are. */
export interface NodePlace {
  readonly name: string;
  readonly zone: string | undefined;
}

export interface EndpointChoice {
  /** For traffic policy Cluster. */
  readonly cluster: Endpoint[];
  /** For traffic policy Local. */
  readonly local: Endpoint[];
  /** Some endpoint could serve, here or elsewhere. */
  readonly any: boolean;
  /** Ready endpoints on this node: what health checks of load balancers ask for. */
  readonly localReady: number;
}

interface Candidate extends Endpoint {
  readonly ready: boolean;
  readonly servesWhileTerminating: boolean;
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}

type ServicePort = NonNullable<NonNullable<Service["spec"]>["ports"]>[number];

/** The endpoints of one service port out of the service's slices of one family. */
export function chooseEndpoints(
  slices: readonly EndpointSlice[],
  port: Pick<ServicePort, "name" | "protocol">,
  node: NodePlace,
): EndpointChoice {
  const candidates = readCandidates(slices, port, node);
  const ready = candidates.filter((one) => one.ready);
  const leaving = candidates.filter((one) => one.servesWhileTerminating);
  // A rolling update of the last pod must not black-hole: those that end go on serving while nobody is ready.
  const usable = ready.length > 0 ? nearest(ready, node) : leaving;
  const localReady = ready.filter((one) => one.isLocal);
  const local = localReady.length > 0 ? localReady : leaving.filter((one) => one.isLocal);
  return { cluster: usable.map(bare), local: local.map(bare), any: usable.length > 0, localReady: localReady.length };
}

/** Topology hints count only when every ready endpoint has them and one names us. */
function nearest(ready: Candidate[], node: NodePlace): Candidate[] {
  const here = ready.filter((one) => one.nodes.includes(node.name));
  if (here.length > 0 && ready.every((one) => one.nodes.length > 0)) return here;
  const { zone } = node;
  if (zone === undefined) return ready;
  const inZone = ready.filter((one) => one.zones.includes(zone));
  return inZone.length > 0 && ready.every((one) => one.zones.length > 0) ? inZone : ready;
}

function readCandidates(
  slices: readonly EndpointSlice[],
  port: Pick<ServicePort, "name" | "protocol">,
  node: NodePlace,
): Candidate[] {
  // Slices may show one address twice; the last word counts.
  const found = new Map<string, Candidate>();
  for (const slice of slices) {
    const match = (slice.ports ?? []).find(
      (one) => (one.name ?? "") === (port.name ?? "") && (one.protocol ?? "TCP") === (port.protocol ?? "TCP"),
    );
    if (match?.port === undefined) continue;
    for (const endpoint of slice.endpoints ?? []) {
      const [address] = endpoint.addresses;
      if (address === undefined) continue;
      const ready = endpoint.conditions?.ready ?? true;
      const serving = endpoint.conditions?.serving ?? ready;
      found.set(`${address} ${match.port}`, {
        address,
        port: match.port,
        isLocal: endpoint.nodeName === node.name,
        ready,
        servesWhileTerminating: serving && (endpoint.conditions?.terminating ?? false),
        zones: (endpoint.hints?.forZones ?? []).map(({ name }) => name),
        nodes: (endpoint.hints?.forNodes ?? []).map(({ name }) => name),
      });
    }
  }
  return [...found.values()].sort((a, b) =>
    a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1,
  );
}

const bare = ({ address, port, isLocal }: Endpoint): Endpoint => ({ address, port, isLocal });

/** The wanted endpoints with as many as possible where they were: one that goes is replaced by the last. */
export function keepPositions(before: readonly Endpoint[], wanted: readonly Endpoint[]): Endpoint[] {
  const keyOf = (one: Endpoint): string => `${one.address} ${one.port}`;
  const left = new Map(wanted.map((one) => [keyOf(one), one]));
  const slots: (Endpoint | undefined)[] = before.map((one) => {
    const kept = left.get(keyOf(one));
    left.delete(keyOf(one));
    return kept;
  });
  slots.push(...left.values());
  const placed: Endpoint[] = [];
  while (slots.length > 0) {
    const first = slots.shift();
    if (first !== undefined) placed.push(first);
    else {
      while (slots.length > 0 && slots.at(-1) === undefined) slots.pop();
      const last = slots.pop();
      if (last !== undefined) placed.push(last);
    }
  }
  return placed;
}
