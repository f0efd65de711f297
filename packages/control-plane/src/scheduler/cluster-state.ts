/**
 * What the scheduler knows: nodes with what their pods take. Kept up by informer events plus assumptions about
 * pods it has just bound, so that a burst is decided without waiting for the API server's echo.
 */
import { keyOf, type Node, type Pod } from "@underlay/kube/objects";
import { amountsOf, isPodTerminal, podHostPorts, podRequests, type ResourceAmounts } from "@underlay/kube/pod";

export type PlacedPod = { readonly pod: Pod; readonly requests: ResourceAmounts; readonly ports: readonly HostPort[] };
export type HostPort = { readonly protocol: string; readonly hostIP: string; readonly port: number };
export type NodeState = {
  node: Node;
  allocatable: ResourceAmounts;
  /** Sums over the pods placed here. */
  readonly requested: ResourceAmounts;
  /** Sums in which a pod without requests counts a little, for scoring. */
  readonly weight: { cpu: number; memory: number };
  readonly pods: Map<string, PlacedPod>;
};

const assumedCpuMilli = 100;
const assumedMemory = 200 * 1024 * 1024;

export class ClusterState {
  readonly nodes = new Map<string, NodeState>();
  readonly #placements = new Map<string, string>();
  /** Pods on nodes we have not heard of yet. */
  readonly #waiting = new Map<string, Map<string, PlacedPod>>();

  setNode(node: Node): void {
    const name = node.metadata.name ?? "";
    const allocatable = amountsOf(node.status?.allocatable ?? node.status?.capacity);
    const known = this.nodes.get(name);
    if (known) {
      known.node = node;
      known.allocatable = allocatable;
      return;
    }
    const state: NodeState = { node, allocatable, requested: {}, weight: { cpu: 0, memory: 0 }, pods: new Map() };
    this.nodes.set(name, state);
    for (const [key, placed] of this.#waiting.get(name) ?? []) count(state, key, placed, 1);
    this.#waiting.delete(name);
  }

  removeNode(name: string): void {
    const state = this.nodes.get(name);
    if (state && state.pods.size > 0) this.#waiting.set(name, new Map(state.pods));
    this.nodes.delete(name);
  }

  /** Counts a pod where it runs, or no longer when it is over or has no node. */
  setPod(pod: Pod): void {
    const key = podKey(pod);
    const node = pod.spec?.nodeName;
    if (!node || isPodTerminal(pod)) {
      // An echo from before the binding must not undo an assumption; removePod and forget do.
      if (node) this.removePod(pod);
      return;
    }
    this.#place(key, node, pod);
  }

  /** Counts a pod on the node that is about to be bound. */
  assume(pod: Pod, node: string): void {
    this.#place(podKey(pod), node, pod);
  }

  removePod(pod: Pod): void {
    const key = podKey(pod);
    const node = this.#placements.get(key);
    if (node === undefined) return;
    this.#placements.delete(key);
    const state = this.nodes.get(node);
    const placed = state?.pods.get(key);
    if (state && placed) count(state, key, placed, -1);
    this.#waiting.get(node)?.delete(key);
  }

  isPlaced(pod: Pod): boolean {
    return this.#placements.has(podKey(pod));
  }

  #place(key: string, node: string, pod: Pod): void {
    this.removePod(pod);
    this.#placements.set(key, node);
    const placed: PlacedPod = { pod, requests: podRequests(pod), ports: podHostPorts(pod) };
    const state = this.nodes.get(node);
    if (state) return count(state, key, placed, 1);
    const waiting = this.#waiting.get(node) ?? new Map<string, PlacedPod>();
    this.#waiting.set(node, waiting.set(key, placed));
  }
}

/** What a pod weighs in scores. */
export function weightOf(requests: ResourceAmounts): { cpu: number; memory: number } {
  return { cpu: requests["cpu"] || assumedCpuMilli, memory: requests["memory"] || assumedMemory };
}

/** What a node's sums are with exactly these pods. */
export function placedWeight(placed: readonly PlacedPod[]): Pick<NodeState, "requested" | "weight"> {
  const requested: ResourceAmounts = {};
  const weight = { cpu: 0, memory: 0 };
  for (const { requests } of placed) {
    for (const [name, amount] of Object.entries(requests)) requested[name] = (requested[name] ?? 0) + amount;
    const own = weightOf(requests);
    weight.cpu += own.cpu;
    weight.memory += own.memory;
  }
  return { requested, weight };
}

function podKey(pod: Pod): string {
  return pod.metadata.uid ?? keyOf(pod);
}

function count(state: NodeState, key: string, placed: PlacedPod, sign: 1 | -1): void {
  if (sign > 0) state.pods.set(key, placed);
  else state.pods.delete(key);
  for (const [name, amount] of Object.entries(placed.requests))
    state.requested[name] = (state.requested[name] ?? 0) + sign * amount;
  const weight = weightOf(placed.requests);
  state.weight.cpu += sign * weight.cpu;
  state.weight.memory += sign * weight.memory;
}
