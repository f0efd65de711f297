/**
 * The scheduler: watches pods without a node, decides where each goes, binds it.
 * Read next: decide.ts (filters and words), scores.ts, cluster-state.ts, queue.ts.
 */
import { isConflict, isNotFound, type KubeClient } from "@underlay/kube/client";
import { wireTime } from "@underlay/kube/conditions";
import type { EventRecorder } from "@underlay/kube/events";
import type { Informer } from "@underlay/kube/informer";
import {
  keyOf,
  type Namespace,
  type Node,
  type PersistentVolumeClaim,
  type Pod,
  type PodDisruptionBudget,
} from "@underlay/kube/objects";
import { isPodTerminal, isPodTerminating, podCondition } from "@underlay/kube/pod";
import { pods } from "@underlay/kube/resources";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { Log } from "@underlay/log/log";
import { ClusterState } from "./cluster-state.ts";
import { decide, explainForAll } from "./decide.ts";
import { planPreemption, priorityOf, type Preemption } from "./preempt.ts";
import { SchedulingQueue } from "./queue.ts";
import { volumeProblem } from "./volumes.ts";

export type SchedulerOptions = {
  client: KubeClient;
  recorder: EventRecorder;
  log: Log;
  signal: AbortSignal;
  informers: {
    pods: Informer<Pod>;
    nodes: Informer<Node>;
    namespaces: Informer<Namespace>;
    claims: Informer<PersistentVolumeClaim>;
    budgets: Informer<PodDisruptionBudget>;
  };
  schedulerName?: string;
  random?: () => number;
};

/** Bindings under way at once. */
const parallelBinds = 24;
/** Decisions in one go; between goes the watches get their turn. */
const batch = 64;

export async function runScheduler(options: SchedulerOptions): Promise<void> {
  const { informers, signal } = options;
  await Promise.all(Object.values(informers).map((informer) => informer.synced(signal)));
  const scheduler = new Scheduler(options);
  await new Promise<void>((done) => {
    if (signal.aborted) done();
    signal.addEventListener("abort", () => done(), { once: true });
  });
  scheduler.stop();
}

class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #name: string;
  readonly #random: () => number;
  readonly #state = new ClusterState();
  readonly #queue = new SchedulingQueue();
  /** Pods that made room for themselves on a node and wait for it. */
  readonly #nominated = new Map<string, Preemption & { pod: Pod }>();
  readonly #binds: (() => Promise<void>)[] = [];
  #binding = 0;
  #timer: NodeJS.Timeout | undefined;
  #soon = false;
  #stopped = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#name = options.schedulerName ?? "default-scheduler";
    this.#random = options.random ?? Math.random;
    const { nodes, pods: allPods, claims } = options.informers;
    claims.on({ add: () => this.#wake(), update: () => this.#wake() });
    nodes.on({
      add: (node) => this.#onNode(node),
      update: (old, node) => this.#onNode(node, old),
      delete: (node) => this.#state.removeNode(node.metadata.name ?? ""),
    });
    allPods.on({
      add: (pod) => this.#onPod(pod),
      update: (old, pod) => this.#onPod(pod, old),
      delete: (pod) => this.#onPodGone(pod),
    });
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #onNode(node: Node, old?: Node): void {
    this.#state.setNode(node);
    if (!old || schedulingFacts(old) !== schedulingFacts(node)) this.#wake();
  }

  #onPod(pod: Pod, old?: Pod): void {
    if (pod.spec?.nodeName || isPodTerminal(pod)) {
      this.#nominated.delete(pod.metadata.uid ?? "");
      this.#queue.remove(pod);
      this.#state.setPod(pod);
      // A pod that ended frees its share; one that came may be the affinity others wait for.
      if (isPodTerminal(pod) !== (old !== undefined && isPodTerminal(old)) || !old?.spec?.nodeName) this.#wake();
      return;
    }
    if (
      pod.metadata.deletionTimestamp ||
      pod.spec?.schedulerName !== this.#name ||
      (pod.spec.schedulingGates ?? []).length > 0
    ) {
      this.#queue.remove(pod);
      return;
    }
    if (this.#state.isPlaced(pod)) return;
    this.#queue.add(pod, performance.now(), old !== undefined && JSON.stringify(old.spec) !== JSON.stringify(pod.spec));
    this.#schedule();
  }

  #onPodGone(pod: Pod): void {
    this.#nominated.delete(pod.metadata.uid ?? "");
    this.#queue.remove(pod);
    this.#state.removePod(pod);
    this.#wake();
  }

  #wake(): void {
    this.#queue.wake();
    this.#schedule();
  }

  /** Runs a round as soon as a pod is ready for one. */
  #schedule(): void {
    if (this.#stopped || this.#soon) return;
    const wait = this.#queue.nextAt() - performance.now();
    clearTimeout(this.#timer);
    if (wait > 0) {
      if (wait < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.#schedule(), wait);
      return;
    }
    this.#soon = true;
    setImmediate(() => {
      this.#soon = false;
      this.#round();
    });
  }

  #round(): void {
    if (this.#stopped) return;
    const ready = this.#queue.take(performance.now());
    // One that is placed only waits for the API server's echo.
    for (const pod of ready.slice(0, batch)) if (!this.#state.isPlaced(pod)) this.#place(pod);
    for (const pod of ready.slice(batch)) {
      this.#queue.remove(pod);
      this.#queue.add(pod, performance.now(), false);
    }
    this.#schedule();
  }

  #place(pod: Pod): void {
    const namespaceLabels = (namespace: string) => this.#options.informers.namespaces.get(namespace)?.metadata.labels;
    const nodes = [...this.#state.nodes.values()];
    const problem = nodes.length > 0 ? volumeProblem(pod, (key) => this.#options.informers.claims.get(key)) : undefined;
    if (problem !== undefined) return this.#later(() => this.#report(pod, explainForAll(problem, nodes.length)));
    const decision = this.#besideNominated(pod, () => decide(pod, nodes, namespaceLabels, this.#random));
    if (decision.ok) {
      this.#nominated.delete(pod.metadata.uid ?? "");
      this.#state.assume(pod, decision.node);
      return this.#later(() => this.#bind(pod, decision.node));
    }
    if (this.#victimsLeft(pod)) {
      const message = `${decision.refusals} preemption: not eligible due to a terminating pod on the nominated node.`;
      return this.#later(() => this.#report(pod, message));
    }
    const answer = planPreemption(pod, nodes, namespaceLabels, (victim) => this.#breaksBudget(victim));
    if (answer.do === "nothing") {
      const message = answer.why ? `${decision.refusals} preemption: ${answer.why}` : decision.message;
      return this.#later(() => this.#report(pod, message));
    }
    this.#nominated.set(pod.metadata.uid ?? "", { pod, ...answer.plan });
    this.#later(() => this.#preempt(pod, answer.plan, decision.refusals));
  }

  /** The pod has made room already and waits for its victims to be gone. */
  #victimsLeft(pod: Pod): boolean {
    const victims = this.#nominated.get(pod.metadata.uid ?? "")?.victims ?? [];
    return victims.some((victim) => {
      const known = this.#options.informers.pods.get(keyOf(victim));
      return known?.metadata.uid === victim.metadata.uid && !isPodTerminal(victim);
    });
  }

  /** Decides with the places of nominated pods of no lower priority taken, so that nobody slips in before them. */
  #besideNominated<T>(pod: Pod, decision: () => T): T {
    const others = [...this.#nominated.values()].filter(
      (one) =>
        one.pod.metadata.uid !== pod.metadata.uid &&
        priorityOf(one.pod) >= priorityOf(pod) &&
        !this.#state.isPlaced(one.pod),
    );
    for (const one of others) this.#state.assume(one.pod, one.node);
    try {
      return decision();
    } finally {
      for (const one of others) this.#state.removePod(one.pod);
    }
  }

  #breaksBudget(pod: Pod): boolean {
    return this.#options.informers.budgets
      .byIndex("namespace", pod.metadata.namespace ?? "")
      .some(
        (budget) =>
          matchesLabelSelector(budget.spec?.selector, pod.metadata.labels) &&
          (budget.status?.disruptionsAllowed ?? 0) <= 0,
      );
  }

  async #preempt(pod: Pod, { node, victims }: Preemption, refusals: string): Promise<void> {
    await this.#report(pod, refusals, node);
    const { client, recorder, log } = this.#options;
    for (const victim of victims.filter((one) => !isPodTerminating(one))) {
      const { name = "", namespace, uid } = victim.metadata;
      const message = `${this.#name}: preempting to accommodate a higher priority pod`;
      const condition = {
        type: "DisruptionTarget",
        status: "True",
        reason: "PreemptionByScheduler",
        message,
        lastTransitionTime: wireTime(new Date()),
      };
      try {
        const patch = { type: "strategic" as const, body: { status: { conditions: [condition] } } };
        await client.patch(pods, name, patch, { namespace, subresource: "status" });
        await client.delete(pods, name, { namespace, preconditions: { uid } });
        recorder.event(victim, "Normal", "Preempted", `Preempted by pod ${pod.metadata.uid} on node ${node}`);
      } catch (err) {
        if (!isNotFound(err)) log.warn("cannot preempt", { pod: `${namespace}/${name}`, node, err });
      }
    }
    this.#wake();
  }

  async #bind(pod: Pod, node: string): Promise<void> {
    const { name = "", namespace = "", uid } = pod.metadata;
    try {
      await this.#options.client.bind(namespace, name, node, { uid });
      this.#options.recorder.event(pod, "Normal", "Scheduled", `Successfully assigned ${namespace}/${name} to ${node}`);
    } catch (err) {
      // Bound by someone else, or gone: the informer tells the truth in a moment.
      this.#state.removePod(pod);
      const known = this.#options.informers.pods.get(`${namespace}/${name}`);
      if (known?.metadata.uid === uid && known?.spec?.nodeName) this.#state.setPod(known);
      if (isNotFound(err)) return this.#queue.remove(pod);
      if (!isConflict(err)) this.#options.log.warn("bind failed", { pod: `${namespace}/${name}`, node, err });
      this.#queue.retry(pod);
      this.#schedule();
    }
  }

  async #report(pod: Pod, message: string, nominatedNodeName?: string): Promise<void> {
    const { name = "", namespace } = pod.metadata;
    this.#options.recorder.event(pod, "Warning", "FailedScheduling", message);
    const old = podCondition(pod, "PodScheduled");
    const nominated = nominatedNodeName === undefined || nominatedNodeName === pod.status?.nominatedNodeName;
    if (old?.status === "False" && old.message === message && nominated) return;
    const lastTransitionTime = old?.status === "False" ? old.lastTransitionTime : wireTime(new Date());
    const condition = { type: "PodScheduled", status: "False", reason: "Unschedulable", message, lastTransitionTime };
    try {
      const status = { conditions: [condition], ...(nominatedNodeName ? { nominatedNodeName } : {}) };
      const patch = { type: "strategic" as const, body: { status } };
      await this.#options.client.patch(pods, name, patch, { namespace, subresource: "status" });
    } catch (err) {
      if (!isNotFound(err))
        this.#options.log.debug("cannot report unschedulable pod", { pod: `${namespace}/${name}`, err });
    }
  }

  #later(request: () => Promise<void>): void {
    this.#binds.push(request);
    this.#drain();
  }

  #drain(): void {
    while (this.#binding < parallelBinds) {
      const request = this.#binds.shift();
      if (!request) return;
      this.#binding += 1;
      void request().finally(() => {
        this.#binding -= 1;
        this.#drain();
      });
    }
  }
}

/** What of a node decides who fits; heartbeats leave it as it is. */
function schedulingFacts(node: Node): string {
  return JSON.stringify([node.metadata.labels, node.spec?.taints, node.spec?.unschedulable, node.status?.allocatable]);
}
