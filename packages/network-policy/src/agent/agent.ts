/**
 * The policy agent of one node: watches PolicyEndpoints and the node's pods, keeps the policy table equal to what they say, and
 * answers the CNI plugin's side when a pod is made (its policies are in force, or it is closed, before ADD returns).
 *
 * Nothing is touched before the first complete picture: until then the table of an earlier process stands.
 * Read next: plan.ts (what to enforce), ruleset.ts (how), revocation.ts (what it cuts).
 */
import type { KubeClient } from "@underlay/kube/client";
import { isNotFound } from "@underlay/kube/errors";
import { Informer } from "@underlay/kube/informer";
import type { Pod } from "@underlay/kube/objects";
import { isPodTerminal, podAddresses } from "@underlay/kube/pod";
import { pods } from "@underlay/kube/resources";
import { lastChangeTriggerTime, policyEndpoints, type PolicyEndpoint } from "../api/policy-endpoint.ts";
import type { AgentLog } from "./agent-log.ts";
import type { Metrics } from "./metrics.ts";
import { hostVethName } from "./names.ts";
import { planNode, type LocalPod, type Mode } from "./plan.ts";
import type { PolicyTable } from "./policy-table.ts";

/** Changes that come together go out together. */
const GATHER_MS = 5;
const RETRY_MS = 500;
/** The whole table is written again this often, in case somebody touched it. */
const WHOLE_EVERY_MS = 3_600_000;
/** How long a pod's ADD waits for the first picture; the runtime tries again after a failure. */
const PATIENCE_MS = 5_000;

/** What the plugin tells of a pod it is wiring. */
export type NewPod = {
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly hostVeth: string;
};

export type PolicyAgentOptions = {
  readonly client: KubeClient;
  readonly nodeName: string;
  readonly mode: Mode;
  readonly vethPrefix: string;
  readonly table: PolicyTable;
  readonly metrics: Metrics;
  readonly log: AgentLog;
};

export class PolicyAgent {
  readonly #o: PolicyAgentOptions;
  readonly #pods: Informer<Pod>;
  readonly #endpoints: Informer<PolicyEndpoint>;
  /** Pods being wired, by `namespace/name`, until the watch knows them with an address. */
  readonly #wired = new Map<string, LocalPod>();
  readonly #ready = Promise.withResolvers<void>();
  #isReady = false;
  #timer: NodeJS.Timeout | undefined;
  /** Times of changes that are not in force yet. */
  #triggers: number[] = [];

  constructor(options: PolicyAgentOptions) {
    this.#o = options;
    this.#pods = new Informer(options.client, pods, {
      fieldSelector: `spec.nodeName=${options.nodeName}`,
      transform: slimPod,
    });
    this.#endpoints = new Informer(options.client, policyEndpoints);
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Resolves when the first complete picture is in force. */
  async start(signal: AbortSignal): Promise<void> {
    const touch = (): void => this.#schedule(GATHER_MS);
    const changed = (object: PolicyEndpoint): void => {
      const since = Date.parse(object.metadata.annotations?.[lastChangeTriggerTime] ?? "");
      if (this.#isReady && Number.isFinite(since)) this.#triggers.push(since);
      touch();
    };
    this.#pods.on({ add: touch, update: touch, delete: touch });
    this.#endpoints.on({ add: changed, update: (_, object) => changed(object), delete: touch });
    this.#pods.start(signal);
    this.#endpoints.start(signal);
    await Promise.all([this.#pods.synced(signal), this.#endpoints.synced(signal)]);
    signal.throwIfAborted();
    while (!this.#sync()) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    this.#isReady = true;
    this.#ready.resolve();
    const whole = setInterval(() => {
      this.#o.table.distrust();
      this.#schedule(GATHER_MS);
    }, WHOLE_EVERY_MS);
    signal.addEventListener("abort", () => {
      clearInterval(whole);
      clearTimeout(this.#timer);
    });
  }

  /** The pod's policies are in force (in strict mode without any: it is closed) when this resolves. */
  async enforce(pod: NewPod): Promise<void> {
    const began = performance.now();
    await this.#patience();
    const key = `${pod.namespace}/${pod.name}`;
    const labels = this.#pods.get(key)?.metadata.labels ?? (await this.#readLabels(pod));
    this.#wired.set(key, { ...pod, labels });
    if (!this.#sync(pod.hostVeth))
      throw new Error(`Cannot enforce policies of pod ${key}: the policy table cannot be written`);
    this.#o.metrics.setupLatency.set({ name: pod.name, namespace: pod.namespace }, performance.now() - began);
  }

  /** A pod's wire is gone: forgets its connections, so that the next owner of its address does not inherit them. */
  release(pod: { readonly namespace: string; readonly name: string; readonly addresses: readonly string[] }): void {
    const labels = { name: pod.name, namespace: pod.namespace };
    this.#wired.delete(`${pod.namespace}/${pod.name}`);
    for (const address of pod.addresses) this.#o.table.forgetAddress(address);
    this.#o.metrics.setupLatency.remove(labels);
    this.#schedule(GATHER_MS);
  }

  #schedule(afterMs: number): void {
    if (!this.#isReady) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (!this.#sync()) this.#schedule(RETRY_MS);
    }, afterMs);
  }

  /** Writes what differs; false when the kernel refused, and then what was in force still is. */
  #sync(fresh?: string): boolean {
    const { table, metrics, log, mode } = this.#o;
    const triggers = this.#triggers;
    this.#triggers = [];
    try {
      const plan = planNode({ mode, pods: this.#localPods(), endpoints: this.#endpoints.list() }, table.plan);
      const began = performance.now();
      const done = table.apply(plan, fresh);
      for (const since of triggers) metrics.programmingLatency.observe(Math.max(0, Date.now() - since) / 1000);
      if (done.unchanged) return true;
      if (done.healed !== undefined)
        log.event("warn", "wrote the whole table: a difference was refused", { err: done.healed });
      metrics.writes.inc({ kind: done.whole ? "whole" : "difference" });
      metrics.cutFlows.inc(done.cutFlows);
      metrics.isolatedPods.set(plan.pods.size);
      const tookMs = Math.round((performance.now() - began) * 100) / 100;
      log.event("info", "policies are in force", {
        isolatedPods: plan.pods.size,
        profiles: plan.profiles.size,
        cutConnections: done.cutFlows,
        whole: done.whole,
        tookMs,
      });
      return true;
    } catch (err) {
      this.#triggers = [...triggers, ...this.#triggers];
      table.distrust();
      metrics.failures.inc();
      log.event("error", "cannot write the policy table", { err });
      return false;
    }
  }

  #localPods(): LocalPod[] {
    const found: LocalPod[] = [];
    const seen = new Set<string>();
    for (const pod of this.#pods.list()) {
      const { namespace = "", name = "", labels = {} } = pod.metadata;
      const key = `${namespace}/${name}`;
      seen.add(key);
      if (pod.spec?.hostNetwork === true || isPodTerminal(pod)) continue;
      const wired = this.#wired.get(key);
      const addresses = podAddresses(pod);
      if (addresses.length > 0) this.#wired.delete(key);
      found.push({
        namespace,
        name,
        labels,
        addresses: addresses.length > 0 ? addresses : (wired?.addresses ?? []),
        hostVeth: wired?.hostVeth ?? hostVethName(this.#o.vethPrefix, namespace, name),
      });
    }
    for (const [key, pod] of this.#wired) if (!seen.has(key)) found.push(pod);
    return found;
  }

  async #patience(): Promise<void> {
    if (this.#isReady) return;
    const late = AbortSignal.timeout(PATIENCE_MS);
    const expired = new Promise<never>((_, reject) =>
      late.addEventListener(
        "abort",
        () => reject(new Error("Cannot enforce policies yet: the agent waits for the Kubernetes API")),
        { once: true },
      ),
    );
    await Promise.race([this.#ready.promise, expired]);
  }

  /** The kubelet may know a pod before our watch does. */
  async #readLabels({ namespace, name }: NewPod): Promise<Readonly<Record<string, string>>> {
    try {
      return (await this.#o.client.get(pods, name, { namespace })).metadata.labels ?? {};
    } catch (error) {
      if (isNotFound(error)) return {};
      throw error;
    }
  }
}

function slimPod({ apiVersion, kind, metadata, spec, status }: Pod): Pod {
  const { name, namespace, uid, resourceVersion, labels, deletionTimestamp } = metadata;
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, uid, resourceVersion, labels, deletionTimestamp },
    spec: { hostNetwork: spec?.hostNetwork, containers: [] },
    status: { phase: status?.phase, podIP: status?.podIP, podIPs: status?.podIPs },
  } as Pod;
}
