import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "@underlay/kernel/nft-elements";
import { Claims } from "./claims.ts";
import type { PlannedElement } from "./plan.ts";

const hairpin = (key: string, value = ""): PlannedElement => ({
  set: "hairpin",
  key,
  value,
  element: { key: [ip(key)] },
});

test("an element two services ask for goes with the last of them", () => {
  const claims = new Claims();
  const one = hairpin("10.0.0.1");
  assert.deepEqual(claims.replace("a", [], [one]), [{ before: undefined, after: one }]);
  assert.deepEqual(claims.replace("b", [], [one]), []);
  assert.deepEqual(claims.replace("a", [one], []), []);
  assert.deepEqual([...claims.elements()], [one]);
  assert.deepEqual(claims.replace("b", [one], []), [{ before: one, after: undefined }]);
  assert.deepEqual([...claims.elements()], []);
});

test("of two values the first stands, and the second takes its place when it goes", () => {
  const claims = new Claims();
  const first = hairpin("10.0.0.1", "x");
  const second = hairpin("10.0.0.1", "y");
  claims.replace("a", [], [first]);
  assert.deepEqual(claims.replace("b", [], [second]), []);
  assert.deepEqual(claims.replace("a", [first], []), [{ before: first, after: second }]);
});
