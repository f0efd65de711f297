/**
 * Sets of field paths in the wire's own form (`fieldsV1`): `f:<field>`, `k:{"name":"x"}` for items of keyed lists (with
 * `.` for the item itself), `v:<value>` for items of sets. An empty object is a member without members below it.
 */
import type { JsonObject } from "../api-object.ts";
import type { TypeNode } from "../schema/type-node.ts";
import { deepEqual } from "./json-patch.ts";

export type FieldSet = { [step: string]: FieldSet };

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Every leaf of `value`. */
export function fieldsIn(value: unknown, node: TypeNode | undefined): FieldSet {
  return changedFields(undefined, value, node) ?? {};
}

/** Leaves of `next` that `old` lacks or has differently; undefined when there is none. */
export function changedFields(old: unknown, next: unknown, node: TypeNode | undefined): FieldSet | undefined {
  if (next === undefined) return undefined;
  if (isObject(next) && !isAtomic(node) && node?.is !== "list" && isComposite(node))
    return changedInObject(old, next, node);
  if (Array.isArray(next) && node?.is === "list" && node.listType !== "atomic") return changedInList(old, next, node);
  return old !== undefined && deepEqual(old, next) ? undefined : {};
}

const isAtomic = (node: TypeNode | undefined): boolean => (node?.is === "struct" || node?.is === "map") && node.atomic;
/** Values without a schema below (preserved unknown fields) count as maps. */
const isComposite = (node: TypeNode | undefined): boolean =>
  node === undefined || node.is === "struct" || node.is === "map" || (node.is === "scalar" && node.type === "any");

function changedInObject(old: unknown, next: JsonObject, node: TypeNode | undefined): FieldSet | undefined {
  const before = isObject(old) ? old : undefined;
  const result: FieldSet = {};
  let some = false;
  for (const [key, value] of Object.entries(next)) {
    const child = changedFields(before?.[key], value, childNode(node, key));
    if (child === undefined) continue;
    result[`f:${key}`] = child;
    some = true;
  }
  if (some) return result;
  return Object.keys(next).length === 0 && before === undefined ? {} : undefined;
}

function changedInList(old: unknown, next: readonly unknown[], node: TypeNode & { is: "list" }): FieldSet | undefined {
  const before = new Map((Array.isArray(old) ? old : []).map((item) => [itemStep(item, node), item]));
  const result: FieldSet = {};
  let some = false;
  for (const item of next) {
    const step = itemStep(item, node);
    const previous = before.get(step);
    const child =
      node.listType === "set" ? (previous === undefined ? {} : undefined) : changedFields(previous, item, node.items);
    if (child === undefined) continue;
    result[step] = node.listType === "map" && previous === undefined ? { ".": {}, ...child } : child;
    some = true;
  }
  if (some) return result;
  return next.length === 0 && !Array.isArray(old) ? {} : undefined;
}

export function childNode(node: TypeNode | undefined, key: string): TypeNode | undefined {
  if (node?.is === "struct") return node.field(key);
  return node?.is === "map" ? node.values : undefined;
}

/** `k:{"containerPort":80,"protocol":"TCP"}` or `v:"x"`. */
export function itemStep(item: unknown, node: TypeNode & { is: "list" }): string {
  if (node.listType === "set") return `v:${JSON.stringify(item)}`;
  const keys: JsonObject = {};
  for (const key of [...node.keys].sort()) {
    const value = (item as JsonObject | undefined)?.[key] ?? node.keyDefaults[key];
    if (value !== undefined) keys[key] = value;
  }
  return `k:${JSON.stringify(keys)}`;
}

const isLeaf = (set: FieldSet): boolean => Object.keys(set).length === 0;

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { ...a };
  for (const [step, child] of Object.entries(b))
    result[step] = result[step] === undefined ? child : union(result[step], child);
  return result;
}

/** Members of `a` that are not members of `b`; undefined when none is left. */
export function minus(a: FieldSet, b: FieldSet | undefined): FieldSet | undefined {
  if (b === undefined) return a;
  if (isLeaf(a)) return undefined;
  const result: FieldSet = {};
  for (const [step, child] of Object.entries(a)) {
    const other = b[step];
    // A leaf of `b` takes the member itself, not what is below it in `a`, unless it is replaced as a whole.
    const rest = other === undefined ? child : isLeaf(other) ? undefined : minus(child, other);
    if (rest !== undefined) result[step] = rest;
  }
  return isLeaf(result) ? undefined : result;
}

/** Members of both; undefined when there is none. */
export function intersect(a: FieldSet, b: FieldSet | undefined): FieldSet | undefined {
  if (b === undefined) return undefined;
  if (isLeaf(a) || isLeaf(b)) return {};
  const result: FieldSet = {};
  for (const [step, child] of Object.entries(a)) {
    const common = intersect(child, b[step]);
    if (common !== undefined) result[step] = common;
  }
  return isLeaf(result) ? undefined : result;
}

/** Members of `set` whose field still exists in `value`. */
export function existing(set: FieldSet, value: unknown, node: TypeNode | undefined): FieldSet | undefined {
  if (value === undefined) return undefined;
  if (isLeaf(set)) return set;
  const result: FieldSet = {};
  const items =
    Array.isArray(value) && node?.is === "list" && node.listType !== "atomic"
      ? new Map(value.map((item) => [itemStep(item, node), item]))
      : undefined;
  for (const [step, child] of Object.entries(set)) {
    let rest: FieldSet | undefined;
    if (step === ".") rest = child;
    else if (step.startsWith("f:"))
      rest = isObject(value) ? existing(child, value[step.slice(2)], childNode(node, step.slice(2))) : undefined;
    else if (items !== undefined && node?.is === "list") rest = existing(child, items.get(step), node.items);
    if (rest !== undefined) result[step] = rest;
  }
  return isLeaf(result) ? undefined : result;
}

/** `.spec.template.spec.containers[name="x"].image` for every member. */
export function pathsOf(set: FieldSet, prefix = ""): string[] {
  if (isLeaf(set)) return [prefix];
  return Object.entries(set).flatMap(([step, child]) => {
    if (step === ".") return [prefix];
    if (step.startsWith("f:")) return pathsOf(child, `${prefix}.${step.slice(2)}`);
    if (step.startsWith("v:")) return pathsOf(child, `${prefix}[=${step.slice(2)}]`);
    const keys = Object.entries(JSON.parse(step.slice(2)) as JsonObject).map(
      ([key, value]) => `${key}=${JSON.stringify(value)}`,
    );
    return pathsOf(child, `${prefix}[${keys.join(",")}]`);
  });
}
