import assert from "node:assert/strict";
import { test } from "node:test";
import { applyFilters, compilePattern } from "./filters.ts";

const items = [
  { name: "a", zones: ["1", "2"], tags: { Name: "demo/Public-1", role: "x" } },
  { name: "b", zones: ["2"], tags: { Name: "demo/Private-1" } },
  { name: "C", zones: [], tags: {} },
];
const table = {
  name: (item: (typeof items)[number]) => [item.name],
  zone: (item: (typeof items)[number]) => item.zones,
};
const names = (filters: { Name: string; Values: string[] }[]) =>
  applyFilters(items, filters, table).map(({ name }) => name);

test("names AND, values OR, any element of a list", () => {
  assert.deepEqual(
    names([
      { Name: "name", Values: ["a", "b"] },
      { Name: "zone", Values: ["1"] },
    ]),
    ["a"],
  );
  assert.deepEqual(names([{ Name: "zone", Values: ["2"] }]), ["a", "b"]);
});

test("tags filter by key, by value, and by key with a value", () => {
  assert.deepEqual(names([{ Name: "tag:Name", Values: ["*Private*"] }]), ["b"]);
  assert.deepEqual(
    names([
      { Name: "tag-key", Values: ["role"] },
      { Name: "tag-value", Values: ["demo/Public-1"] },
    ]),
    ["a"],
  );
});

test("values are case-sensitive", () => assert.deepEqual(names([{ Name: "name", Values: ["c"] }]), []));

test("an unknown filter is refused by name", () => {
  assert.throws(() => names([{ Name: "colour", Values: ["red"] }]), {
    code: "InvalidParameterValue",
    message: "The filter 'colour' is invalid",
  });
});

const patterns: [pattern: string, text: string, matches: boolean][] = [
  ["a*c", "abc", true],
  ["a*c", "abcd", false],
  ["a?c", "abc", true],
  ["a?c", "ac", false],
  ["a\\*c", "a*c", true],
  ["a\\*c", "abc", false],
  ["a.c", "abc", false],
  ["*", "", true],
];
for (const [pattern, text, matches] of patterns)
  test(`${pattern} ${matches ? "matches" : "does not match"} ${JSON.stringify(text)}`, () =>
    assert.equal(compilePattern(pattern)(text), matches));
