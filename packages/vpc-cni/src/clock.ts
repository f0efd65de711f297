/** Time as a parameter: AWS's own waits everywhere, divided by one scale, and stopped by one signal. */
import { setTimeout as delay } from "node:timers/promises";

export type Clock = {
  /** Milliseconds of AWS time; only differences mean anything once scaled. */
  now(): number;
  /** Waits `ms` of AWS time. Rejects with AbortError when the signal fires. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
};

/** The real clock, `scale` times as fast as the wall's. */
export function createClock(scale = 1): Clock {
  const start = Date.now();
  return {
    now: () => start + (Date.now() - start) * scale,
    sleep: (ms, signal) => delay(ms / scale, undefined, signal ? { signal } : {}),
  };
}

export type Backoff = {
  readonly tries: number;
  readonly firstMs: number;
  readonly factor?: number;
  readonly capMs?: number;
  /** Fraction of each wait that is random, both ways. */
  readonly jitter?: number;
};

/** Calls `attempt` until it returns, `tries` times at most; the last error is thrown. `giveUp` ends it early. */
export async function retry<T>(
  clock: Clock,
  backoff: Backoff,
  attempt: () => Promise<T>,
  giveUp: (error: unknown) => boolean = () => false,
  signal?: AbortSignal,
): Promise<T> {
  let waitMs = backoff.firstMs;
  for (let round = 1; ; round++) {
    try {
      return await attempt();
    } catch (error) {
      if (round >= backoff.tries || giveUp(error)) throw error;
    }
    const jitter = (backoff.jitter ?? 0) * (Math.random() * 2 - 1);
    await clock.sleep(waitMs * (1 + jitter), signal);
    waitMs = Math.min(waitMs * (backoff.factor ?? 2), backoff.capMs ?? 60_000);
  }
}
