/**
 * What differs between the datastore and the instance. Pure. IMDS is cheap and late, EC2 is right and costs a call: a
 * difference with IMDS only says where to ask EC2.
 */
import type { EniRecord } from "./datastore.ts";
import type { AttachedEni } from "./instance-metadata.ts";

export type Differences = {
  /** Attached and not in the store. */
  readonly newEnis: readonly AttachedEni[];
  /** In the store and not listed as attached. */
  readonly missingEnis: readonly string[];
  /** Known on both sides with other addresses or prefixes. */
  readonly changedEnis: readonly string[];
};

type StoredEni = Pick<EniRecord, "eniId"> & { readonly cidrs: { keys(): Iterable<string> } };

export function compareWithMetadata(
  stored: readonly StoredEni[],
  attached: readonly AttachedEni[],
  unmanaged: ReadonlySet<string>,
): Differences {
  const byId = new Map(attached.map((eni) => [eni.eniId, eni]));
  const known = new Set(stored.map((eni) => eni.eniId));
  return {
    newEnis: attached.filter((eni) => !known.has(eni.eniId) && !unmanaged.has(eni.eniId)),
    missingEnis: stored.filter((eni) => !byId.has(eni.eniId)).map((eni) => eni.eniId),
    changedEnis: stored
      .filter((eni) => {
        const listed = byId.get(eni.eniId)?.cidrs;
        return listed !== undefined && !sameSet(new Set(eni.cidrs.keys()), new Set(listed));
      })
      .map((eni) => eni.eniId),
  };
}

/** Addresses and prefixes (CIDRs) to add and to remove so that the store has what EC2 says; those freed a moment ago are not taken back. */
export function compareCidrs(
  stored: Iterable<string>,
  truth: readonly string[],
  recentlyFreed: ReadonlySet<string>,
): { readonly add: readonly string[]; readonly remove: readonly string[] } {
  const have = new Set(stored);
  const want = new Set(truth);
  return {
    add: truth.filter((cidr) => !have.has(cidr) && !recentlyFreed.has(cidr)),
    remove: [...have].filter((cidr) => !want.has(cidr)),
  };
}

function sameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((item) => b.has(item));
}
