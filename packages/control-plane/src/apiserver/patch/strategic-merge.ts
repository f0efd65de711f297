/**
 * Strategic merge patch: like a merge patch, but lists with a patch merge key merge item by item.
 * Directives: `$patch` (replace, delete, merge), `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
 */
import type { AnyJson, JsonObject } from "../api-object.ts";
import { badRequest } from "../api-error.ts";
import type { TypeNode } from "../schema/type-node.ts";
import { deepEqual } from "./json-patch.ts";

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A patched copy of `target`. */
export function applyStrategicMerge(target: unknown, patch: unknown, node: TypeNode | undefined): unknown {
  if (!isObject(patch)) throw badRequest("cannot apply the strategic merge patch: it is not a JSON object");
  return mergeObject(isObject(target) ? target : {}, patch, node);
}

function mergeObject(target: JsonObject, patch: JsonObject, node: TypeNode | undefined): JsonObject {
  if (patch["$patch"] === "replace") return withoutDirectives(patch) as JsonObject;
  if (patch["$patch"] === "delete") return {};
  if (patch["$patch"] !== undefined && patch["$patch"] !== "merge")
    throw badRequest(`unknown patch type found: ${String(patch["$patch"])}`);
  let result: JsonObject = { ...target };
  const retained: unknown = patch["$retainKeys"];
  if (Array.isArray(retained))
    result = Object.fromEntries(Object.entries(result).filter(([key]) => retained.includes(key)));
  for (const [key, value] of Object.entries(patch)) {
    if (key === "$patch" || key === "$retainKeys" || key === "__proto__" || key.startsWith("$setElementOrder/"))
      continue;
    if (key.startsWith("$deleteFromPrimitiveList/")) {
      const list = key.slice("$deleteFromPrimitiveList/".length);
      if (Array.isArray(result[list]))
        result[list] = result[list].filter((item: unknown) => !(value as unknown[]).includes(item));
      continue;
    }
    if (value === null) {
      delete result[key];
      continue;
    }
    result[key] = mergeField(result[key], value, childOf(node, key), patch[`$setElementOrder/${key}`]);
    if (isObject(value) && value["$patch"] === "delete") delete result[key];
  }
  // An order may come without the list itself: a pure reordering.
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith("$setElementOrder/")) continue;
    const list = key.slice("$setElementOrder/".length);
    if (patch[list] !== undefined || !Array.isArray(result[list])) continue;
    const child = childOf(node, list);
    if (child?.is === "list" && child.patchKey !== undefined)
      result[list] = ordered(result[list], order, child.patchKey, result[list]);
  }
  return result;
}

function childOf(node: TypeNode | undefined, key: string): TypeNode | undefined {
  if (node?.is === "struct") return node.field(key);
  return node?.is === "map" ? node.values : undefined;
}

function mergeField(current: unknown, value: unknown, node: TypeNode | undefined, order: unknown): unknown {
  if (isObject(value)) return mergeObject(isObject(current) ? current : {}, value, node);
  if (!Array.isArray(value)) return value;
  if (node?.is !== "list" || node.patchKey === undefined) return value.map(withoutDirectives);
  const list = Array.isArray(current) ? current : [];
  const merged = node.patchKey === "" ? mergeScalars(list, value) : mergeItems(list, value, node.patchKey, node.items);
  return Array.isArray(order) ? ordered(merged, order, node.patchKey, list) : merged;
}

function mergeScalars(list: readonly unknown[], patch: readonly unknown[]): unknown[] {
  return [...list, ...patch.filter((item) => !list.includes(item))].filter(
    (item, index, all) => all.indexOf(item) === index,
  );
}

function mergeItems(
  list: readonly JsonObject[],
  patch: readonly JsonObject[],
  key: string,
  items: TypeNode,
): JsonObject[] {
  let result = [...list];
  if (patch.some((item) => item["$patch"] === "replace" && item[key] === undefined)) {
    return patch.filter((item) => item["$patch"] === undefined).map((item) => withoutDirectives(item) as JsonObject);
  }
  for (const item of patch) {
    if (!isObject(item)) throw badRequest(`cannot merge into a list by ${key}: an item of the patch is not an object`);
    const { [key]: id } = item;
    if (id === undefined) throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    if (item["$patch"] === "delete") {
      result = result.filter((existing) => !deepEqual(existing[key], id));
      continue;
    }
    const at = result.findIndex((existing) => deepEqual(existing[key], id));
    if (at < 0) result.push(mergeObject({}, item, items));
    else result[at] = mergeObject(result[at]!, item, items);
  }
  return result;
}

/**
 * Items named by `order` come in that order; items only the server has keep their place relative to their neighbours
 * in the live list (they follow the item they followed there).
 */
function ordered(merged: readonly AnyJson[], order: AnyJson, key: string, live: readonly AnyJson[]): AnyJson[] {
  const idOf = (item: AnyJson): string => JSON.stringify(key === "" ? item : item?.[key]);
  const wanted: string[] = order.map(idOf);
  const byId = new Map(merged.map((item) => [idOf(item), item]));
  const result = wanted.filter((id) => byId.has(id)).map((id) => byId.get(id));
  const liveIds = live.map(idOf);
  for (const item of merged) {
    const id = idOf(item);
    if (wanted.includes(id)) continue;
    const livePosition = liveIds.indexOf(id);
    let insertAt = livePosition < 0 ? result.length : 0;
    for (let before = livePosition - 1; before >= 0; before--) {
      const found = result.findIndex((other) => idOf(other) === liveIds[before]);
      if (found >= 0) {
        insertAt = found + 1;
        break;
      }
    }
    result.splice(insertAt, 0, item);
  }
  return result;
}

/** New values must not carry directives into the object. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value))
    return value.filter((item) => !(isObject(item) && item["$patch"] === "delete")).map(withoutDirectives);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(
        ([key, child]) =>
          !key.startsWith("$patch") &&
          !key.startsWith("$retainKeys") &&
          !key.startsWith("$setElementOrder/") &&
          !key.startsWith("$deleteFromPrimitiveList/") &&
          child !== null,
      )
      .map(([key, child]) => [key, withoutDirectives(child)]),
  );
}
