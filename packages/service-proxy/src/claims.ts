import type { PlannedElement } from "./plan.ts";

export interface ClaimChange {
  readonly before: PlannedElement | undefined;
  readonly after: PlannedElement | undefined;
}

/**
 * Who asks for which element. Two services may ask for the same one (a pod behind both, an external address used twice):
 * it is there while one of them does, with the value of whoever asked first.
 */
export class Claims {
  readonly #byKey = new Map<string, Map<string, PlannedElement>>();

  /** Replaces what `owner` asks for and tells which elements thereby change. */
  replace(owner: string, before: readonly PlannedElement[], after: readonly PlannedElement[]): ClaimChange[] {
    const wanted = new Map(after.map((one) => [idOf(one), one]));
    const changes: ClaimChange[] = [];
    for (const id of new Set([...before.map(idOf), ...wanted.keys()])) {
      const claims = this.#byKey.get(id) ?? new Map<string, PlannedElement>();
      const was = first(claims);
      const one = wanted.get(id);
      if (one === undefined) claims.delete(owner);
      else claims.set(owner, one);
      if (claims.size === 0) this.#byKey.delete(id);
      else this.#byKey.set(id, claims);
      const now = first(claims);
      if (was?.value !== now?.value) changes.push({ before: was, after: now });
    }
    return changes;
  }

  /** Every element that is to be there. */
  *elements(): Generator<PlannedElement> {
    for (const claims of this.#byKey.values()) yield first(claims) as PlannedElement;
  }
}

const idOf = (one: PlannedElement): string => `${one.set} ${one.key}`;
const first = (claims: ReadonlyMap<string, PlannedElement>): PlannedElement | undefined => claims.values().next().value;
