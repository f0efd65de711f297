/**
 * Informer: a local copy of one resource, kept true by watching, and handlers that hear of every change.
 * It starts with WatchList (LIST+WATCH where that is refused), resumes from bookmarks, lists again after 410,
 * and keeps its last known state while the server is away. Read next: watch.ts, store.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "@underlay/log/log";
import type { KubeClient } from "./client.ts";
import { isApiError, isGone } from "./errors.ts";
import { keyOf, type KubeObject } from "./objects.ts";
import { apiVersionOf, type Resource } from "./resources.ts";
import { Store, type Indexers } from "./store.ts";
import { watch, type WatchEvent } from "./watch.ts";

export type Handlers<T> = {
  add?: ((object: T) => void) | undefined;
  update?: ((old: T, object: T) => void) | undefined;
  delete?: ((object: T) => void) | undefined;
};

export type InformerOptions<T> = {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  indexes?: Indexers<T> | undefined;
  /** Shrinks an object before it is kept. managedFields are always dropped. */
  transform?: ((object: T) => T) | undefined;
  /** Asks for PartialObjectMetadata only. */
  metadataOnly?: boolean | undefined;
  log?: Log | undefined;
};

const firstBackoffMs = 200;
const longestBackoffMs = 30_000;
/** Refused resumes in a row after which the state is listed afresh. */
const patience = 3;
const partialObject = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const partialList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const initialEventsEnd = "k8s.io/initial-events-end";

export class Informer<T extends KubeObject> {
  readonly #client: KubeClient;
  readonly #of: Resource<T>;
  readonly #options: InformerOptions<T>;
  readonly #store: Store<T>;
  readonly #handlers = new Set<Handlers<T>>();
  readonly #stop = new AbortController();
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  #started = false;
  #watchListWorks = true;
  #resourceVersion: string | undefined;
  #failures = 0;

  constructor(client: KubeClient, of: Resource<T>, options: InformerOptions<T> = {}) {
    this.#client = client;
    this.#of = of;
    this.#options = options;
    this.#store = new Store(options.indexes);
  }

  start(signal?: AbortSignal): this {
    if (signal?.aborted) this.#stop.abort(signal.reason);
    signal?.addEventListener("abort", () => this.#stop.abort(signal.reason), { once: true });
    if (!this.#started) {
      this.#started = true;
      void this.#run();
    }
    return this;
  }

  /** Ends the watch. The store stays readable. */
  stop(): void {
    this.#stop.abort();
  }

  hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Resolves when the first complete state is in the store and told to the handlers. */
  async synced(signal?: AbortSignal): Promise<void> {
    if (!signal) return this.#synced.promise;
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    try {
      await Promise.race([this.#synced.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  get size(): number {
    return this.#store.size;
  }

  /** By "namespace/name", or "name" for cluster-scoped objects. */
  get(key: string): T | undefined {
    return this.#store.get(key);
  }

  list(namespace?: string): T[] {
    const all = [...this.#store.values()];
    return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace);
  }

  byIndex(index: string, value: string): T[] {
    return this.#store.byIndex(index, value);
  }

  /** Adds handlers; they hear an add for everything already known. Returns their removal. */
  on(handlers: Handlers<T>): () => void {
    this.#handlers.add(handlers);
    if (handlers.add) for (const object of this.#store.values()) this.#call(() => handlers.add?.(object));
    return () => this.#handlers.delete(handlers);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#listAndWatch(signal);
        this.#failures = 0;
      } catch (err) {
        if (signal.aborted) return;
        this.#onFailure(err);
        const backoff = Math.min(firstBackoffMs * 2 ** this.#failures, longestBackoffMs);
        this.#failures += 1;
        // Jitter keeps a cluster's informers from returning in step after a server's restart.
        await sleep(backoff * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #onFailure(err: unknown): void {
    const fields = { resource: this.#of.plural, err };
    if (isGone(err)) {
      this.#resourceVersion = undefined;
      this.#options.log?.debug("watch expired, listing again", fields);
      return;
    }
    if (isApiError(err) && this.#failures >= patience) {
      // The server may be another one than before (a revision it never had); a fresh list settles it.
      this.#resourceVersion = undefined;
    }
    const refused = isApiError(err) && (err.code === 422 || err.code === 400);
    if (refused && this.#watchListWorks && this.#resourceVersion === undefined) {
      this.#watchListWorks = false;
      this.#failures = 0;
      return;
    }
    // Once per outage, then quietly.
    if (this.#failures === 0) this.#options.log?.warn("watch failed", fields);
    else this.#options.log?.debug("watch failed", fields);
  }

  async #listAndWatch(signal: AbortSignal): Promise<void> {
    if (this.#resourceVersion === undefined && !this.#watchListWorks) await this.#list(signal);
    let initial: Map<string, T> | undefined = this.#resourceVersion === undefined ? new Map() : undefined;
    await watch(this.#client, this.#of, {
      namespace: this.#options.namespace,
      labelSelector: this.#options.labelSelector,
      fieldSelector: this.#options.fieldSelector,
      resourceVersion: this.#resourceVersion,
      sendInitialEvents: initial !== undefined,
      timeoutSeconds: 300 + Math.floor(Math.random() * 300),
      silenceMs: 180_000,
      accept: this.#options.metadataOnly ? partialObject : undefined,
      signal,
      onEvent: (event) => {
        this.#failures = 0;
        if (!initial) return this.#apply(event);
        if (event.type === "BOOKMARK") {
          if (event.object.metadata.annotations?.[initialEventsEnd] !== "true") return;
          this.#replace(initial, event.object.metadata.resourceVersion);
          initial = undefined;
        } else if (event.type === "DELETED") initial.delete(keyOf(event.object));
        else initial.set(keyOf(event.object), this.#slim(event.object));
      },
    });
  }

  async #list(signal: AbortSignal): Promise<void> {
    const found = new Map<string, T>();
    const selection = {
      namespace: this.#options.namespace,
      labelSelector: this.#options.labelSelector,
      fieldSelector: this.#options.fieldSelector,
      ...(this.#options.metadataOnly ? { accept: partialList } : {}),
    };
    const apiVersion = apiVersionOf(this.#of);
    let page = await this.#client.list(this.#of, { ...selection, limit: 500, signal });
    for (;;) {
      // Items of a list come without type; handlers (events, owner references) want it.
      for (const item of page.items) found.set(keyOf(item), this.#slim({ ...item, apiVersion, kind: this.#of.kind }));
      if (!page.metadata.continue) break;
      page = await this.#client.list(this.#of, { ...selection, limit: 500, continue: page.metadata.continue, signal });
    }
    this.#replace(found, page.metadata.resourceVersion);
  }

  #replace(current: Map<string, T>, resourceVersion: string | undefined): void {
    const gone = [...this.#store.keys()].filter((key) => !current.has(key));
    for (const key of gone) this.#forget(key);
    for (const object of current.values()) this.#put(object);
    this.#resourceVersion = resourceVersion;
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
  }

  #apply(event: WatchEvent<T>): void {
    if (event.type === "DELETED") this.#forget(keyOf(event.object), event.object);
    else if (event.type !== "BOOKMARK") this.#put(this.#slim(event.object));
    this.#resourceVersion = event.object.metadata.resourceVersion ?? this.#resourceVersion;
  }

  #put(object: T): void {
    const old = this.#store.set(object);
    if (!old) return this.#tell((handlers) => handlers.add?.(object));
    const { uid, resourceVersion } = old.metadata;
    if (uid !== object.metadata.uid) {
      // Deleted and made again while we were not looking: these are two objects.
      this.#tell((handlers) => handlers.delete?.(old));
      this.#tell((handlers) => handlers.add?.(object));
    } else if (resourceVersion !== object.metadata.resourceVersion) {
      this.#tell((handlers) => handlers.update?.(old, object));
    }
  }

  #forget(key: string, last?: T): void {
    const old = this.#store.delete(key);
    if (old) this.#tell((handlers) => handlers.delete?.(last ?? old));
  }

  #slim(object: T): T {
    delete object.metadata.managedFields;
    return this.#options.transform ? this.#options.transform(object) : object;
  }

  #tell(how: (handlers: Handlers<T>) => void): void {
    for (const handlers of this.#handlers) this.#call(() => how(handlers));
  }

  #call(handler: () => void): void {
    try {
      handler();
    } catch (err) {
      // A handler's bug must not end the watch of all the others.
      if (this.#options.log) this.#options.log.error("informer handler failed", { resource: this.#of.plural, err });
      else
        queueMicrotask(() => {
          throw err;
        });
    }
  }
}
