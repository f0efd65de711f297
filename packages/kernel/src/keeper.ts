/**
 * Keeps processes running: adopts what runs already (by pid file), starts what does not, starts again what ended, with a
 * growing pause. All state is in the pid files, so the keeper itself may die at any time and another takes over.
 */
import { rmSync } from "node:fs";
import { findAdopted, killTree, spawnDetached, waitExit, type ProcessId, type SpawnSpec } from "./processes.ts";

export interface KeeperEvent {
  name: string;
  what: "started" | "adopted" | "exited" | "stopped" | "failed";
  pid?: number;
  /** How it ended, or why it did not start. */
  detail?: string;
}

interface Kept {
  spec: SpawnSpec;
  process: ProcessId | undefined;
  /** Ends the watch and any pending restart. */
  letGo: AbortController;
  failures: number;
}

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** Having run this long, a process starts again without delay. */
const STEADY_MS = 10_000;
const EXIT_DETAIL_MS = 200;

export class Keeper {
  readonly #kept = new Map<string, Kept>();
  readonly #onEvent: (event: KeeperEvent) => void;

  constructor(o: { onEvent?: (event: KeeperEvent) => void } = {}) {
    this.#onEvent = o.onEvent ?? (() => {});
  }

  /** Adopts or starts a process and keeps it from then on. Throws when its first start fails. */
  keep(name: string, spec: SpawnSpec): { pid: number } {
    if (this.#kept.has(name)) throw new Error(`Cannot keep ${name}: a process of that name is kept already`);
    const kept: Kept = { spec, process: findAdopted(spec.pidFile), letGo: new AbortController(), failures: 0 };
    let how: Promise<string> | undefined;
    if (kept.process === undefined) how = this.#start(name, kept);
    else this.#onEvent({ name, what: "adopted", pid: kept.process.pid });
    this.#kept.set(name, kept);
    void this.#watch(name, kept, how);
    return { pid: (kept.process as ProcessId).pid };
  }

  /** Ends a process and keeps it no longer. */
  async stop(name: string, o: { graceMs?: number } = {}): Promise<void> {
    const kept = this.#kept.get(name);
    if (kept === undefined) return;
    this.#kept.delete(name);
    kept.letGo.abort();
    if (kept.process !== undefined) await killTree(kept.process, o);
    rmSync(kept.spec.pidFile, { force: true });
    this.#onEvent({ name, what: "stopped", ...(kept.process === undefined ? {} : { pid: kept.process.pid }) });
  }

  /** Ends all, the last kept first. */
  async stopAll(): Promise<void> {
    for (const name of [...this.#kept.keys()].reverse()) await this.stop(name);
  }

  /** Stops watching and leaves everything running. */
  letGo(): void {
    for (const kept of this.#kept.values()) kept.letGo.abort();
    this.#kept.clear();
  }

  running(): { name: string; pid: number }[] {
    return [...this.#kept].flatMap(([name, { process }]) =>
      process === undefined ? [] : [{ name, pid: process.pid }],
    );
  }

  /** Promises how the process will have ended. */
  #start(name: string, kept: Kept): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    kept.process = spawnDetached(kept.spec, resolve);
    this.#onEvent({ name, what: "started", pid: kept.process.pid });
    return promise;
  }

  async #watch(name: string, kept: Kept, firstHow: Promise<string> | undefined): Promise<void> {
    const { signal } = kept.letGo;
    for (let how = firstHow; !signal.aborted;) {
      if (kept.process !== undefined) {
        const { pid } = kept.process;
        const since = Date.now();
        if (!(await waitExit(kept.process, { signal }))) return;
        // Node tells how a child of ours ended a little after the kernel does; for an adopted one nobody can.
        const detail = how && (await Promise.race([how, pause(EXIT_DETAIL_MS, signal)]));
        kept.process = undefined;
        kept.failures = Date.now() - since > STEADY_MS ? 0 : kept.failures + 1;
        if (signal.aborted) return;
        this.#onEvent({ name, what: "exited", pid, ...(detail ? { detail } : {}) });
      }
      await pause(
        kept.failures === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (kept.failures - 1), LONGEST_PAUSE_MS),
        signal,
      );
      if (signal.aborted) return;
      try {
        how = this.#start(name, kept);
      } catch (error) {
        kept.failures++;
        this.#onEvent({ name, what: "failed", detail: (error as Error).message });
      }
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve(undefined);
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
  });
}
