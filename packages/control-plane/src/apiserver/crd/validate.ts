/**
 * Validation of a custom object by its structural schema, with upstream's error texts. Values that did not change on update
 * are not held against the writer (ratcheting). Rules in CEL are looked at only when the schema itself holds.
 */
import { isDeepStrictEqual } from "node:util";
import type { FieldError } from "../api-error.ts";
import { hasFormat } from "./formats.ts";
import type { Schema } from "./prune-default.ts";

const patterns = new Map<string, RegExp>();

/** Everything wrong with `value` by `schema`; `path` is "" for the whole object. */
export function validateSchema(value: unknown, schema: Schema, path: string, old?: unknown): FieldError[] {
  const errors: FieldError[] = [];
  check(value, schema, path, old, errors);
  return errors;
}

function check(value: unknown, schema: Schema, path: string, old: unknown, errors: FieldError[]): void {
  if (old !== undefined && isDeepStrictEqual(old, value)) return;
  if (value === null && schema["nullable"] === true) return;
  const type = checkType(value, schema, path, errors);
  if (!type) return;
  if (schema["enum"] && !schema["enum"].some((allowed: unknown) => isDeepStrictEqual(allowed, value))) {
    const detail = `supported values: ${schema["enum"].map((allowed: unknown) => JSON.stringify(allowed)).join(", ")}`;
    errors.push({ type: "NotSupported", field: path, value, detail });
  }
  if (typeof value === "string") checkString(value, schema, path, errors);
  else if (typeof value === "number") checkNumber(value, schema, path, errors);
  else if (Array.isArray(value)) checkArray(value, schema, path, old, errors);
  else if (value !== null && typeof value === "object")
    checkObject(value as Record<string, unknown>, schema, path, old, errors);
  checkCombinations(value, schema, path, errors);
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

function checkType(value: unknown, schema: Schema, path: string, errors: FieldError[]): boolean {
  const seen = typeName(value);
  if (schema["x-kubernetes-int-or-string"] === true) {
    if (seen === "integer" || seen === "string") return true;
    errors.push({
      type: "TypeInvalid",
      field: path,
      value: seen,
      detail: `${path} in body must be of type integer,string: "${seen}"`,
    });
    return false;
  }
  const wanted: string | undefined = schema["type"];
  if (!wanted || wanted === seen || (wanted === "number" && seen === "integer")) return true;
  errors.push({
    type: "TypeInvalid",
    field: path,
    value: seen,
    detail: `${path} in body must be of type ${wanted}: "${seen}"`,
  });
  return false;
}

function checkString(value: string, schema: Schema, path: string, errors: FieldError[]): void {
  const length = [...value].length;
  if (schema["maxLength"] != null && length > schema["maxLength"]) {
    errors.push({ type: "TooLong", field: path, value, detail: `may not be more than ${schema["maxLength"]} bytes` });
  }
  if (schema["minLength"] != null && length < schema["minLength"]) {
    errors.push({
      type: "Invalid",
      field: path,
      value,
      detail: `${path} in body should be at least ${schema["minLength"]} chars long`,
    });
  }
  if (schema["pattern"] && !patternOf(schema["pattern"]).test(value)) {
    errors.push({ type: "Invalid", field: path, value, detail: `${path} in body should match '${schema["pattern"]}'` });
  }
  if (schema["format"] && !hasFormat(schema["format"], value)) {
    errors.push({
      type: "Invalid",
      field: path,
      value,
      detail: `${path} in body must be of type ${schema["format"]}: "${value}"`,
    });
  }
}

/** Go's RE2 syntax is JavaScript's for what schemas use, apart from inline flags at the front and \z, \A. */
export function patternOf(source: string): RegExp {
  let pattern = patterns.get(source);
  if (!pattern) {
    const flags = /^\(\?([ims]+)\)/.exec(source);
    const body = source
      .slice(flags?.[0].length ?? 0)
      .replace(/\\A/g, "^")
      .replace(/\\z/g, "$")
      .replace(/\(\?P</g, "(?<");
    try {
      pattern = new RegExp(body, `u${flags?.[1] ?? ""}`);
    } catch {
      // Escapes of ordinary characters are errors in Unicode mode only.
      pattern = new RegExp(body, flags?.[1] ?? "");
    }
    patterns.set(source, pattern);
  }
  return pattern;
}

function checkNumber(value: number, schema: Schema, path: string, errors: FieldError[]): void {
  const fail = (what: string) =>
    errors.push({ type: "Invalid", field: path, value, detail: `${path} in body should be ${what}` });
  const { minimum, maximum, multipleOf } = schema;
  if (minimum != null && (schema["exclusiveMinimum"] ? value <= minimum : value < minimum)) {
    fail(schema["exclusiveMinimum"] ? `greater than ${minimum}` : `greater than or equal to ${minimum}`);
  }
  if (maximum != null && (schema["exclusiveMaximum"] ? value >= maximum : value > maximum)) {
    fail(schema["exclusiveMaximum"] ? `less than ${maximum}` : `less than or equal to ${maximum}`);
  }
  if (multipleOf && value % multipleOf !== 0) fail(`a multiple of ${multipleOf}`);
  if (schema["format"] === "int32" && (value > 2 ** 31 - 1 || value < -(2 ** 31))) {
    errors.push({ type: "Invalid", field: path, value, detail: `${path} in body must be of type int32: "${value}"` });
  }
}

function checkArray(value: unknown[], schema: Schema, path: string, old: unknown, errors: FieldError[]): void {
  if (schema["maxItems"] != null && value.length > schema["maxItems"]) {
    errors.push({
      type: "TooMany",
      field: path,
      value: value.length,
      detail: `must have at most ${schema["maxItems"]} items`,
    });
  }
  if (schema["minItems"] != null && value.length < schema["minItems"]) {
    errors.push({
      type: "Invalid",
      field: path,
      value: value.length,
      detail: `${path} in body should have at least ${schema["minItems"]} items`,
    });
  }
  if (schema["uniqueItems"] && new Set(value.map((item) => JSON.stringify(item))).size < value.length) {
    errors.push({ type: "Invalid", field: path, value, detail: `${path} in body shouldn't contain duplicates` });
  }
  checkListType(value, schema, path, errors);
  const correlate = correlator(schema, old);
  for (const [index, item] of value.entries()) {
    if (schema["items"]) check(item, schema["items"], `${path}[${index}]`, correlate(item), errors);
  }
}

function checkListType(value: unknown[], schema: Schema, path: string, errors: FieldError[]): void {
  const kind: string | undefined = schema["x-kubernetes-list-type"];
  if (kind !== "map" && kind !== "set") return;
  const seen = new Set<string>();
  for (const [index, item] of value.entries()) {
    const key: unknown = kind === "set" ? item : keyOf(item, schema["x-kubernetes-list-map-keys"] ?? []);
    const text = JSON.stringify(key);
    if (seen.has(text)) errors.push({ type: "Duplicate", field: `${path}[${index}]`, value: key });
    seen.add(text);
  }
}

function keyOf(item: unknown, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(keys.map((key) => [key, (item as Record<string, unknown> | null)?.[key]]));
}

/** Finds an item's former self: by its keys in list-maps, not at all elsewhere. */
export function correlator(schema: Schema, old: unknown): (item: unknown) => unknown {
  if (!Array.isArray(old) || schema["x-kubernetes-list-type"] !== "map") return () => undefined;
  const keys: readonly string[] = schema["x-kubernetes-list-map-keys"] ?? [];
  const byKey = new Map(old.map((item) => [JSON.stringify(keyOf(item, keys)), item]));
  return (item) => byKey.get(JSON.stringify(keyOf(item, keys)));
}

function checkObject(
  value: Record<string, unknown>,
  schema: Schema,
  path: string,
  old: unknown,
  errors: FieldError[],
): void {
  const count = Object.keys(value).length;
  if (schema["maxProperties"] != null && count > schema["maxProperties"]) {
    errors.push({
      type: "TooMany",
      field: path,
      value: count,
      detail: `must have at most ${schema["maxProperties"]} items`,
    });
  }
  if (schema["minProperties"] != null && count < schema["minProperties"]) {
    errors.push({
      type: "Invalid",
      field: path,
      value: count,
      detail: `${path} in body should have at least ${schema["minProperties"]} properties`,
    });
  }
  for (const name of schema["required"] ?? []) {
    if (value[name] === undefined) errors.push({ type: "Required", field: join(path, name) });
  }
  const before = old !== null && typeof old === "object" ? (old as Record<string, unknown>) : undefined;
  for (const [name, property] of Object.entries(value)) {
    const next = propertySchema(schema, name);
    if (next)
      check(property, next, join(path, name, !Object.hasOwn(schema["properties"] ?? {}, name)), before?.[name], errors);
  }
}

/** The schema of a property: its own, or that of additional ones. */
export function propertySchema(schema: Schema, name: string): Schema | undefined {
  if (Object.hasOwn(schema["properties"] ?? {}, name)) return schema["properties"][name];
  return typeof schema["additionalProperties"] === "object" ? schema["additionalProperties"] : undefined;
}

export const join = (path: string, name: string, entry = false): string =>
  path === "" ? name : entry && /[^\w-]/.test(name) ? `${path}[${name}]` : `${path}.${name}`;

function checkCombinations(value: unknown, schema: Schema, path: string, errors: FieldError[]): void {
  const passes = (candidate: Schema) => validateSchema(value, candidate, path).length === 0;
  const fail = (text: string) => errors.push({ type: "Invalid", field: path, value: "", detail: `"${path}" ${text}` });
  for (const candidate of schema["allOf"] ?? []) errors.push(...validateSchema(value, candidate, path));
  if (schema["anyOf"] && !schema["anyOf"].some(passes)) fail("must validate at least one schema (anyOf)");
  if (schema["oneOf"]) {
    const count = schema["oneOf"].filter(passes).length;
    if (count === 0) fail("must validate one and only one schema (oneOf). Found none valid");
    else if (count > 1) fail(`must validate one and only one schema (oneOf). Found ${count} valid alternatives`);
  }
  if (schema["not"] && passes(schema["not"])) fail("must not validate the schema (not)");
}
