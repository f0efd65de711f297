/** Equality of statuses, so that a status is written only when it says something new. */
import { canonical } from "./template-hash.ts";

/** Counters that are zero may be absent on the wire. */
export function sameStatus(a: object | undefined, b: object | undefined): boolean {
  return canonical(withoutZeroes(a)) === canonical(withoutZeroes(b));
}

function withoutZeroes(status: object = {}): object {
  return Object.fromEntries(Object.entries(status).filter(([, value]) => value !== 0));
}
