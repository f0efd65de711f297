/**
 * The JSONPath subset of CRD printer columns, scale paths and selectable fields: `.a.b`, `['a.b']`, `[0]`, `[*]`, `[-1]`,
 * and filters `[?(@.type=="Ready")]` with `==`, `!=`, `<`, `<=`, `>`, `>=` or bare existence.
 */
type Step =
  | { readonly do: "field"; readonly name: string }
  | { readonly do: "index"; readonly index: number }
  | { readonly do: "all" }
  | { readonly do: "filter"; readonly path: readonly Step[]; readonly operator: string; readonly value: unknown };

export type JsonPath = readonly Step[];

/** Parses a path; throws with the position when it is none. */
export function parseJsonPath(text: string): JsonPath {
  let path = text.trim();
  if (path.startsWith("{") && path.endsWith("}")) path = path.slice(1, -1);
  if (path.startsWith("$")) path = path.slice(1);
  const steps: Step[] = [];
  let at = 0;
  while (at < path.length) {
    if (path[at] === ".") {
      const name = /^\.((?:\\.|[^.[\]\\])+)/.exec(path.slice(at));
      if (!name) {
        if (path.slice(at) === ".") break;
        throw new Error(`unexpected "." at ${at} in JSONPath ${text}`);
      }
      steps.push(name[1] === "*" ? { do: "all" } : { do: "field", name: name[1]!.replace(/\\(.)/g, "$1") });
      at += name[0].length;
    } else if (path[at] === "[") {
      const end = closing(path, at, text);
      steps.push(bracket(path.slice(at + 1, end), text));
      at = end + 1;
    } else if (at === 0) {
      path = `.${path}`;
    } else throw new Error(`unexpected "${path[at]}" at ${at} in JSONPath ${text}`);
  }
  return steps;
}

function closing(path: string, open: number, text: string): number {
  let depth = 0;
  let quote = "";
  for (let at = open; at < path.length; at++) {
    const c = path[at]!;
    if (quote) {
      if (c === quote) quote = "";
    } else if (c === '"' || c === "'") quote = c;
    else if (c === "[") depth++;
    else if (c === "]" && --depth === 0) return at;
  }
  throw new Error(`"[" without "]" in JSONPath ${text}`);
}

function bracket(inner: string, text: string): Step {
  const trimmed = inner.trim();
  if (trimmed === "*") return { do: "all" };
  if (/^-?\d+$/.test(trimmed)) return { do: "index", index: Number(trimmed) };
  const quoted = /^(['"])(.*)\1$/.exec(trimmed);
  if (quoted) return { do: "field", name: quoted[2]! };
  const filter = /^\?\s*\(\s*@(.*?)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?))?\s*\)$/.exec(trimmed);
  if (!filter) throw new Error(`cannot read [${inner}] in JSONPath ${text}`);
  return {
    do: "filter",
    path: parseJsonPath(filter[1] ?? ""),
    operator: filter[2] ?? "exists",
    value: filter[3] === undefined ? undefined : literal(filter[3]),
  };
}

function literal(text: string): unknown {
  const quoted = /^(['"])(.*)\1$/.exec(text);
  if (quoted) return quoted[2];
  if (text === "true" || text === "false") return text === "true";
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}

/** Every value a path finds; none where a field is missing. */
export function evaluateJsonPath(path: JsonPath, root: unknown): unknown[] {
  let found: unknown[] = [root];
  for (const step of path) found = found.flatMap((value) => apply(step, value));
  return found;
}

function apply(step: Step, value: unknown): unknown[] {
  if (value === null || typeof value !== "object") return [];
  switch (step.do) {
    case "field": {
      const next = (value as Record<string, unknown>)[step.name];
      return next === undefined ? [] : [next];
    }
    case "index": {
      if (!Array.isArray(value)) return [];
      const next: unknown = value.at(step.index);
      return next === undefined ? [] : [next];
    }
    case "all":
      return Array.isArray(value) ? value : Object.values(value);
    case "filter":
      return (Array.isArray(value) ? value : Object.values(value)).filter((item) => matches(step, item));
  }
}

function matches(step: Extract<Step, { do: "filter" }>, item: unknown): boolean {
  const found = evaluateJsonPath(step.path, item);
  if (step.operator === "exists") return found.length > 0;
  if (found.length === 0) return false;
  const left = found[0] as never;
  const right = step.value as never;
  switch (step.operator) {
    case "==":
      return left === right;
    case "!=":
      return left !== right;
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    default:
      return left >= right;
  }
}
