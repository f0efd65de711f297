/**
 * events.k8s.io/v1 events are core events seen through other names; they are stored as core events. Versions of a custom
 * kind (conversion strategy None) differ in their apiVersion only.
 */
import type { ApiObject } from "../api-object.ts";
import { groupVersion, type ResourceInfo } from "../resource-info.ts";

const renamed: readonly [core: string, modern: string][] = [
  ["involvedObject", "regarding"],
  ["message", "note"],
  ["source", "deprecatedSource"],
  ["firstTimestamp", "deprecatedFirstTimestamp"],
  ["lastTimestamp", "deprecatedLastTimestamp"],
  ["count", "deprecatedCount"],
  ["reportingComponent", "reportingController"],
];

const isModern = (info: ResourceInfo): boolean => info.group === "events.k8s.io";

/** A stored object in the version of `info` (changes it). */
export function toVersion(info: ResourceInfo, object: ApiObject): ApiObject {
  if (info.custom !== undefined) object.apiVersion = groupVersion(info);
  if (!isModern(info)) return object;
  for (const [core, modern] of renamed) rename(object, core, modern);
  return { ...object, apiVersion: "events.k8s.io/v1", kind: "Event" };
}

/** An object of `info`'s version as it is stored (a shallow copy where they differ). */
export function toStorage(info: ResourceInfo, object: ApiObject): ApiObject {
  if (!isModern(info)) return object;
  const stored = { ...object, apiVersion: "v1", kind: "Event" };
  for (const [core, modern] of renamed) rename(stored, modern, core);
  return stored;
}

function rename(object: ApiObject, from: string, to: string): void {
  if (object[from] === undefined) return;
  object[to] = object[from];
  delete object[from];
}
