/** Waiting for a condition with a deadline, never for a number of milliseconds. */
import { setTimeout as sleep } from "node:timers/promises";
import { UnderlayError } from "@underlay/log/underlay-error";

/**
 * Polls `look` until it returns something. Throws `TimedOut` after `timeoutMs`, with the last error `look` threw as cause.
 * Errors of `look` count as "not yet".
 */
export async function waitUntil<T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<T | undefined> | T | undefined,
  intervalMs = 50,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen !== undefined) return seen;
      lastError = undefined;
    } catch (err) {
      lastError = err;
    }
    if (Date.now() > deadline) {
      const detail = lastError instanceof Error ? `: ${lastError.message}` : "";
      throw new UnderlayError("TimedOut", `Cannot go on: waited ${timeoutMs / 1000} s for ${what}${detail}`, {
        cause: lastError,
      });
    }
    await sleep(intervalMs);
  }
}
