/** RFC 6902 JSON Patch: all operations or none. */
import type { AnyJson } from "../api-object.ts";

export class PatchError extends Error {}

type Operation = { op: string; path: string; from?: string; value?: unknown };

/** A patched copy of `document`; throws PatchError when an operation cannot apply. */
export function applyJsonPatch(document: unknown, patch: readonly Operation[]): unknown {
  let root = structuredClone(document);
  for (const operation of patch) root = step(root, operation);
  return root;
}

function step(root: unknown, { op, path, from, value }: Operation): unknown {
  switch (op) {
    case "add":
      return write(root, path, structuredClone(value), "add");
    case "replace":
      if (!read(root, path).found) throw missing("replace", path);
      return write(root, path, structuredClone(value), "replace");
    case "remove":
      return remove(root, path);
    case "test": {
      const current = read(root, path);
      if (!current.found && value !== null && value !== undefined)
        throw new PatchError(`testing value ${path} failed: missing path`);
      if (!deepEqual(current.value ?? null, value ?? null)) throw new PatchError(`testing value ${path} failed`);
      return root;
    }
    case "move": {
      const source = read(root, from ?? "");
      if (!source.found) throw missing("move", from ?? "");
      return write(remove(root, from ?? ""), path, source.value, "add");
    }
    case "copy": {
      const source = read(root, from ?? "");
      if (!source.found) throw missing("copy", from ?? "");
      return write(root, path, structuredClone(source.value), "add");
    }
    default:
      throw new PatchError(`Unexpected kind: ${op}`);
  }
}

const missing = (op: string, path: string): PatchError =>
  new PatchError(`${op} operation does not apply: doc is missing path: "${path}": missing value`);

function steps(path: string): string[] {
  if (path === "") return [];
  if (!path.startsWith("/")) throw new PatchError(`invalid JSON pointer "${path}"`);
  return path
    .slice(1)
    .split("/")
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function read(root: unknown, path: string): { found: boolean; value: unknown } {
  let value: AnyJson = root;
  for (const token of steps(path)) {
    if (Array.isArray(value)) {
      if (!/^(0|[1-9]\d*)$/.test(token) || Number(token) >= value.length) return { found: false, value: undefined };
      value = value[Number(token)];
    } else if (typeof value === "object" && value !== null && Object.hasOwn(value, token)) value = value[token];
    else return { found: false, value: undefined };
  }
  return { found: true, value };
}

function parentOf(root: unknown, path: string, op: string): { parent: AnyJson; last: string } {
  const tokens = steps(path);
  const last = tokens.pop()!;
  const parent = read(root, tokens.map((t) => `/${t.replaceAll("~", "~0").replaceAll("/", "~1")}`).join(""));
  if (!parent.found || typeof parent.value !== "object" || parent.value === null) throw missing(op, path);
  return { parent: parent.value, last };
}

function write(root: unknown, path: string, value: unknown, op: "add" | "replace"): unknown {
  if (path === "") return value;
  const { parent, last } = parentOf(root, path, op);
  if (!Array.isArray(parent)) {
    if (last === "__proto__") throw new PatchError(`invalid key "${last}"`);
    parent[last] = value;
    return root;
  }
  const index = last === "-" ? parent.length : Number(last);
  if (!Number.isInteger(index) || index < 0 || index > parent.length)
    throw new PatchError(`${op} operation does not apply: doc is missing path: "${path}": index out of range`);
  if (op === "replace") parent[index] = value;
  else parent.splice(index, 0, value);
  return root;
}

function remove(root: unknown, path: string): unknown {
  if (!read(root, path).found)
    throw new PatchError(`remove operation does not apply: doc is missing path: "${path}": missing value`);
  if (path === "") return null;
  const { parent, last } = parentOf(root, path, "remove");
  if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete parent[last];
  return root;
}

/** Structural equality of JSON values; an undefined field equals an absent one. */
export function deepEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => deepEqual(item, b[index]));
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key of Object.keys(left)) if (left[key] !== undefined && !deepEqual(left[key], right[key])) return false;
  for (const key of Object.keys(right)) if (right[key] !== undefined && left[key] === undefined) return false;
  return true;
}
