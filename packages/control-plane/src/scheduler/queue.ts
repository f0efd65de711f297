/** Pods that wait for a node: which is next, and when one that did not fit is tried again. Pure but for the time given in. */
import type { Pod } from "@underlay/kube/objects";

type Waiting = {
  pod: Pod;
  attempts: number;
  /** When it may be tried; Infinity while nothing has changed that could help it. */
  readyAt: number;
  triedAt: number;
};

const firstBackoffMs = 1_000;
const longestBackoffMs = 10_000;
/** Upstream's flush: even without an event an unschedulable pod is looked at again. */
const longestWaitMs = 300_000;

export class SchedulingQueue {
  readonly #waiting = new Map<string, Waiting>();

  /** Adds a pod, or renews what is known of it. `changed` means the change may make it fit. */
  add(pod: Pod, now: number, changed: boolean): void {
    const uid = pod.metadata.uid ?? "";
    const known = this.#waiting.get(uid);
    if (!known) {
      this.#waiting.set(uid, { pod, attempts: 0, readyAt: now, triedAt: now });
      return;
    }
    known.pod = pod;
    if (changed) known.readyAt = Math.min(known.readyAt, afterBackoff(known));
  }

  remove(pod: Pod): void {
    this.#waiting.delete(pod.metadata.uid ?? "");
  }

  /** Something changed in the cluster that may help those that did not fit. */
  wake(): void {
    for (const waiting of this.#waiting.values()) waiting.readyAt = Math.min(waiting.readyAt, afterBackoff(waiting));
  }

  /** The pods whose turn it is: higher priority first, then older. They stay known until removed. */
  take(now: number): Pod[] {
    const ready = [...this.#waiting.values()].filter(({ readyAt }) => readyAt <= now);
    for (const waiting of ready) {
      waiting.attempts += 1;
      waiting.triedAt = now;
      waiting.readyAt = now + longestWaitMs;
    }
    return ready.map(({ pod }) => pod).sort(byPriority);
  }

  /** Tries again after the back-off although nothing changed (a failed request). */
  retry(pod: Pod): void {
    const waiting = this.#waiting.get(pod.metadata.uid ?? "");
    if (waiting) waiting.readyAt = Math.min(waiting.readyAt, afterBackoff(waiting));
  }

  /** When the next pod is ready; Infinity when none waits. */
  nextAt(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { readyAt } of this.#waiting.values()) next = Math.min(next, readyAt);
    return next;
  }
}

function afterBackoff({ attempts, triedAt }: Waiting): number {
  return attempts === 0 ? triedAt : triedAt + Math.min(firstBackoffMs * 2 ** (attempts - 1), longestBackoffMs);
}

function byPriority(a: Pod, b: Pod): number {
  const priority = (b.spec?.priority ?? 0) - (a.spec?.priority ?? 0);
  if (priority !== 0) return priority;
  const [left = "", right = ""] = [a.metadata.creationTimestamp, b.metadata.creationTimestamp];
  return left < right ? -1 : left > right ? 1 : 0;
}
