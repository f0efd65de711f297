import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinResources } from "../resource-info.ts";
import type { Entry } from "../store/store.ts";
import { fieldsOf } from "./selectable-fields.ts";
import { parseSelection } from "./selectors.ts";

const pods = builtinResources.find((info) => info.storage === "/pods")!;
const entry = (labels: Record<string, string>, spec: object = {}): Entry => {
  const object = { apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "n", labels }, spec };
  return {
    storage: "/pods",
    key: "n/p",
    namespace: "n",
    name: "p",
    revision: 1,
    json: "",
    labels,
    fields: fieldsOf("/pods", object, []),
  };
};
const matches = (query: string, e: Entry, namespace = ""): boolean =>
  parseSelection(pods, namespace, new URLSearchParams(query)).matches(e);

for (const [selector, labels, expected] of [
  ["a=b", { a: "b" }, true],
  ["a==b", { a: "c" }, false],
  ["a!=b", {}, true],
  ["a!=b", { a: "b" }, false],
  ["a in (x, y)", { a: "y" }, true],
  ["a notin (x)", { a: "x" }, false],
  ["a notin (x)", {}, true],
  ["a", { a: "" }, true],
  ["!a", { a: "" }, false],
  ["a=b,c in (d),!e", { a: "b", c: "d" }, true],
  ["a=", { a: "" }, true],
  ["k8s.io/x-y=1", { "k8s.io/x-y": "1" }, true],
] as [string, Record<string, string>, boolean][]) {
  test(`label selector ${selector} on ${JSON.stringify(labels)} is ${expected}`, () => {
    assert.equal(matches(`labelSelector=${encodeURIComponent(selector)}`, entry(labels)), expected);
  });
}

test("field selectors compare computed and missing fields as text", () => {
  assert.equal(matches("fieldSelector=spec.nodeName%3Dn1", entry({}, { nodeName: "n1" })), true);
  assert.equal(matches("fieldSelector=spec.nodeName%3D", entry({})), true);
  assert.equal(matches("fieldSelector=spec.hostNetwork%3Dfalse,status.phase!%3DRunning", entry({})), true);
  assert.equal(matches("fieldSelector=metadata.name%3Dp", entry({}), "other"), false);
});

test("unknown fields and malformed selectors are bad requests", () => {
  assert.throws(() => matches("fieldSelector=spec.bogus%3D1", entry({})), /field label not supported: spec\.bogus/);
  assert.throws(() => matches("labelSelector=%3D%3D", entry({})), /unable to parse requirement/);
  assert.throws(() => matches("labelSelector=a,", entry({})), /unable to parse requirement/);
});
