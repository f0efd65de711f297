/**
 * Garbage collector: deletes what has lost all its owners, and carries out foreground and orphan deletions.
 * It watches the metadata of every resource that discovery shows, CRDs as soon as they are served.
 */
import { isConflict, isNotFound } from "@underlay/kube/client";
import type { Informer } from "@underlay/kube/informer";
import type { KubeObject, OwnerReference } from "@underlay/kube/objects";
import { customResourceDefinitions, type Resource } from "@underlay/kube/resources";
import { every, WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";
import { discover, type Discovered } from "./discovery.ts";
import { isWaitingForDependents, orphanFinalizer, planGarbage, type OwnerState } from "./garbage-plan.ts";

type Monitor = { of: Resource; informer: Informer<KubeObject>; stop: () => void };
type Item = { object: KubeObject; of: Resource; informer: Informer<KubeObject> };

const rediscoverMs = 30_000;
/** How long a lookup that found an owner absent is believed. */
const absentForMs = 600_000;

export async function runGarbageCollector(context: ControllerContext): Promise<void> {
  const collector = new GarbageCollector(context);
  await collector.run();
}

class GarbageCollector {
  readonly #context: ControllerContext;
  readonly #queue = new WorkQueue();
  readonly #monitors = new Map<string, Monitor>();
  readonly #absent = new Map<string, number>();
  #resources: Discovered[] = [];

  constructor(context: ControllerContext) {
    this.#context = context;
    const rediscover = () => setTimeout(() => void this.#discover().catch(() => undefined), 200).unref();
    context.informers.of(customResourceDefinitions).on({ add: rediscover, update: rediscover, delete: rediscover });
  }

  async run(): Promise<void> {
    const { signal, log } = this.#context;
    const known = Promise.withResolvers<void>();
    const discovering = every(rediscoverMs, signal, async () => {
      try {
        await this.#discover();
        known.resolve();
      } catch (err) {
        if (!signal.aborted) log.debug("discovery failed", { err });
      }
    });
    await Promise.race([known.promise, discovering]);
    const working = runQueue(this.#context, "garbagecollector", this.#queue, (uid) => this.#collect(uid), 8);
    await Promise.all([discovering, working]);
  }

  async #discover(): Promise<void> {
    const found = (await discover(this.#context.client)).filter(
      (one) => ["list", "watch", "delete"].every((verb) => one.verbs.includes(verb)) && one.plural !== "events",
    );
    this.#resources = found;
    const keys = new Set(found.map((one) => `${one.plural}.${one.group}`));
    for (const [key, monitor] of this.#monitors) {
      if (keys.has(key)) continue;
      monitor.stop();
      this.#monitors.delete(key);
    }
    for (const of of found) {
      const key = `${of.plural}.${of.group}`;
      if (!this.#monitors.has(key)) this.#monitors.set(key, this.#monitor(of));
    }
    // Deleting before everything is known would take what is merely unseen for absent.
    await Promise.all([...this.#monitors.values()].map(({ informer }) => informer.synced(this.#context.signal)));
  }

  #monitor(of: Resource): Monitor {
    const stop = new AbortController();
    const { signal } = this.#context;
    const informer = this.#context.informers.metadataOf(of, AbortSignal.any([stop.signal, signal]));
    const look = (object: KubeObject) => {
      if (object.metadata.ownerReferences || object.metadata.deletionTimestamp !== undefined)
        this.#queue.add(object.metadata.uid ?? "");
    };
    const off = informer.on({
      add: look,
      update: (old, object) => {
        if (ownershipFacts(old) !== ownershipFacts(object)) look(object);
        if (!isWaitingForDependents(old) && isWaitingForDependents(object)) this.#queueDependents(object);
      },
      delete: (object) => {
        this.#queueDependents(object);
        // An owner in foreground deletion waits for exactly this.
        for (const owner of object.metadata.ownerReferences ?? []) this.#queue.add(owner.uid);
      },
    });
    return { of, informer, stop: () => (off(), stop.abort()) };
  }

  #queueDependents(object: KubeObject): void {
    for (const { object: dependent } of this.#dependentsOf(object.metadata.uid ?? ""))
      this.#queue.add(dependent.metadata.uid ?? "");
  }

  #find(uid: string): Item | undefined {
    for (const { of, informer } of this.#monitors.values()) {
      const [object] = informer.byIndex("uid", uid);
      if (object) return { object, of, informer };
    }
    return undefined;
  }

  #dependentsOf(uid: string): Item[] {
    return [...this.#monitors.values()].flatMap(({ of, informer }) =>
      informer.byIndex("owner", uid).map((object) => ({ object, of, informer })),
    );
  }

  async #collect(uid: string): Promise<Requeue> {
    const item = this.#find(uid);
    if (!item) return;
    const { client } = this.#context;
    const { object, of } = item;
    const { name = "", namespace } = object.metadata;
    const states = new Map<string, OwnerState>();
    if (object.metadata.deletionTimestamp === undefined) {
      for (const owner of object.metadata.ownerReferences ?? [])
        states.set(owner.uid, await this.#stateOf(owner, namespace));
    }
    const dependents = this.#dependentsOf(uid);
    const plan = planGarbage(
      object,
      (owner) => states.get(owner.uid) ?? "solid",
      dependents.map((one) => one.object),
    );
    switch (plan.do) {
      case "nothing":
        return;
      case "delete": {
        // The cache may lag behind an adoption; the live object decides.
        const live = await client.find(of, name, { namespace });
        if (live?.metadata.uid !== uid) return;
        if (ownershipFacts(live) !== ownershipFacts(object)) return { requeueAfterMs: 50 };
        const preconditions = { uid, resourceVersion: live.metadata.resourceVersion };
        await client
          .delete(of, name, { namespace, propagationPolicy: plan.propagationPolicy, preconditions })
          .catch(tolerateMissing);
        return;
      }
      case "release":
        return this.#rewrite(item, (metadata) => ({
          ownerReferences: (metadata.ownerReferences ?? []).filter((owner) => !plan.uids.includes(owner.uid)),
        }));
      case "remove-finalizer":
        return this.#rewrite(item, (metadata) => ({
          finalizers: (metadata.finalizers ?? []).filter((one) => one !== plan.finalizer),
        }));
      case "delete-dependents":
        for (const dependent of dependents.filter((one) => plan.dependents.includes(one.object)))
          this.#queue.add(dependent.object.metadata.uid ?? "");
        return;
      case "orphan-dependents":
        for (const dependent of dependents) {
          await this.#rewrite(dependent, (metadata) => ({
            ownerReferences: (metadata.ownerReferences ?? []).filter((owner) => owner.uid !== uid),
          }));
        }
        return this.#rewrite(item, (metadata) => ({
          finalizers: (metadata.finalizers ?? []).filter((one) => one !== orphanFinalizer),
        }));
    }
  }

  async #stateOf(owner: OwnerReference, namespace: string | undefined): Promise<OwnerState> {
    const known = this.#find(owner.uid);
    if (known) {
      const elsewhere = known.of.namespaced && known.object.metadata.namespace !== namespace;
      if (elsewhere) return "absent";
      return isWaitingForDependents(known.object) ? "waiting" : "solid";
    }
    const believedAt = this.#absent.get(owner.uid);
    if (believedAt !== undefined && performance.now() - believedAt < absentForMs) return "absent";
    const of = this.#resources.find((one) => one.kind === owner.kind && one.group === groupOf(owner.apiVersion));
    // A kind nobody serves any more may come back with its CRD; its dependents stay.
    if (!of) return "solid";
    const version = owner.apiVersion.includes("/") ? owner.apiVersion.split("/")[1]! : owner.apiVersion;
    const live = await this.#context.client.find({ ...of, version } as Resource, owner.name, {
      namespace: of.namespaced ? namespace : undefined,
    });
    if (live?.metadata.uid === owner.uid) return isWaitingForDependents(live) ? "waiting" : "solid";
    if (this.#absent.size > 1000) this.#absent.clear();
    this.#absent.set(owner.uid, performance.now());
    return "absent";
  }

  /** Changes lists in metadata with compare-and-swap on the live object. */
  async #rewrite(
    { object, of }: Item,
    change: (metadata: KubeObject["metadata"]) => Partial<KubeObject["metadata"]>,
  ): Promise<void> {
    const { client } = this.#context;
    const { name = "", namespace, uid } = object.metadata;
    for (let attempt = 0; ; attempt += 1) {
      const live = await client.find(of, name, { namespace });
      if (live?.metadata.uid !== uid || !live) return;
      const body = { metadata: { uid, resourceVersion: live.metadata.resourceVersion, ...change(live.metadata) } };
      try {
        await client.patch(of, name, { type: "merge", body }, { namespace });
        return;
      } catch (err) {
        if (isNotFound(err)) return;
        if (!isConflict(err) || attempt >= 5) throw err;
      }
    }
  }
}

function ownershipFacts(object: KubeObject): string {
  const { ownerReferences = [], finalizers = [], deletionTimestamp } = object.metadata;
  return JSON.stringify([
    ownerReferences.map((owner) => [owner.uid, owner.blockOwnerDeletion ?? false]),
    finalizers,
    deletionTimestamp !== undefined,
  ]);
}

function groupOf(apiVersion: string): string {
  return apiVersion.includes("/") ? apiVersion.split("/")[0]! : "";
}

function tolerateMissing(err: unknown): void {
  if (!isNotFound(err)) throw err;
}
