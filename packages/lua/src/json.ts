/**
 * JSON for LuaJIT programs. Strings are byte strings (UTF-8 passes through). `null` becomes `undefined`, so a null member of an
 * object is absent after `parse`. An empty array keeps its kind through a mark; build one with `emptyArray()`.
 */

/** Any value; members are read with the type the caller knows. */
export type Json = string | number | boolean | undefined | Json[] | { [key: string]: Json };

const arrayMark: LuaMetatable<object> = {} as LuaMetatable<object>;

/** An empty array that `stringify` writes as `[]` and not `{}`. */
export function emptyArray<T>(): T[] {
  return setmetatable([], arrayMark as never) as unknown as T[];
}

const escapes: Record<string, string> = {
  '"': '\\"',
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\b": "\\b",
  "\f": "\\f",
};

/** A JSON string literal. */
export function quote(text: string): string {
  const [escaped] = string.gsub(text, '[%c"\\]', (c: string) => escapes[c] ?? string.format("\\u%04x", string.byte(c)));
  return `"${escaped}"`;
}

export function stringify(value: unknown): string {
  const kind = type(value);
  if (kind === "string") return quote(value as string);
  if (kind === "number") {
    const n = value as number;
    return n % 1 === 0 && n < 1e15 && n > -1e15 ? string.format("%d", n) : string.format("%.14g", n);
  }
  if (kind === "boolean") return value === true ? "true" : "false";
  if (kind !== "table") return "null";
  const parts: string[] = [];
  const list = value as unknown[];
  if (list[0] !== undefined || getmetatable(list) === (arrayMark as unknown)) {
    for (let i = 0; i < list.length; i++) parts[i] = stringify(list[i]);
    return `[${table.concat(parts as never, ",")}]`;
  }
  for (const [key, item] of pairs(value as Record<string, unknown>)) {
    parts[parts.length] = `${quote(tostring(key))}:${stringify(item)}`;
  }
  return `{${table.concat(parts as never, ",")}}`;
}

/** Parses a whole JSON text; throws `Cannot parse JSON at byte N: …`. */
export function parse<T = Json>(text: string): T {
  const [value, after] = parseValue(text, skipSpace(text, 1));
  if (skipSpace(text, after) <= text.length) fail(after, "text after the value");
  return value as T;
}

function fail(at: number, why: string): never {
  error(`Cannot parse JSON at byte ${at}: ${why}`, 0);
}

function skipSpace(text: string, at: number): number {
  const [start] = string.find(text, "[^ \t\r\n]", at);
  return start ?? text.length + 1;
}

function parseValue(text: string, at: number): LuaMultiReturn<[unknown, number]> {
  const first = string.sub(text, at, at);
  if (first === '"') return parseString(text, at);
  if (first === "{") return parseObject(text, at);
  if (first === "[") return parseArray(text, at);
  if (string.sub(text, at, at + 3) === "true") return $multi(true, at + 4);
  if (string.sub(text, at, at + 4) === "false") return $multi(false, at + 5);
  if (string.sub(text, at, at + 3) === "null") return $multi(undefined, at + 4);
  const [digits] = string.match(text, "^-?%d+%.?%d*[eE]?[+-]?%d*", at);
  if (digits === undefined) fail(at, "a value was expected");
  return $multi(tonumber(digits), at + digits.length);
}

function parseObject(text: string, start: number): LuaMultiReturn<[unknown, number]> {
  const result: Record<string, unknown> = {};
  let at = skipSpace(text, start + 1);
  if (string.sub(text, at, at) === "}") return $multi(result, at + 1);
  while (true) {
    if (string.sub(text, at, at) !== '"') fail(at, "a member name was expected");
    const [key, afterKey] = parseString(text, at);
    at = skipSpace(text, afterKey);
    if (string.sub(text, at, at) !== ":") fail(at, "':' was expected");
    const [value, afterValue] = parseValue(text, skipSpace(text, at + 1));
    result[key] = value;
    at = skipSpace(text, afterValue);
    const next = string.sub(text, at, at);
    if (next === "}") return $multi(result, at + 1);
    if (next !== ",") fail(at, "',' or '}' was expected");
    at = skipSpace(text, at + 1);
  }
}

function parseArray(text: string, start: number): LuaMultiReturn<[unknown, number]> {
  const result: unknown[] = emptyArray();
  let at = skipSpace(text, start + 1);
  if (string.sub(text, at, at) === "]") return $multi(result, at + 1);
  let count = 0;
  while (true) {
    const [value, afterValue] = parseValue(text, at);
    result[count] = value;
    count++;
    at = skipSpace(text, afterValue);
    const next = string.sub(text, at, at);
    if (next === "]") return $multi(result, at + 1);
    if (next !== ",") fail(at, "',' or ']' was expected");
    at = skipSpace(text, at + 1);
  }
}

const unescapes: Record<string, string> = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };

function parseString(text: string, start: number): LuaMultiReturn<[string, number]> {
  let at = start + 1;
  let result = "";
  while (true) {
    const [stop] = string.find(text, '["\\]', at);
    if (stop === undefined) fail(start, "a string does not end");
    result += string.sub(text, at, stop - 1);
    if (string.byte(text, stop) === 34) return $multi(result, stop + 1);
    const escape = string.sub(text, stop + 1, stop + 1);
    at = stop + 2;
    if (escape === "u") {
      const [char, after] = parseUnicode(text, at);
      result += char;
      at = after;
    } else {
      result += unescapes[escape] ?? escape;
    }
  }
}

function parseUnicode(text: string, start: number): LuaMultiReturn<[string, number]> {
  let code = tonumber(string.sub(text, start, start + 3), 16);
  if (code === undefined) fail(start, "four hexadecimal digits were expected");
  let at = start + 4;
  if (code >= 0xd800 && code < 0xdc00 && string.sub(text, at, at + 1) === "\\u") {
    const low = tonumber(string.sub(text, at + 2, at + 5), 16) ?? 0;
    code = 0x10000 + (code - 0xd800) * 0x400 + (low - 0xdc00);
    at += 6;
  }
  return $multi(utf8(code), at);
}

function utf8(code: number): string {
  const tail = (shift: number) => 0x80 + (math.floor(code / 2 ** shift) % 0x40);
  if (code < 0x80) return string.char(code);
  if (code < 0x800) return string.char(0xc0 + math.floor(code / 0x40), tail(0));
  if (code < 0x10000) return string.char(0xe0 + math.floor(code / 0x1000), tail(6), tail(0));
  return string.char(0xf0 + math.floor(code / 0x40000), tail(12), tail(6), tail(0));
}
