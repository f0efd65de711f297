/** EC2 filters: names AND, values OR, case-sensitive, `*` and `?` wildcards with backslash escapes. */
import { ApiError } from "../protocol/api-error.ts";

export type Filter = { Name?: string | undefined; Values?: readonly string[] | undefined };
export type Tags = Readonly<Record<string, string>>;

/** What a filter sees of an item: all values at its path; a filter matches when any of them does. */
export type FilterTable<T> = Readonly<Record<string, (item: T) => readonly (string | number | boolean | undefined)[]>>;

const mostValues = 200;

/** The items every filter accepts. `tag:<key>`, `tag-key` and the old `tag-value` work on all that have tags. */
export function applyFilters<T extends { readonly tags?: Tags }>(
  items: readonly T[],
  filters: readonly Filter[] | undefined,
  table: FilterTable<T>,
): T[] {
  const tests = (filters ?? []).map((filter) => testOf(filter, table));
  return items.filter((item) => tests.every((test) => test(item)));
}

function testOf<T extends { readonly tags?: Tags }>(filter: Filter, table: FilterTable<T>): (item: T) => boolean {
  const name = filter.Name ?? "";
  const values = filter.Values ?? [];
  const see = name.startsWith("tag:")
    ? (item: T) => [item.tags?.[name.slice(4)]]
    : name === "tag-key"
      ? (item: T) => Object.keys(item.tags ?? {})
      : name === "tag-value"
        ? (item: T) => Object.values(item.tags ?? {})
        : Object.hasOwn(table, name)
          ? table[name]
          : undefined;
  if (see === undefined) throw new ApiError("InvalidParameterValue", `The filter '${name}' is invalid`);
  if (values.length === 0)
    throw new ApiError("InvalidParameterValue", `The filter '${name}' must have at least one value`);
  if (values.length > mostValues)
    throw new ApiError(
      "FilterLimitExceeded",
      `The maximum number of filter values specified on a single call is ${mostValues}`,
    );
  const patterns = values.map(compilePattern);
  return (item) => see(item).some((value) => value !== undefined && patterns.some((matches) => matches(String(value))));
}

/** A filter value as a test. */
export function compilePattern(pattern: string): (text: string) => boolean {
  if (!/[*?\\]/.test(pattern)) return (text) => text === pattern;
  let source = "";
  for (let i = 0; i < pattern.length; i += 1) {
    const c = pattern.charAt(i);
    if (c === "*") source += "[\\s\\S]*";
    else if (c === "?") source += "[\\s\\S]";
    else {
      const literal = c === "\\" && i + 1 < pattern.length ? pattern.charAt((i += 1)) : c;
      source += literal.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    }
  }
  const expression = new RegExp(`^${source}$`);
  return (text) => expression.test(text);
}
