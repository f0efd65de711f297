/**
 * Server-side apply: merges what a manager wants into the live object by the kind's schema, removes what it no longer
 * wants and nobody else owns, and refuses to change what others own unless forced.
 */
import { ApiError } from "../api-error.ts";
import type { ApiObject, JsonObject, ManagedFieldsEntry } from "../api-object.ts";
import type { TypeNode } from "../schema/type-node.ts";
import { deepEqual } from "./json-patch.ts";
import {
  changedFields,
  childNode,
  existing,
  fieldsIn,
  intersect,
  itemStep,
  minus,
  pathsOf,
  union,
  type FieldSet,
} from "./field-set.ts";
import { newEntry, ownable, setManagedFields } from "./managed-fields.ts";

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export type ApplyRequest = {
  readonly type: TypeNode;
  /** Undefined creates. */
  readonly live: ApiObject | undefined;
  /** Decoded, without managedFields. */
  readonly config: ApiObject;
  readonly manager: string;
  readonly subresource: string;
  readonly force: boolean;
  readonly now: number;
};

/** The object to write, with its managedFields set. Throws the 409 of a conflict. */
export function applyConfiguration({ type, live, config, manager, subresource, force, now }: ApplyRequest): ApiObject {
  const wanted = ownable(fieldsIn(config, type), subresource) ?? {};
  const entries = live?.metadata.managedFields ?? [];
  const isOwn = (entry: ManagedFieldsEntry): boolean =>
    entry.manager === manager && entry.operation === "Apply" && (entry.subresource ?? "") === subresource;
  const others = entries.filter((entry) => !isOwn(entry));
  const own = entries.find(isOwn);

  let merged = mergeTyped(live, config, type) as ApiObject;
  const changed = live === undefined ? undefined : ownable(changedFields(live, merged, type), subresource);
  const contested = others
    .map((entry) => ({ entry, fields: changed === undefined ? undefined : intersect(changed, entry.fieldsV1) }))
    .filter((c): c is Contested => c.fields !== undefined);
  const refused = force ? [] : notLastApplied(contested, live, manager, type);
  if (refused.length > 0) throw conflictError(refused);

  if (own?.fieldsV1 !== undefined) {
    const foreign = others.reduce<FieldSet>((sum, entry) => union(sum, entry.fieldsV1 ?? {}), {});
    merged = withoutAbandoned(merged, own.fieldsV1, wanted, foreign, type) as ApiObject;
  }

  const kept = others.flatMap((entry) => {
    const lost = contested.find((c) => c.entry === entry)?.fields;
    const rest = lost === undefined ? entry.fieldsV1 : minus(entry.fieldsV1 ?? {}, lost);
    const fields = rest === undefined ? undefined : existing(rest, merged, type);
    return fields === undefined ? [] : [deepEqual(fields, entry.fieldsV1) ? entry : { ...entry, fieldsV1: fields }];
  });
  const unchanged = own !== undefined && own.apiVersion === config.apiVersion && deepEqual(own.fieldsV1, wanted);
  const entry = unchanged
    ? own
    : newEntry({ manager, operation: "Apply", apiVersion: config.apiVersion, fields: wanted, subresource, now });
  setManagedFields(merged, [...kept, entry]);
  return merged;
}

type Contested = { readonly entry: ManagedFieldsEntry; readonly fields: FieldSet };

/** kubectl moving from client-side to server-side apply: what it applied itself (the annotation says so) is not contested. */
function notLastApplied(
  contested: readonly Contested[],
  live: ApiObject | undefined,
  manager: string,
  type: TypeNode,
): Contested[] {
  const text = live?.metadata.annotations?.["kubectl.kubernetes.io/last-applied-configuration"];
  if (manager !== "kubectl" || text === undefined || contested.length === 0) return [...contested];
  let lastApplied: FieldSet;
  try {
    lastApplied = fieldsIn(JSON.parse(text), type);
  } catch {
    return [...contested];
  }
  return contested.flatMap(({ entry, fields }) => {
    const rest = minus(fields, lastApplied);
    return rest === undefined ? [] : [{ entry, fields: rest }];
  });
}

function mergeTyped(live: unknown, config: unknown, node: TypeNode | undefined): unknown {
  if (config === undefined) return structuredClone(live);
  if (isObject(config) && isObject(live) && !((node?.is === "struct" || node?.is === "map") && node.atomic)) {
    const result: JsonObject = { ...structuredClone(live) };
    for (const [key, value] of Object.entries(config)) result[key] = mergeTyped(live[key], value, childNode(node, key));
    return result;
  }
  if (Array.isArray(config) && Array.isArray(live) && node?.is === "list" && node.listType !== "atomic")
    return mergeList(live, config, node);
  return structuredClone(config);
}

/** The applied order, with items only the live list has after the item they followed there. */
function mergeList(live: readonly unknown[], config: readonly unknown[], node: TypeNode & { is: "list" }): unknown[] {
  const liveSteps = live.map((item) => itemStep(item, node));
  const steps = config.map((item) => itemStep(item, node));
  const result = config.map((item, index) => {
    const at = liveSteps.indexOf(steps[index]!);
    return at < 0 ? structuredClone(item) : mergeTyped(live[at], item, node.items);
  });
  live.forEach((item, index) => {
    const step = liveSteps[index]!;
    if (steps.includes(step)) return;
    let at = 0;
    for (let before = index - 1; before >= 0; before--) {
      const found = steps.indexOf(liveSteps[before]!);
      if (found >= 0) {
        at = found + 1;
        break;
      }
    }
    steps.splice(at, 0, step);
    result.splice(at, 0, structuredClone(item));
  });
  return result;
}

/** Removes what `last` names and neither `wanted` nor `foreign` has any part of. */
function withoutAbandoned(
  value: unknown,
  last: FieldSet,
  wanted: FieldSet | undefined,
  foreign: FieldSet | undefined,
  node: TypeNode | undefined,
): unknown {
  if (Array.isArray(value) && node?.is === "list" && node.listType !== "atomic") {
    return value.flatMap((item) => {
      const step = itemStep(item, node);
      const below = last[step];
      if (below === undefined) return [item];
      if (wanted?.[step] === undefined && foreign?.[step] === undefined) return [];
      return [withoutAbandoned(item, below, wanted?.[step], foreign?.[step], node.items)];
    });
  }
  if (!isObject(value)) return value;
  const result: JsonObject = { ...value };
  for (const [step, below] of Object.entries(last)) {
    if (!step.startsWith("f:")) continue;
    const key = step.slice(2);
    if (result[key] === undefined) continue;
    if (wanted?.[step] === undefined && foreign?.[step] === undefined) {
      // `metadata` itself and the like hold fields nobody owns.
      if (key === "metadata" && "name" in (result[key] as object))
        result[key] = withoutAbandoned(result[key], below, undefined, undefined, childNode(node, key));
      else delete result[key];
    } else result[key] = withoutAbandoned(result[key], below, wanted?.[step], foreign?.[step], childNode(node, key));
  }
  return result;
}

function conflictError(contested: readonly Contested[]): ApiError {
  const causes = contested.flatMap(({ entry, fields }) =>
    pathsOf(fields).map((field) => ({
      reason: "FieldManagerConflict",
      message: `conflict with ${managerText(entry)}`,
      field,
    })),
  );
  const byManager = contested.map(({ entry, fields }) => {
    const paths = pathsOf(fields);
    const word = paths.length === 1 ? "conflict" : "conflicts";
    return `${word} with ${managerText(entry)}:${paths.length === 1 ? ` ${paths[0]}` : paths.map((path) => `\n- ${path}`).join("")}`;
  });
  return new ApiError(
    409,
    "Conflict",
    `Apply failed with ${causes.length} conflict${causes.length === 1 ? "" : "s"}: ${byManager.join("\n")}`,
    { causes },
  );
}

function managerText(entry: ManagedFieldsEntry): string {
  const name =
    JSON.stringify(entry.manager ?? "") +
    (entry.subresource === undefined ? "" : ` with subresource ${JSON.stringify(entry.subresource)}`);
  return entry.operation === "Update" ? `${name} using ${entry.apiVersion}` : name;
}
