/** The status a CustomResourceDefinition should have. Pure. */
import { isDeepStrictEqual } from "node:util";
import type { ApiObject } from "../api-object.ts";
import type { Stored } from "../stored.ts";

type Accepted = { readonly ok: true } | { readonly ok: false; readonly reason: string; readonly message: string };

/** Names are accepted unless an older definition of the group has one of them. */
export function acceptNames(crd: ApiObject, others: readonly ApiObject[]): Accepted {
  const names = crd["spec"].names;
  for (const other of others) {
    if (other["spec"].group !== crd["spec"].group || isOlder(crd, other)) continue;
    const taken = other["spec"].names;
    const plurals = [taken.plural, taken.singular, ...(taken.shortNames ?? [])];
    const wanted: [string, string][] = [
      ["Plural", names.plural],
      ["Singular", names.singular],
      ...(names.shortNames ?? []).map((n: string) => ["ShortNames", n]),
    ] as [string, string][];
    for (const [which, name] of wanted) {
      if (plurals.includes(name))
        return { ok: false, reason: `${which}Conflict`, message: `"${name}" is already in use` };
    }
    if ([taken.kind, taken.listKind].includes(names.kind)) {
      return { ok: false, reason: "KindConflict", message: `"${names.kind}" is already in use` };
    }
  }
  return { ok: true };
}

function isOlder(a: ApiObject, b: ApiObject): boolean {
  const [left, right] = [a.metadata.creationTimestamp ?? "", b.metadata.creationTimestamp ?? ""];
  return left < right || (left === right && a.metadata.name < b.metadata.name);
}

/** The status to write, or undefined when it is as it should be. */
export function wantedStatus(crd: ApiObject, others: readonly ApiObject[], now: string): object | undefined {
  const accepted = acceptNames(crd, others);
  const status = crd["status"] ?? {};
  const conditions: Stored[] = structuredClone(status.conditions ?? []);
  set(
    conditions,
    now,
    accepted.ok
      ? { type: "NamesAccepted", status: "True", reason: "NoConflicts", message: "no conflicts found" }
      : { type: "NamesAccepted", status: "False", reason: accepted.reason, message: accepted.message },
  );
  if (accepted.ok) {
    set(conditions, now, {
      type: "Established",
      status: "True",
      reason: "InitialNamesAccepted",
      message: "the initial names have been accepted",
    });
  } else if (!conditions.some((condition) => condition.type === "Established" && condition.status === "True")) {
    set(conditions, now, {
      type: "Established",
      status: "False",
      reason: "NotAccepted",
      message: "not all names are accepted",
    });
  }
  const stored = crd["spec"].versions.find((version: Stored) => version.storage)?.name;
  const wanted = {
    ...status,
    conditions,
    acceptedNames: accepted.ok ? crd["spec"].names : (status.acceptedNames ?? { plural: "", kind: "" }),
    storedVersions: [...new Set([...(status.storedVersions ?? []), stored])],
  };
  return isDeepStrictEqual(wanted, status) ? undefined : wanted;
}

function set(
  conditions: Stored[],
  now: string,
  condition: { type: string; status: string; reason: string; message: string },
): void {
  const known = conditions.find((candidate) => candidate.type === condition.type);
  if (!known) conditions.push({ ...condition, lastTransitionTime: now });
  else
    Object.assign(known, condition, {
      lastTransitionTime: known.status === condition.status ? known.lastTransitionTime : now,
    });
}
