/** Pruning and defaulting of custom objects by their structural schema; both change the object in place. */

import type { Stored } from "../stored.ts";

// A structural schema as the CRD holds it (checked when the CRD was stored).
export type Schema = Record<string, Stored>;

const embeddedMeta = new Set(["apiVersion", "kind", "metadata"]);

/** Removes what the schema does not know; returns the removed paths. */
export function prune(object: unknown, schema: Schema): string[] {
  const removed: string[] = [];
  pruneValue(object, schema, "", true, removed);
  return removed;
}

function pruneValue(value: unknown, schema: Schema, path: string, resource: boolean, removed: string[]): void {
  if (Array.isArray(value)) {
    if (schema["items"])
      for (const [index, item] of value.entries())
        pruneValue(item, schema["items"], `${path}[${index}]`, false, removed);
    return;
  }
  if (value === null || typeof value !== "object") return;
  const object = value as Record<string, unknown>;
  const embedded = resource || schema["x-kubernetes-embedded-resource"] === true;
  const keepsUnknown = schema["x-kubernetes-preserve-unknown-fields"] === true;
  for (const key of Object.keys(object)) {
    if (embedded && embeddedMeta.has(key)) continue;
    const at = path === "" ? key : `${path}.${key}`;
    const property = Object.hasOwn(schema["properties"] ?? {}, key) ? schema["properties"][key] : undefined;
    const next =
      property ?? (typeof schema["additionalProperties"] === "object" ? schema["additionalProperties"] : undefined);
    if (next) pruneValue(object[key], next, at, false, removed);
    else if (!keepsUnknown && schema["additionalProperties"] !== true) {
      delete object[key];
      removed.push(at);
    }
  }
}

/** Fills in defaults; a null where null is not allowed counts as absent. */
export function applyDefaults(value: unknown, schema: Schema): void {
  if (Array.isArray(value)) {
    if (schema["items"]) for (const item of value) applyDefaults(item, schema["items"]);
    return;
  }
  if (value === null || typeof value !== "object") return;
  const object = value as Record<string, unknown>;
  for (const [key, property] of Object.entries<Schema>(schema["properties"] ?? {})) {
    if (object[key] === null && property["nullable"] !== true) delete object[key];
    if (object[key] === undefined && property["default"] !== undefined)
      object[key] = structuredClone(property["default"]);
    if (object[key] !== undefined) applyDefaults(object[key], property);
  }
  if (typeof schema["additionalProperties"] === "object") {
    for (const [key, entry] of Object.entries(object)) {
      if (Object.hasOwn(schema["properties"] ?? {}, key)) continue;
      if (entry === null && schema["additionalProperties"]["nullable"] !== true) delete object[key];
      else applyDefaults(entry, schema["additionalProperties"]);
    }
  }
}
