/**
 * Expectations: what a controller asked for and its informer has not shown yet. Until they are met the cache is
 * stale, and acting on it would create or delete twice.
 */

type Expected = { creations: number; deletions: Set<string>; at: number };

/** After this long a lost event is assumed and the controller looks again. */
const expireMs = 300_000;

export class Expectations {
  readonly #expected = new Map<string, Expected>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** True when the cache shows everything asked for under this key. */
  satisfied(key: string): boolean {
    const expected = this.#expected.get(key);
    if (!expected) return true;
    return (expected.creations <= 0 && expected.deletions.size === 0) || this.#now() - expected.at > expireMs;
  }

  expect(key: string, what: { creations?: number; deletions?: readonly string[] }): void {
    const old = this.#expected.get(key);
    const keep = old && !this.satisfied(key);
    this.#expected.set(key, {
      creations: (keep ? old.creations : 0) + (what.creations ?? 0),
      deletions: new Set([...(keep ? old.deletions : []), ...(what.deletions ?? [])]),
      at: this.#now(),
    });
  }

  /** A creation was seen, or failed. */
  created(key: string): void {
    const expected = this.#expected.get(key);
    if (expected) expected.creations -= 1;
  }

  /** A deletion (by uid) was seen, or failed. */
  deleted(key: string, uid: string): void {
    this.#expected.get(key)?.deletions.delete(uid);
  }

  forget(key: string): void {
    this.#expected.delete(key);
  }
}
