/** JSON as CEL sees it by its schema: integers are 64-bit, doubles stay numbers, date-times are timestamps, names are escaped. */
import type { Schema } from "../crd/prune-default.ts";
import { propertySchema } from "../crd/validate.ts";

const reserved = new Set([
  "true",
  "false",
  "null",
  "in",
  "as",
  "break",
  "const",
  "continue",
  "else",
  "for",
  "function",
  "if",
  "import",
  "let",
  "loop",
  "package",
  "namespace",
  "return",
  "var",
  "void",
  "while",
]);

/** A property's name in an expression: `namespace` is `__namespace__`, `a-b` is `a__dash__b`. */
export function celName(name: string): string {
  if (reserved.has(name)) return `__${name}__`;
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !name.includes("__")) return name;
  return name
    .replaceAll("__", "__underscores__")
    .replaceAll(".", "__dot__")
    .replaceAll("-", "__dash__")
    .replaceAll("/", "__slash__");
}

/** Converts by schema; without one, by what the value is. */
export function celValue(value: unknown, schema: Schema | undefined): unknown {
  if (value === null || value === undefined) return null;
  if (typeof value === "number") {
    return schema?.["type"] === "number" || !Number.isInteger(value) ? value : BigInt(value);
  }
  if (typeof value === "string") return schema?.["format"] === "date-time" ? new Date(value) : value;
  if (Array.isArray(value)) return value.map((item) => celValue(item, schema?.["items"]));
  if (typeof value !== "object") return value;
  const isMap =
    schema !== undefined && schema["properties"] === undefined && typeof schema["additionalProperties"] === "object";
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, entry]) => entry !== null && entry !== undefined)
      .map(([key, entry]) => [isMap ? key : celName(key), celValue(entry, schema && propertySchema(schema, key))]),
  );
}
