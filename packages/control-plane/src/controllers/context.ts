/** What every controller is given: the client, shared informers, events, a log, and when to stop. */
import type { KubeClient } from "@underlay/kube/client";
import { EventRecorder } from "@underlay/kube/events";
import { Informer } from "@underlay/kube/informer";
import { controllerOf, type KubeObject, type Pod } from "@underlay/kube/objects";
import type { Resource } from "@underlay/kube/resources";
import type { WorkQueue, Requeue } from "@underlay/kube/workqueue";
import { isConflict, isNamespaceTerminating, isNotFound } from "@underlay/kube/client";
import type { Log } from "@underlay/log/log";

export type ControllerContext = {
  readonly client: KubeClient;
  readonly informers: SharedInformers;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** The CA that signs certificate requests and is published to every namespace. */
  readonly authority: { readonly cert: string; readonly key: string };
  /** An event recorder that speaks as `component`. */
  recorder(component: string): EventRecorder;
};

/** Every shared informer knows these; pods are also indexed by "node". */
const indexes = {
  namespace: (object: KubeObject) => [object.metadata.namespace ?? ""],
  /** The controller's uid, or "orphan/<namespace>". */
  controller: (object: KubeObject) => [controllerOf(object)?.uid ?? orphansOf(object.metadata.namespace ?? "")],
  uid: (object: KubeObject) => [object.metadata.uid ?? ""],
  /** The uids of all owners. */
  owner: (object: KubeObject) => (object.metadata.ownerReferences ?? []).map((owner) => owner.uid),
};

const metadataKept = [
  "name",
  "namespace",
  "uid",
  "resourceVersion",
  "ownerReferences",
  "finalizers",
  "deletionTimestamp",
] as const;

/** Only what the garbage collector reads. */
function bareMetadata(object: KubeObject): KubeObject {
  const metadata: Record<string, unknown> = {};
  for (const name of metadataKept) if (object.metadata[name] !== undefined) metadata[name] = object.metadata[name];
  return { metadata };
}

/** The value of index "controller" for objects of a namespace that nobody controls. */
export function orphansOf(namespace: string): string {
  return `orphan/${namespace}`;
}

/** One informer a resource, shared by all controllers and the scheduler of this process. */
export class SharedInformers {
  readonly #client: KubeClient;
  readonly #log: Log;
  readonly #signal: AbortSignal;
  readonly #informers = new Map<string, Informer<KubeObject>>();

  constructor(client: KubeClient, log: Log, signal: AbortSignal) {
    this.#client = client;
    this.#log = log;
    this.#signal = signal;
  }

  of<T extends KubeObject>(resource: Resource<T>): Informer<T> {
    const key = `${resource.plural}.${resource.group}`;
    let informer = this.#informers.get(key) as Informer<T> | undefined;
    if (!informer) {
      const byNode = { node: (object: KubeObject) => [(object as Pod).spec?.nodeName ?? ""] };
      informer = new Informer(this.#client, resource, {
        log: this.#log,
        indexes: key === "pods." ? { ...indexes, ...byNode } : indexes,
      });
      this.#informers.set(key, informer as unknown as Informer<KubeObject>);
      informer.start(this.#signal);
    }
    return informer;
  }

  /** An informer that knows metadata at least: the shared one, or else a small one of its own. */
  metadataOf(resource: Resource, signal: AbortSignal): Informer<KubeObject> {
    const shared = this.#informers.get(`${resource.plural}.${resource.group}`);
    if (shared) return shared;
    const { uid, owner, namespace } = indexes;
    const options = { metadataOnly: true, transform: bareMetadata, indexes: { uid, owner, namespace }, log: this.#log };
    return new Informer(this.#client, resource, options).start(signal);
  }

  /** Resolves when every informer asked for so far holds a complete state. */
  async synced(): Promise<void> {
    await Promise.all([...this.#informers.values()].map((informer) => informer.synced(this.#signal)));
  }
}

/** Runs a queue's workers once the informers are synced; expected races are retried quietly, the rest is logged. */
export async function runQueue(
  context: ControllerContext,
  name: string,
  queue: WorkQueue,
  reconcile: (key: string) => Promise<Requeue>,
  workers = 4,
): Promise<void> {
  await context.informers.synced();
  await queue.run({
    workers,
    signal: context.signal,
    reconcile,
    onError: (key, err, failures) => {
      const expected = isConflict(err) || isNotFound(err) || isNamespaceTerminating(err);
      if (expected && failures < 30) context.log.debug("reconcile again", { controller: name, key, err });
      else context.log.warn("reconcile failed", { controller: name, key, failures, err });
    },
  });
}
