/**
 * The network policy controller: keeps the PolicyEndpoints of every NetworkPolicy true. It reads the cluster through informers, lets
 * the compiler decide (../compile), and makes the writes of the plan in their order. All its state is in the API server.
 */
import type { KubeClient } from "@underlay/kube/client";
import { isConflict, isNotFound } from "@underlay/kube/errors";
import { Informer } from "@underlay/kube/informer";
import { keyOf, type NetworkPolicy } from "@underlay/kube/objects";
import { namespaces, networkPolicies, pods, services } from "@underlay/kube/resources";
import { WorkQueue } from "@underlay/kube/workqueue";
import type { Log } from "@underlay/log/log";
import { policyEndpoints, policyKeyOf, type PolicyEndpoint } from "../api/policy-endpoint.ts";
import type { ClusterView } from "../compile/cluster-view.ts";
import { compilePolicy } from "../compile/compile.ts";
import { planWrites } from "../compile/plan.ts";
import { controllerMetrics, policyType, type ControllerMetrics } from "./metrics.ts";
import { readText, slimPod, slimService } from "./slim.ts";
import { StoredEndpoints } from "./stored-endpoints.ts";
import { touchesNamespace, touchesPod, touchesService, type Labels } from "./wake.ts";
import { EndpointWriter } from "./writer.ts";

export type ControllerOptions = {
  readonly client: KubeClient;
  readonly log: Log;
  readonly chunkSize: number;
  readonly workers: number;
  readonly batchMs: number;
};

export class PolicyController {
  readonly metrics: ControllerMetrics;
  readonly #options: ControllerOptions;
  readonly #policies: Informer<NetworkPolicy>;
  readonly #namespaces;
  readonly #pods;
  readonly #services;
  readonly #endpoints: Informer<PolicyEndpoint>;
  readonly #stored: StoredEndpoints;
  readonly #writer: EndpointWriter;
  readonly #queue = new WorkQueue({ maxDelayMs: 30_000 });
  /** When the oldest change was seen that a policy has not been looked at for. */
  readonly #changedAt = new Map<string, number>();
  readonly #view: ClusterView;

  constructor(options: ControllerOptions) {
    const { client, log } = options;
    this.#options = options;
    const byNamespace = {
      namespace: ({ metadata }: { metadata: { namespace?: string | undefined } }) => [metadata.namespace ?? ""],
    };
    this.#policies = new Informer(client, networkPolicies, { log });
    this.#namespaces = new Informer(client, namespaces, { log });
    this.#pods = new Informer(client, pods, { log, transform: slimPod, indexes: byNamespace });
    this.#services = new Informer(client, services, { log, transform: slimService, indexes: byNamespace });
    this.#endpoints = new Informer(client, policyEndpoints, { log, indexes: { policy: (one) => [policyKeyOf(one)] } });
    this.#stored = new StoredEndpoints(this.#endpoints);
    this.#writer = new EndpointWriter(client, this.#stored);
    this.#view = {
      namespaces: () => this.#namespaces.list(),
      podsOf: (namespace) => this.#pods.byIndex("namespace", namespace),
      servicesOf: (namespace) => this.#services.byIndex("namespace", namespace),
    };
    this.metrics = controllerMetrics(() => this.#policies.size);
  }

  /** Works until the signal aborts. Nothing is written before everything has been read once. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, workers } = this.#options;
    const informers = [this.#policies, this.#namespaces, this.#pods, this.#services, this.#endpoints];
    for (const informer of informers) informer.start(signal);
    await Promise.all(informers.map((informer) => informer.synced(signal)));
    this.#listen();
    log.info("watching policies", { policies: this.#policies.size, pods: this.#pods.size });
    await this.#queue.run({
      workers,
      signal,
      reconcile: (key) => this.#reconcile(key),
      onError: (key, err, failures) => {
        this.metrics.reconciliations.inc({ policy_type: policyType, result: "error" });
        if (isConflict(err) && failures < 5) log.debug("policy changed meanwhile, looking again", { policy: key, err });
        else log.warn("cannot apply a policy, will retry", { policy: key, failures, err });
      },
    });
  }

  /** Wires changes to policies. Handlers hear an add for everything known, so the start looks at every policy once. */
  #listen(): void {
    this.#policies.on({
      add: (policy) => this.#wake(keyOf(policy), 0),
      update: (_, policy) => this.#wake(keyOf(policy), 0),
      delete: (policy) => this.#wake(keyOf(policy), 0),
    });
    // An object changed by someone else is put right.
    const endpoint = (object: PolicyEndpoint) => {
      const key = policyKeyOf(object);
      if (!this.#stored.isOwnWrite(key, object)) this.#wake(key);
    };
    this.#endpoints.on({ add: endpoint, update: (_, object) => endpoint(object), delete: endpoint });
    const home = (namespace: string): Labels => this.#namespaces.get(namespace)?.metadata.labels;
    onChange(this.#pods, (versions) => {
      const namespace = versions[0]?.metadata.namespace ?? "";
      const labels = versions.map(({ metadata }) => metadata.labels);
      this.#wakeWhere((policy) => touchesPod(policy, namespace, home(namespace), labels));
    });
    onChange(this.#services, ([{ metadata }]) => {
      const namespace = metadata.namespace ?? "";
      this.#wakeWhere((policy) => touchesService(policy, namespace, home(namespace)));
    });
    onChange(this.#namespaces, (versions) => {
      const labels = versions.map(({ metadata }) => metadata.labels);
      this.#wakeWhere((policy) => touchesNamespace(policy, labels));
    });
  }

  #wakeWhere(touched: (policy: NetworkPolicy) => boolean): void {
    for (const policy of this.#policies.list()) if (touched(policy)) this.#wake(keyOf(policy));
  }

  #wake(key: string, afterMs = this.#options.batchMs): void {
    if (!this.#changedAt.has(key)) this.#changedAt.set(key, Date.now());
    this.#queue.addAfter(key, afterMs);
  }

  async #reconcile(key: string): Promise<void> {
    const began = performance.now();
    const changedAt = this.#changedAt.get(key) ?? Date.now();
    this.#changedAt.delete(key);
    try {
      await this.#apply(key, changedAt);
    } catch (err) {
      if (isConflict(err) || isNotFound(err)) this.#stored.distrust(key);
      // The next look still answers the same change.
      this.#changedAt.set(key, changedAt);
      throw err;
    }
    this.metrics.duration.observe({ policy_type: policyType }, (performance.now() - began) / 1000);
    this.metrics.reconciliations.inc({ policy_type: policyType, result: "success" });
  }

  async #apply(key: string, changedAt: number): Promise<void> {
    const policy = this.#policies.get(key);
    const existing = this.#stored.ofPolicy(key).filter(isOfNetworkPolicy);
    if (!policy || policy.metadata.deletionTimestamp) {
      await this.#writer.write(key, policy, planWrites([], existing, this.#options.chunkSize), changedAt);
      if (policy) await this.#writer.setFinalizer(policy, false);
      return;
    }
    const held = await this.#writer.setFinalizer(policy, true);
    const owned = existing.filter((object) =>
      object.metadata.ownerReferences?.some(({ uid }) => uid === held.metadata.uid),
    );
    const steps = planWrites(compilePolicy(held, this.#view), owned, this.#options.chunkSize);
    const orphans = planWrites(
      [],
      existing.filter((object) => !owned.includes(object)),
      this.#options.chunkSize,
    );
    if (steps.length + orphans.length === 0) return;
    await this.#writer.write(key, held, steps, changedAt);
    await this.#writer.write(key, held, orphans, changedAt);
    this.#options.log.info("wrote a policy", { policy: key, writes: steps.length, tookMs: Date.now() - changedAt });
  }

  /** Takes back everything: the objects, then the finalizers. What `disabled` means for a cluster. */
  static async clear(client: KubeClient): Promise<number> {
    const [objects, policies] = await Promise.all([client.listAll(policyEndpoints), client.listAll(networkPolicies)]);
    const writer = new EndpointWriter(client);
    const ours = Map.groupBy(objects.filter(isOfNetworkPolicy), policyKeyOf);
    for (const [key, existing] of ours) await writer.write(key, undefined, planWrites([], existing, 1), Date.now());
    for (const policy of policies) await writer.setFinalizer(policy, false);
    return ours.size;
  }
}

/** Objects made for another kind of policy with the same name are not ours. */
function isOfNetworkPolicy({ metadata }: PolicyEndpoint): boolean {
  return (metadata.ownerReferences ?? []).every(({ kind }) => kind === "NetworkPolicy");
}

/** Calls back with the one or two versions of an object whose readable part changed. */
function onChange<T extends Parameters<typeof readText>[0]>(
  informer: Informer<T>,
  changed: (versions: readonly [T, ...T[]]) => void,
): void {
  // What is there at the start is looked at with every policy anyway.
  let starting = true;
  informer.on({
    add: (object) => {
      if (!starting) changed([object]);
    },
    update: (old, object) => {
      if (readText(old) !== readText(object)) changed([object, old]);
    },
    delete: (object) => changed([object]),
  });
  starting = false;
}
