/** Pages of a list come from one snapshot: the rest of it is kept (references only) under an opaque token for some minutes. */
import { randomUUID } from "node:crypto";
import { badRequest, expired } from "../api-error.ts";
import type { Entry } from "../store/store.ts";

const keepMs = 5 * 60_000;
const keepAtMost = 500;

export type Snapshot = { readonly entries: readonly Entry[]; readonly revision: number; readonly until: number };
export type Snapshots = ReturnType<typeof createSnapshots>;

export function createSnapshots(now: () => number) {
  const kept = new Map<string, Snapshot>();
  return {
    /** A token for the rest of a list. */
    keep(entries: readonly Entry[], revision: number): string {
      const id = randomUUID();
      kept.set(id, { entries, revision, until: now() + keepMs });
      for (const [other, snapshot] of kept) {
        if (snapshot.until > now() && kept.size <= keepAtMost) break;
        kept.delete(other);
      }
      return Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", rv: revision, id })).toString("base64url");
    },
    resume(token: string): Snapshot {
      let id: unknown;
      try {
        ({ id } = JSON.parse(Buffer.from(token, "base64url").toString()) as { id?: unknown });
      } catch {
        throw badRequest("continue key is not valid: invalid character");
      }
      if (typeof id !== "string") throw badRequest("continue key is not valid: unknown format");
      const snapshot = kept.get(id);
      if (snapshot === undefined || snapshot.until <= now()) {
        throw expired(
          "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
        );
      }
      return snapshot;
    },
  };
}
