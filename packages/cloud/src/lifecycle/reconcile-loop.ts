/** Runs one pass at a time of something that moves records along: soon after a kick, and again after a while as long as it says so. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "@underlay/log/log";

export type ReconcileLoop = {
  /** Something changed: pass again as soon as possible. */
  kick(): void;
  close(): Promise<void>;
};

/** `pass` resolves to the milliseconds until it wants to run again by itself, or undefined. */
export function startLoop(options: { name: string; log: Log; pass: () => Promise<number | undefined> }): ReconcileLoop {
  let closed = false;
  let kicked = true;
  let wake = new AbortController();

  const run = (async () => {
    let failures = 0;
    while (!closed) {
      kicked = false;
      let pause: number | undefined;
      try {
        pause = await options.pass();
        failures = 0;
      } catch (err) {
        failures += 1;
        pause = Math.min(200 * 2 ** failures, 10_000);
        options.log.error("a pass failed", { loop: options.name, err });
      }
      if (kicked || closed) continue;
      wake = new AbortController();
      // A minute without a kick costs nothing and repairs what a lost one would leave.
      await sleep(pause ?? 60_000, undefined, { signal: wake.signal }).catch(() => {});
    }
  })();

  return {
    kick() {
      kicked = true;
      wake.abort();
    },
    async close() {
      closed = true;
      wake.abort();
      await run;
    },
  };
}
