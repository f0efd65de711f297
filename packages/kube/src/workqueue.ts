/** A rate-limited queue of keys: de-duplicated, one worker a key at a time, failures retried with back-off. */
import { setTimeout as sleep } from "node:timers/promises";

export type Requeue = void | { requeueAfterMs: number };
export type RunOptions = {
  workers?: number | undefined;
  signal?: AbortSignal | undefined;
  reconcile: (key: string, signal: AbortSignal) => Promise<Requeue> | Requeue;
  /** Told of every failed reconcile, before the key waits for its next turn. */
  onError?: ((key: string, err: unknown, failures: number) => void) | undefined;
};

export class WorkQueue {
  readonly #baseDelayMs: number;
  readonly #maxDelayMs: number;
  /** In turn order; a key is here at most once. */
  readonly #ready = new Set<string>();
  readonly #running = new Set<string>();
  /** Added again while running: takes another turn afterwards. */
  readonly #dirty = new Set<string>();
  readonly #timers = new Map<string, { at: number; timer: NodeJS.Timeout }>();
  readonly #failures = new Map<string, number>();
  readonly #waiting: (() => void)[] = [];

  constructor(options: { baseDelayMs?: number; maxDelayMs?: number } = {}) {
    this.#baseDelayMs = options.baseDelayMs ?? 5;
    this.#maxDelayMs = options.maxDelayMs ?? 1_000_000;
  }

  /** Keys ready for a worker. */
  get length(): number {
    return this.#ready.size;
  }

  /** Nothing ready and nothing being worked on (delayed keys do not count). */
  get idle(): boolean {
    return this.#ready.size === 0 && this.#running.size === 0;
  }

  add(key: string): void {
    if (this.#running.has(key)) {
      this.#dirty.add(key);
      return;
    }
    this.#ready.add(key);
    this.#waiting.shift()?.();
  }

  /** Adds the key later; the earliest of several times counts. */
  addAfter(key: string, ms: number): void {
    if (ms <= 0) return this.add(key);
    const at = performance.now() + ms;
    const planned = this.#timers.get(key);
    if (planned && planned.at <= at) return;
    clearTimeout(planned?.timer);
    const timer = setTimeout(
      () => {
        this.#timers.delete(key);
        this.add(key);
      },
      Math.min(ms, 2 ** 31 - 1),
    );
    this.#timers.set(key, { at, timer });
  }

  /** Adds the key after its back-off, which doubles with every call until forget(). */
  addRateLimited(key: string): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.addAfter(key, Math.min(this.#baseDelayMs * 2 ** failures, this.#maxDelayMs));
  }

  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Works until the signal aborts; then waits for what is running. */
  async run(options: RunOptions): Promise<void> {
    const signal = options.signal ?? new AbortController().signal;
    const wake = () => {
      for (const waiter of this.#waiting.splice(0)) waiter();
    };
    signal.addEventListener("abort", wake, { once: true });
    await Promise.all(Array.from({ length: options.workers ?? 1 }, () => this.#work(options, signal)));
    signal.removeEventListener("abort", wake);
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  async #work(options: RunOptions, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const next = this.#ready.values().next();
      if (next.done) {
        await new Promise<void>((wake) => this.#waiting.push(wake));
        continue;
      }
      const key = next.value;
      this.#ready.delete(key);
      this.#running.add(key);
      try {
        const requeue = await options.reconcile(key, signal);
        this.forget(key);
        if (requeue) this.addAfter(key, requeue.requeueAfterMs);
      } catch (err) {
        if (signal.aborted) return;
        options.onError?.(key, err, (this.#failures.get(key) ?? 0) + 1);
        this.addRateLimited(key);
      } finally {
        this.#running.delete(key);
        if (this.#dirty.delete(key)) this.add(key);
      }
    }
  }
}

/** Repeats `action` every `periodMs` until the signal aborts; the next period starts when the action has ended. */
export async function every(periodMs: number, signal: AbortSignal, action: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await action();
    await sleep(periodMs, undefined, { signal }).catch(() => undefined);
  }
}
