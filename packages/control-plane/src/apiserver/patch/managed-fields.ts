/** Who set which field: the books behind server-side apply, kept on every write. */
import { kubernetesTime, type ApiObject, type ManagedFieldsEntry } from "../api-object.ts";
import type { TypeNode } from "../schema/type-node.ts";
import { deepEqual } from "./json-patch.ts";
import { changedFields, existing, minus, union, type FieldSet } from "./field-set.ts";

const never: FieldSet = {
  "f:apiVersion": {},
  "f:kind": {},
  "f:metadata": {
    "f:name": {},
    "f:namespace": {},
    "f:uid": {},
    "f:resourceVersion": {},
    "f:generation": {},
    "f:creationTimestamp": {},
    "f:selfLink": {},
    "f:managedFields": {},
    "f:deletionTimestamp": {},
    "f:deletionGracePeriodSeconds": {},
  },
};

/** Removes what nobody owns: identity, server-set metadata, and the status on endpoints that do not write it. */
export function ownable(set: FieldSet | undefined, subresource: string): FieldSet | undefined {
  if (set === undefined) return undefined;
  const rest = minus(set, subresource === "" ? { ...never, "f:status": {} } : never);
  if (rest?.["f:metadata"] !== undefined && Object.keys(rest["f:metadata"]).length === 0) delete rest["f:metadata"];
  return rest === undefined || Object.keys(rest).length === 0 ? undefined : rest;
}

export type UpdateTracking = {
  readonly type: TypeNode;
  /** The new object; its metadata.managedFields is set. */
  readonly object: ApiObject;
  readonly old: ApiObject | undefined;
  readonly manager: string;
  readonly subresource: string;
  readonly now: number;
};

/** Books a plain write (create, update, patch): what it changed is now its manager's. */
export function trackUpdate({ type, object, old, manager, subresource, now }: UpdateTracking): void {
  const given = object.metadata.managedFields;
  if (given !== undefined && given.length === 1 && Object.keys(given[0]!).length === 0) {
    delete object.metadata.managedFields;
    return;
  }
  const base =
    old === undefined ? [] : given === undefined || given.length === 0 ? (old.metadata.managedFields ?? []) : given;
  const changed = ownable(changedFields(plain(old), plain(object), type), subresource);
  const isOwn = (entry: ManagedFieldsEntry): boolean =>
    entry.manager === manager &&
    entry.operation === "Update" &&
    entry.apiVersion === object.apiVersion &&
    (entry.subresource ?? "") === subresource;
  const entries: ManagedFieldsEntry[] = [];
  let own = false;
  for (const entry of base) {
    const kept = existing(entry.fieldsV1 ?? {}, object, type);
    if (isOwn(entry)) {
      own = true;
      const fields = changed === undefined ? kept : union(kept ?? {}, changed);
      if (fields !== undefined) entries.push(updated(entry, fields, now));
    } else {
      const fields = kept === undefined || changed === undefined ? kept : minus(kept, changed);
      if (fields !== undefined) entries.push(updated(entry, fields, now));
    }
  }
  if (!own && changed !== undefined)
    entries.push(
      newEntry({ manager, operation: "Update", apiVersion: object.apiVersion, fields: changed, subresource, now }),
    );
  setManagedFields(object, entries);
}

function updated(entry: ManagedFieldsEntry, fields: FieldSet, now: number): ManagedFieldsEntry {
  return deepEqual(fields, entry.fieldsV1) ? entry : { ...entry, time: kubernetesTime(now), fieldsV1: fields };
}

export function newEntry(o: {
  manager: string;
  operation: "Apply" | "Update";
  apiVersion: string;
  fields: FieldSet;
  subresource: string;
  now: number;
}): ManagedFieldsEntry {
  return {
    manager: o.manager,
    operation: o.operation,
    apiVersion: o.apiVersion,
    time: kubernetesTime(o.now),
    fieldsType: "FieldsV1",
    fieldsV1: o.fields,
    ...(o.subresource === "" ? {} : { subresource: o.subresource }),
  };
}

/** Sets the entries in upstream's order: applies first, then by time and manager. */
export function setManagedFields(object: ApiObject, entries: ManagedFieldsEntry[]): void {
  const rank = (e: ManagedFieldsEntry): string =>
    `${e.operation === "Apply" ? 0 : 1} ${e.time ?? ""} ${e.manager ?? ""} ${e.subresource ?? ""}`;
  entries.sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
  if (entries.length === 0) delete object.metadata.managedFields;
  else object.metadata.managedFields = entries;
}

const plain = (object: ApiObject | undefined): unknown => {
  if (object === undefined) return undefined;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
};
