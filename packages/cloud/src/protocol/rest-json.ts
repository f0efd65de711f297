/** The server's side of the `rest-json` protocol: method and path pick the action; path, query string and body make its input. */
import type { ModelTable, OperationRow } from "@underlay/aws/model";
import { fromJson } from "@underlay/aws/rest-json-wire";
import { ApiError } from "./api-error.ts";

type Route = { action: string; operation: OperationRow; parts: string[] };
const routesOf = new WeakMap<ModelTable, Route[]>();

/** The action a request means, and the values in its path. */
export function findRoute(
  table: ModelTable,
  method: string,
  path: string,
): { action: string; labels: Record<string, string> } | undefined {
  let routes = routesOf.get(table);
  if (routes === undefined) {
    routes = Object.entries(table.operations)
      .map(([action, operation]) => ({ action, operation, parts: splitPath(operation.uri) }))
      // A literal segment beats a label: `/addons/supported-versions` before `/addons/{name}`.
      .sort((a, b) => labelCount(a.parts) - labelCount(b.parts));
    routesOf.set(table, routes);
  }
  const given = splitPath(path);
  for (const { action, operation, parts } of routes) {
    if (operation.method !== method || parts.length !== given.length) continue;
    const labels: Record<string, string> = {};
    const fits = parts.every((part, index) => {
      const value = given[index] ?? "";
      if (!part.startsWith("{")) return part === value;
      labels[part.slice(1, -1)] = decodeURIComponent(value);
      return value !== "";
    });
    if (fits) return { action, labels };
  }
  return undefined;
}

/** The input of `action`; throws the service's InvalidParameterException. */
export function parseRestInput(
  table: ModelTable,
  action: string,
  request: { labels: Readonly<Record<string, string>>; query: readonly (readonly [string, string])[]; body: string },
): Record<string, unknown> {
  const shapeName = table.operations[action]?.input;
  if (shapeName === undefined) return {};
  const shape = table.shapes[shapeName];
  const body = parseJsonObject(request.body);
  checkJson(table, shapeName, body, "");
  const input = fromJson(table, shapeName, body) as Record<string, unknown>;
  for (const [name, row] of Object.entries(shape?.members ?? {})) {
    const flags = row[3] ?? "";
    const wireName = row[1] ?? name;
    if (flags.includes("u")) input[name] = request.labels[wireName];
    else if (flags.includes("q")) {
      const values = request.query.filter(([key]) => key === wireName).map(([, value]) => value);
      if (values.length === 0) continue;
      input[name] = table.shapes[row[0]]?.type === "list" ? values : readQueryScalar(row[0], values[0] ?? "");
    }
  }
  for (const name of shape?.required ?? [])
    if (input[name] === undefined)
      throw new ApiError("InvalidParameterException", `The request is missing the required parameter ${name}.`);
  return input;
}

function readQueryScalar(type: string, text: string): unknown {
  if (type === "integer" || type === "long") return Number(text);
  if (type === "boolean") return text === "true";
  return text;
}

function parseJsonObject(body: string): Record<string, unknown> {
  if (body === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new ApiError("SerializationException", "The request body is not valid JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ApiError("SerializationException", "The request body must be a JSON object");
  return value as Record<string, unknown>;
}

const jsonTypes: Readonly<Record<string, string>> = {
  integer: "number",
  long: "number",
  float: "number",
  double: "number",
  boolean: "boolean",
  string: "string",
};

/** Types, enums and required members of a JSON body. Members the model does not know pass: newer clients send more. */
function checkJson(table: ModelTable, shapeName: string, value: unknown, path: string): void {
  if (value === undefined || value === null) return;
  const shape = table.shapes[shapeName];
  const wrong = (expected: string) =>
    new ApiError(
      "InvalidParameterException",
      `Invalid value for parameter ${path === "" ? "body" : path}: expected ${expected}`,
    );
  switch (shape?.type) {
    case "structure": {
      if (typeof value !== "object" || Array.isArray(value)) throw wrong("an object");
      for (const [name, row] of Object.entries(shape.members ?? {}))
        if (!/[uq]/.test(row[3] ?? ""))
          checkJson(
            table,
            row[0],
            (value as Record<string, unknown>)[row[1] ?? name],
            path === "" ? name : `${path}.${name}`,
          );
      if (path !== "")
        for (const name of shape.required ?? [])
          if ((value as Record<string, unknown>)[name] === undefined)
            throw new ApiError(
              "InvalidParameterException",
              `The request is missing the required parameter ${path}.${name}.`,
            );
      return;
    }
    case "list":
      if (!Array.isArray(value)) throw wrong("a list");
      value.forEach((item, index) => checkJson(table, shape.of ?? "string", item, `${path}[${index}]`));
      return;
    case "map":
      if (typeof value !== "object" || Array.isArray(value)) throw wrong("a map");
      for (const [key, item] of Object.entries(value)) checkJson(table, shape.of ?? "string", item, `${path}.${key}`);
      return;
    default: {
      const expected = jsonTypes[shape === undefined ? shapeName : "string"];
      if (expected !== undefined && typeof value !== expected) throw wrong(`a ${expected}`);
      if (shape?.enum !== undefined && !shape.enum.includes(value as string))
        throw wrong(`one of ${shape.enum.join(", ")}`);
    }
  }
}

function splitPath(path: string): string[] {
  return path.split("/").filter((part) => part !== "");
}

function labelCount(parts: readonly string[]): number {
  return parts.filter((part) => part.startsWith("{")).length;
}
