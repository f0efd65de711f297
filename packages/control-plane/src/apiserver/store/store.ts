/**
 * Every object of the cluster: serialised in memory for reading, in SQLite (WAL) for keeping, one increasing revision.
 *
 * A write changes memory at once, and is answered after its transaction is committed: writes of one turn of the event
 * loop share a transaction (`settled()`), and watchers hear of them only then. So what anyone was told survives
 * `kill -9`. With synchronous=NORMAL a power cut may lose the last commits; the death of the process may not.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { ApiObject } from "../api-object.ts";
import { History } from "./history.ts";

/** One stored object at one revision. Never changed; a write makes a new one. */
export type Entry = {
  readonly storage: string;
  /** `namespace/name`, or `name` for cluster-scoped objects. */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly revision: number;
  readonly json: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Values for field selectors. */
  readonly fields: Readonly<Record<string, string>>;
};

export type StoreEvent = {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly revision: number;
  /** For DELETED: the last state, with the deletion's revision. */
  readonly entry: Entry;
  readonly previous: Entry | undefined;
  readonly at: number;
};

export type FieldsOf = (storage: string, object: ApiObject) => Record<string, string>;

type Shelf = {
  readonly entries: Map<string, Entry>;
  sorted: Entry[] | undefined;
  readonly history: History;
  readonly listeners: Set<(event: StoreEvent) => void>;
  revision: number;
};

export const keyOf = (namespace: string, name: string): string => (namespace === "" ? name : `${namespace}/${name}`);

export class Store {
  readonly #database: DatabaseSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  readonly #mark: StatementSync;
  readonly #shelves = new Map<string, Shelf>();
  readonly #fieldsOf: FieldsOf;
  readonly #now: () => number;
  #revision = 0;
  #pending: StoreEvent[] = [];
  #settling: Promise<void> | undefined;

  constructor(file: string, options: { fieldsOf: FieldsOf; now?: () => number }) {
    this.#fieldsOf = options.fieldsOf;
    this.#now = options.now ?? Date.now;
    this.#database = new DatabaseSync(file);
    this.#database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      PRAGMA busy_timeout = 2000;
      CREATE TABLE IF NOT EXISTS objects (storage TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (storage, key)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS revisions (storage TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
    `);
    this.#put = this.#database.prepare("INSERT OR REPLACE INTO objects (storage, key, json) VALUES (?, ?, ?)");
    this.#remove = this.#database.prepare("DELETE FROM objects WHERE storage = ? AND key = ?");
    this.#mark = this.#database.prepare("INSERT OR REPLACE INTO revisions (storage, revision) VALUES (?, ?)");
    this.#load();
  }

  /** The newest revision. */
  get revision(): number {
    return this.#revision;
  }

  /** The revision of the newest change of one storage. */
  revisionOf(storage: string): number {
    return this.#shelf(storage).revision;
  }

  get(storage: string, namespace: string, name: string): Entry | undefined {
    return this.#shelf(storage).entries.get(keyOf(namespace, name));
  }

  /** In key order; of one namespace when given and not empty. The array is not to be changed. */
  list(storage: string, namespace = ""): readonly Entry[] {
    const shelf = this.#shelf(storage);
    shelf.sorted ??= [...shelf.entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    if (namespace === "") return shelf.sorted;
    return shelf.sorted.filter((entry) => entry.namespace === namespace);
  }

  count(storage: string): number {
    return this.#shelf(storage).entries.size;
  }

  storages(): string[] {
    return [...this.#shelves].filter(([, shelf]) => shelf.entries.size > 0).map(([storage]) => storage);
  }

  /** Stores `object` at the next revision (written into its metadata). Compare-and-swap is the caller's: nothing runs in between. */
  put(storage: string, object: ApiObject): Entry {
    const shelf = this.#shelf(storage);
    const revision = ++this.#revision;
    object.metadata.resourceVersion = String(revision);
    const entry = this.#entryOf(storage, object, revision, JSON.stringify(object));
    const previous = shelf.entries.get(entry.key);
    shelf.entries.set(entry.key, entry);
    shelf.sorted = undefined;
    shelf.revision = revision;
    this.#publishLater({
      type: previous === undefined ? "ADDED" : "MODIFIED",
      revision,
      entry,
      previous,
      at: this.#now(),
    });
    return entry;
  }

  /** Removes an object; its last state gets the deletion's revision. `last` replaces that state when given. */
  remove(storage: string, namespace: string, name: string, last?: ApiObject): Entry | undefined {
    const shelf = this.#shelf(storage);
    const previous = shelf.entries.get(keyOf(namespace, name));
    if (previous === undefined) return undefined;
    const revision = ++this.#revision;
    const object: ApiObject = last ?? JSON.parse(previous.json);
    object.metadata.resourceVersion = String(revision);
    const entry = this.#entryOf(storage, object, revision, JSON.stringify(object));
    shelf.entries.delete(previous.key);
    shelf.sorted = undefined;
    shelf.revision = revision;
    this.#publishLater({ type: "DELETED", revision, entry, previous, at: this.#now() });
    return entry;
  }

  /** Resolves once everything written so far is committed; at once when nothing waits. */
  settled(): Promise<void> {
    return this.#settling ?? Promise.resolve();
  }

  /** True when nothing waits to be committed: reads need not wait. */
  get isSettled(): boolean {
    return this.#settling === undefined;
  }

  subscribe(storage: string, listener: (event: StoreEvent) => void): () => void {
    const { listeners } = this.#shelf(storage);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /** Changes after `revision`, oldest first; undefined when some of them are no longer known. */
  since(storage: string, revision: number): StoreEvent[] | undefined {
    return this.#shelf(storage).history.since(revision);
  }

  close(): void {
    this.#commit();
    this.#database.close();
  }

  #publishLater(event: StoreEvent): void {
    this.#pending.push(event);
    this.#settling ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#settling = undefined;
        this.#commit();
        resolve();
      });
    });
  }

  /** A failing commit is thrown from here and ends the process: memory would be ahead of the disk. */
  #commit(): void {
    const events = this.#pending;
    if (events.length === 0) return;
    this.#pending = [];
    this.#database.exec("BEGIN");
    const marks = new Map<string, number>();
    for (const { type, entry, revision } of events) {
      if (type === "DELETED") this.#remove.run(entry.storage, entry.key);
      else this.#put.run(entry.storage, entry.key, entry.json);
      marks.set(entry.storage, revision);
    }
    for (const [storage, revision] of marks) this.#mark.run(storage, revision);
    this.#database.exec("COMMIT");
    for (const event of events) {
      const shelf = this.#shelf(event.entry.storage);
      shelf.history.push(event);
      for (const listener of shelf.listeners) listener(event);
    }
  }

  #load(): void {
    for (const row of this.#database.prepare("SELECT storage, revision FROM revisions").iterate()) {
      const revision = Number(row["revision"]);
      const shelf = this.#shelf(String(row["storage"]));
      shelf.revision = revision;
      shelf.history.startAfter(revision);
      this.#revision = Math.max(this.#revision, revision);
    }
    for (const row of this.#database.prepare("SELECT storage, json FROM objects").iterate()) {
      const json = String(row["json"]);
      const object: ApiObject = JSON.parse(json);
      const storage = String(row["storage"]);
      const entry = this.#entryOf(storage, object, Number(object.metadata.resourceVersion), json);
      this.#shelf(storage).entries.set(entry.key, entry);
    }
  }

  #entryOf(storage: string, object: ApiObject, revision: number, json: string): Entry {
    const { name, namespace = "", labels = {} } = object.metadata;
    return {
      storage,
      key: keyOf(namespace, name),
      namespace,
      name,
      revision,
      json,
      labels,
      fields: this.#fieldsOf(storage, object),
    };
  }

  #shelf(storage: string): Shelf {
    let shelf = this.#shelves.get(storage);
    if (shelf === undefined) {
      shelf = { entries: new Map(), sorted: undefined, history: new History(), listeners: new Set(), revision: 0 };
      this.#shelves.set(storage, shelf);
    }
    return shelf;
  }
}
