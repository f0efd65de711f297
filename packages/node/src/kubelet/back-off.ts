/** Back-off per key: the first time is free, then 10 s doubling to 5 min, forgotten after twice the maximum. Pure (time is passed in). */
export type BackOffSettings = { readonly initialMs: number; readonly maxMs: number };

export class BackOff {
  readonly #settings: BackOffSettings;
  readonly #entries = new Map<string, { delayMs: number; updatedAt: number }>();

  constructor(settings: BackOffSettings) {
    this.#settings = settings;
  }

  /** How long still to wait for `key` after something that happened at `since`; 0 when not in back-off. */
  remaining(key: string, since: number, now: number): number {
    const entry = this.#entries.get(key);
    if (!entry || this.#expired(entry.updatedAt, since)) return 0;
    return Math.max(0, since + entry.delayMs - now);
  }

  /** When the latest attempt of `key` started; 0 when there was none. */
  lastAt(key: string): number {
    return this.#entries.get(key)?.updatedAt ?? 0;
  }

  /** The delay in force, for messages. */
  delay(key: string): number {
    return this.#entries.get(key)?.delayMs ?? 0;
  }

  /** One more attempt starts: the next failure waits longer. */
  next(key: string, since: number, now: number): void {
    const entry = this.#entries.get(key);
    if (!entry || this.#expired(entry.updatedAt, since))
      this.#entries.set(key, { delayMs: this.#settings.initialMs, updatedAt: now });
    else this.#entries.set(key, { delayMs: Math.min(entry.delayMs * 2, this.#settings.maxMs), updatedAt: now });
  }

  forget(prefix: string): void {
    for (const key of this.#entries.keys()) if (key.startsWith(prefix)) this.#entries.delete(key);
  }

  #expired(updatedAt: number, eventAt: number): boolean {
    return eventAt - updatedAt > 2 * this.#settings.maxMs;
  }
}

/** `10s`, `1m20s`, `5m0s`: Go's duration text. */
export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const rest = seconds % 60;
  if (hours > 0) return `${hours}h${minutes}m${rest}s`;
  return minutes > 0 ? `${minutes}m${rest}s` : `${rest}s`;
}
