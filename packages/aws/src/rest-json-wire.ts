/** The client's side of the `rest-json` protocol (EKS): path, query string and JSON body from the model's table. */
import type { ModelTable } from "./model.ts";
import { withToken } from "./query-wire.ts";
import { encodeRfc3986 } from "./sigv4.ts";

export type RestRequest = { method: string; path: string; query: [string, string][]; body: string };

export function encodeRest(table: ModelTable, action: string, input: Readonly<Record<string, unknown>>): RestRequest {
  const operation = table.operations[action];
  if (operation === undefined) throw new TypeError(`Cannot call ${action}: not in the model's table`);
  const members = table.shapes[operation.input ?? ""]?.members ?? {};
  const given = operation.input === undefined ? input : withToken(table, operation.input, input);
  let path = operation.uri;
  const query: [string, string][] = [];
  const body: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const row = members[name];
    if (row === undefined)
      throw new TypeError(`Cannot encode ${name}: ${operation.input ?? action} has no such member`);
    const wireName = row[1] ?? name;
    const flags = row[3] ?? "";
    if (flags.includes("u")) path = path.replace(`{${wireName}}`, encodeRfc3986(String(value)));
    else if (flags.includes("q"))
      for (const item of Array.isArray(value) ? value : [value]) query.push([wireName, String(item)]);
    else body[wireName] = toJson(table, row[0], value);
  }
  const hasBody = Object.values(members).some((row) => !/[uqh]/.test(row[3] ?? ""));
  return {
    method: operation.method,
    path,
    query,
    body: hasBody && operation.method !== "GET" ? JSON.stringify(body) : "",
  };
}

export function parseRest(table: ModelTable, action: string, body: string): Record<string, unknown> {
  const output = table.operations[action]?.output;
  if (output === undefined || body === "") return {};
  return fromJson(table, output, JSON.parse(body)) as Record<string, unknown>;
}

/** A model value as JSON: dates become seconds, blobs base64. */
export function toJson(table: ModelTable, shapeName: string, value: unknown): unknown {
  return walk(table, shapeName, value, (type, scalar) => {
    if (type === "timestamp") return (scalar as Date).getTime() / 1000;
    if (type === "blob") return Buffer.from(scalar as Uint8Array).toString("base64");
    return scalar;
  });
}

/** JSON as a model value; members the table does not know are dropped. */
export function fromJson(table: ModelTable, shapeName: string, value: unknown): unknown {
  return walk(table, shapeName, value, (type, scalar) => {
    if (type === "timestamp") return new Date(typeof scalar === "number" ? scalar * 1000 : String(scalar));
    if (type === "blob") return Buffer.from(String(scalar), "base64");
    return scalar;
  });
}

function walk(
  table: ModelTable,
  shapeName: string,
  value: unknown,
  scalar: (type: string, value: unknown) => unknown,
): unknown {
  if (value === undefined || value === null) return undefined;
  const shape = table.shapes[shapeName];
  switch (shape?.type) {
    case "structure": {
      const result: Record<string, unknown> = {};
      for (const [name, row] of Object.entries(shape.members ?? {})) {
        const inner = walk(table, row[0], (value as Record<string, unknown>)[row[1] ?? name], scalar);
        if (inner !== undefined) result[row[1] ?? name] = inner;
      }
      return result;
    }
    case "list":
      return (value as unknown[]).map((item) => walk(table, shape.of ?? "string", item, scalar));
    case "map":
      return Object.fromEntries(
        Object.entries(value as Record<string, unknown>).map(([key, item]) => [
          key,
          walk(table, shape.of ?? "string", item, scalar),
        ]),
      );
    default:
      return scalar(shape === undefined ? shapeName : shape.type, value);
  }
}
