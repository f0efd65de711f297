/**
 * The cloud's state: records by kind and id, in memory for reading and in SQLite for keeping. A write happens inside
 * `transaction`: all of it reaches the file before the call returns (WAL; survives kill -9), or none of it happened.
 * One process owns the file, so a read after a write always sees it.
 */
import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";

export type Stored = { readonly id: string };
export type StoreChange<K> = { readonly kind: K; readonly id: string };

type Undo = () => void;

export class Store<Kinds extends Record<string, Stored>> {
  readonly #db: DatabaseSync;
  readonly #records = new Map<keyof Kinds & string, Map<string, Stored>>();
  readonly #counters = new Map<string, number>();
  readonly #write: { put: StatementSync; remove: StatementSync; counter: StatementSync };
  readonly #listeners = new Set<(changes: readonly StoreChange<keyof Kinds & string>[]) => void>();
  /** What records were before they changed, newest last, while somebody wants to look back. */
  readonly #history = new Map<string, Map<string, { at: number; before: Stored | undefined }[]>>();
  #historyMs = 0;
  #asOf: number | undefined;
  #open: { undo: Undo[]; changes: StoreChange<keyof Kinds & string>[] } | undefined;

  constructor(path: string) {
    if (path !== ":memory:") mkdirSync(dirname(path), { recursive: true });
    this.#db = new DatabaseSync(path);
    // Credentials of roles are in it.
    if (path !== ":memory:") chmodSync(path, 0o600);
    this.#db.exec(`
      PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS record (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));
      CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);`);
    for (const row of this.#db.prepare("SELECT kind, id, body FROM record ORDER BY seq").all())
      this.#of(row["kind"] as string).set(row["id"] as string, JSON.parse(row["body"] as string) as Stored);
    for (const row of this.#db.prepare("SELECT name, value FROM counter").all())
      this.#counters.set(row["name"] as string, row["value"] as number);
    this.#write = {
      put: this.#db.prepare(
        "INSERT INTO record (kind, id, body) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
      ),
      remove: this.#db.prepare("DELETE FROM record WHERE kind = ? AND id = ?"),
      counter: this.#db.prepare(
        "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      ),
    };
  }

  get<K extends keyof Kinds & string>(kind: K, id: string): Kinds[K] | undefined {
    return this.#seen(kind, id, this.#of(kind).get(id)) as Kinds[K] | undefined;
  }

  /** All records of a kind, in the order they were created. */
  all<K extends keyof Kinds & string>(kind: K): Kinds[K][] {
    if (this.#asOf === undefined) return [...this.#of(kind).values()] as Kinds[K][];
    const ids = new Set([...this.#of(kind).keys(), ...(this.#history.get(kind)?.keys() ?? [])]);
    return [...ids].flatMap((id) => this.get(kind, id) ?? []);
  }

  /** From now on old versions are kept for so long; 0: none are. */
  keepHistory(ms: number): void {
    this.#historyMs = ms;
    if (ms === 0) this.#history.clear();
  }

  /** Runs synchronous reading `work` on the records as they were at `time` (milliseconds), as far as history was kept. */
  asOf<T>(time: number, work: () => T): T {
    const before = this.#asOf;
    this.#asOf = time;
    try {
      return work();
    } finally {
      this.#asOf = before;
    }
  }

  /** Adds or replaces. Records are values: change one by putting a new one. */
  put<K extends keyof Kinds & string>(kind: K, record: Kinds[K]): Kinds[K] {
    const { undo, changes } = this.#transacting();
    const records = this.#of(kind);
    const before = records.get(record.id);
    records.set(record.id, record);
    this.#remember(kind, record.id, before, undo);
    undo.push(() => (before === undefined ? records.delete(record.id) : records.set(record.id, before)));
    this.#write.put.run(kind, record.id, JSON.stringify(record));
    changes.push({ kind, id: record.id });
    return record;
  }

  remove(kind: keyof Kinds & string, id: string): void {
    const { undo, changes } = this.#transacting();
    const records = this.#of(kind);
    const before = [...records];
    const gone = records.get(id);
    if (!records.delete(id)) return;
    this.#remember(kind, id, gone, undo);
    undo.push(() => {
      // Put back in its old place: the order of creation is part of what lists answer.
      records.clear();
      for (const [key, value] of before) records.set(key, value);
    });
    this.#write.remove.run(kind, id);
    changes.push({ kind, id });
  }

  /** 1, 2, 3, … per name; never the same number twice. */
  next(counter: string): number {
    const { undo } = this.#transacting();
    const before = this.#counters.get(counter);
    const value = (before ?? 0) + 1;
    this.#counters.set(counter, value);
    undo.push(() => (before === undefined ? this.#counters.delete(counter) : this.#counters.set(counter, before)));
    this.#write.counter.run(counter, value);
    return value;
  }

  /** Runs synchronous `work`; what it wrote is durable when this returns, and undone when it throws. */
  transaction<T>(work: () => T): T {
    if (this.#open !== undefined) return work();
    const open = (this.#open = { undo: [] as Undo[], changes: [] as StoreChange<keyof Kinds & string>[] });
    this.#db.exec("BEGIN IMMEDIATE");
    let result: T;
    try {
      result = work();
      this.#db.exec("COMMIT");
    } catch (error) {
      for (const undo of open.undo.reverse()) undo();
      this.#db.exec("ROLLBACK");
      throw error;
    } finally {
      this.#open = undefined;
    }
    if (open.changes.length > 0) for (const listener of this.#listeners) listener(open.changes);
    return result;
  }

  /** Called after each commit that changed records. Returns the unsubscribe function. */
  onCommit(listener: (changes: readonly StoreChange<keyof Kinds & string>[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#db.close();
  }

  #of(kind: string): Map<string, Stored> {
    let records = this.#records.get(kind);
    if (records === undefined) this.#records.set(kind, (records = new Map()));
    return records;
  }

  /** The version in force at the time looked at: what the first later change replaced. */
  #seen(kind: string, id: string, current: Stored | undefined): Stored | undefined {
    const time = this.#asOf;
    if (time === undefined) return current;
    const change = this.#history
      .get(kind)
      ?.get(id)
      ?.find(({ at }) => at > time);
    return change === undefined ? current : change.before;
  }

  #remember(kind: string, id: string, before: Stored | undefined, undo: Undo[]): void {
    if (this.#historyMs === 0) return;
    let ofKind = this.#history.get(kind);
    if (ofKind === undefined) this.#history.set(kind, (ofKind = new Map()));
    const now = Date.now();
    const kept = (ofKind.get(id) ?? []).filter(({ at }) => at > now - this.#historyMs);
    ofKind.set(id, [...kept, { at: now, before }]);
    undo.push(() => ofKind.set(id, kept));
  }

  #transacting() {
    if (this.#open === undefined) throw new Error("Cannot write to the store outside a transaction");
    return this.#open;
  }
}
