/** The recent changes of one storage, for watches that resume. Bounded by age, number and size; knows what it has forgotten. */
import type { StoreEvent } from "./store.ts";

const keepMs = 6 * 60_000;
const keepAtMost = 5_000;
const keepCharacters = 8 * 1024 * 1024;

export class History {
  #events: StoreEvent[] = [];
  #characters = 0;
  /** Every change after this revision is known. */
  #completeAfter = 0;

  startAfter(revision: number): void {
    this.#completeAfter = revision;
  }

  push(event: StoreEvent): void {
    this.#events.push(event);
    this.#characters += event.entry.json.length;
    // Trim in strides, so that a push is cheap.
    if (this.#events.length > keepAtMost * 1.25 || this.#characters > keepCharacters)
      this.#forget(Math.ceil(this.#events.length / 5));
    else if (this.#events.length % 256 === 0) this.#forget(firstAfter(this.#events, (e) => e.at > event.at - keepMs));
  }

  since(revision: number): StoreEvent[] | undefined {
    if (revision < this.#completeAfter) return undefined;
    return this.#events.slice(firstAfter(this.#events, (e) => e.revision > revision));
  }

  #forget(count: number): void {
    const last = this.#events[count - 1];
    if (last === undefined) return;
    this.#completeAfter = last.revision;
    for (const event of this.#events.slice(0, count)) this.#characters -= event.entry.json.length;
    this.#events = this.#events.slice(count);
  }
}

/** Index of the first event that fulfils a condition which, once true, stays true. */
function firstAfter(events: readonly StoreEvent[], holds: (event: StoreEvent) => boolean): number {
  let low = 0;
  let high = events.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(events[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}
