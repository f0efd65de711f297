/**
 * Makes a body conform to its type, as decoding into Go structs would: unknown fields and nulls go, quantities and times
 * get their canonical form, a wrong JSON type is an error. Custom resources are pruned by the CRD engine instead.
 */
import type { TypeNode } from "./type-node.ts";
import { canonicalQuantity } from "./quantity.ts";

export class DecodeError extends Error {}

/** A copy of `value` that fits `node`; paths of dropped unknown fields are added to `unknown`. Throws DecodeError. */
export function conform(value: unknown, node: TypeNode, unknown: string[]): unknown {
  return walk(value, node, "", "", unknown);
}

function walk(value: unknown, node: TypeNode, path: string, owner: string, unknown: string[]): unknown {
  switch (node.is) {
    case "scalar":
      return scalar(value, node.type, path, owner);
    case "struct": {
      if (!isObject(value)) throw mismatch(value, owner, path, node.name);
      const result: Record<string, unknown> = {};
      for (const [name, child] of Object.entries(value)) {
        const field = node.field(name);
        const at = path === "" ? name : `${path}.${name}`;
        if (field === undefined) {
          if (node.open) result[name] = child;
          else if (!(path === "" && (name === "apiVersion" || name === "kind"))) unknown.push(at);
          else result[name] = child;
        } else if (child !== null && child !== undefined)
          result[name] = walk(child, field, at, node.name || owner, unknown);
      }
      return result;
    }
    case "map": {
      if (!isObject(value)) throw mismatch(value, owner, path, "map");
      const result: Record<string, unknown> = {};
      for (const [name, child] of Object.entries(value)) {
        if (child === null) {
          // A null map value decodes to the zero value for strings; for everything else it is dropped.
          if (node.values.is === "scalar" && node.values.type === "string") result[name] = "";
          continue;
        }
        result[name] = walk(child, node.values, `${path}.${name}`, owner, unknown);
      }
      return result;
    }
    case "list": {
      if (!Array.isArray(value)) throw mismatch(value, owner, path, "list");
      return value
        .filter((item) => item !== null)
        .map((item, index) => walk(item, node.items, `${path}[${index}]`, owner, unknown));
    }
  }
}

const goNames: Record<string, string> = { boolean: "bool", bytes: "[]uint8" };

function scalar(value: unknown, type: string, path: string, owner: string): unknown {
  switch (type) {
    case "any":
      return value;
    case "string":
      if (typeof value !== "string") throw mismatch(value, owner, path, "string");
      return value;
    case "bytes":
      if (typeof value !== "string") throw mismatch(value, owner, path, "[]uint8");
      if (!/^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(value))
        throw new DecodeError("illegal base64 data at input byte " + badBase64(value));
      return value;
    case "boolean":
      if (typeof value !== "boolean") throw mismatch(value, owner, path, "bool");
      return value;
    case "int32":
    case "int64":
      if (typeof value !== "number" || !Number.isInteger(value)) throw mismatch(value, owner, path, type);
      return value;
    case "float64":
      if (typeof value !== "number") throw mismatch(value, owner, path, type);
      return value;
    case "intOrString":
      if (typeof value !== "number" && typeof value !== "string")
        throw mismatch(value, owner, path, "intstr.IntOrString");
      return value;
    case "quantity": {
      if (typeof value !== "number" && typeof value !== "string")
        throw mismatch(value, owner, path, "resource.Quantity");
      const quantity = canonicalQuantity(String(value));
      if (quantity === undefined) {
        throw new DecodeError(
          "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
      }
      return quantity;
    }
    case "time":
    case "microTime":
      if (typeof value !== "string") throw mismatch(value, owner, path, "time.Time");
      return time(value, type === "microTime");
    default:
      return value;
  }
}

function time(value: string, micro: boolean): string {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(value);
  const at = Date.parse(value);
  if (parts === null || Number.isNaN(at)) {
    throw new DecodeError(`parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05Z07:00": cannot parse`);
  }
  const seconds = parts[3] === "Z" ? parts[1]! : new Date(at).toISOString().slice(0, 19);
  if (!micro) return `${seconds}Z`;
  return `${seconds}.${(parts[2] ?? ".").slice(1).padEnd(6, "0").slice(0, 6)}Z`;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function badBase64(value: string): number {
  const at = value.search(/[^A-Za-z0-9+/=\r\n]/);
  return at < 0 ? value.length : at;
}

function mismatch(value: unknown, owner: string, path: string, type: string): DecodeError {
  const got = Array.isArray(value)
    ? "array"
    : typeof value === "boolean"
      ? "bool"
      : value !== null && typeof value === "object"
        ? "object"
        : typeof value;
  const shown = got === "number" && type.startsWith("int") ? `number ${value as number}` : got;
  const field = path.replace(/\[\d+\]/g, "");
  return new DecodeError(
    `json: cannot unmarshal ${shown} into Go struct field ${owner}.${field} of type ${goNames[type] ?? type}`,
  );
}
