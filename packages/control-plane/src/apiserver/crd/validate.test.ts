import assert from "node:assert/strict";
import { test } from "node:test";
import { fieldErrorText } from "../api-error.ts";
import { celName } from "../cel/cel-value.ts";
import { checkRules } from "./cel-rules.ts";
import { applyDefaults, prune, type Schema } from "./prune-default.ts";
import { validateSchema } from "./validate.ts";

const texts = (value: unknown, schema: Schema, old?: unknown) =>
  validateSchema(value, schema, "spec", old).map((error) => `${error.field}: ${fieldErrorText(error)}`);

test("prune removes what the schema does not know, but not of resources and preserved objects", () => {
  const schema: Schema = {
    type: "object",
    properties: {
      spec: {
        type: "object",
        properties: {
          open: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
          labels: { type: "object", additionalProperties: { type: "object", properties: { a: { type: "string" } } } },
          list: { type: "array", items: { type: "object", properties: { name: { type: "string" } } } },
          template: { type: "object", "x-kubernetes-embedded-resource": true, properties: {} },
        },
      },
    },
  };
  const object = {
    apiVersion: "v1",
    kind: "X",
    metadata: { name: "x" },
    extra: 1,
    spec: {
      bogus: 1,
      open: { any: 1 },
      labels: { k: { a: "1", b: "2" } },
      list: [{ name: "n", more: 1 }],
      template: { kind: "Y", metadata: {}, spec: 1 },
    },
  };
  assert.deepEqual(prune(object, schema).sort(), [
    "extra",
    "spec.bogus",
    "spec.labels.k.b",
    "spec.list[0].more",
    "spec.template.spec",
  ]);
  assert.deepEqual(object, {
    apiVersion: "v1",
    kind: "X",
    metadata: { name: "x" },
    spec: { open: { any: 1 }, labels: { k: { a: "1" } }, list: [{ name: "n" }], template: { kind: "Y", metadata: {} } },
  } as never);
});

test("applyDefaults fills what is absent, takes null for absent, and goes into what it filled in", () => {
  const schema: Schema = {
    type: "object",
    properties: {
      a: { type: "integer", default: 1 },
      b: { type: "object", default: {}, properties: { c: { type: "string", default: "x" } } },
      n: { type: "string", nullable: true, default: "y" },
      gone: { type: "string" },
      list: { type: "array", items: { type: "object", properties: { p: { type: "string", default: "TCP" } } } },
    },
  };
  const object = { a: null, n: null, gone: null, list: [{}] };
  applyDefaults(object, schema);
  assert.deepEqual(object, { a: 1, b: { c: "x" }, n: null, list: [{ p: "TCP" }] } as never);
});

test("validateSchema speaks Kubernetes", () => {
  const cases: [unknown, Schema, string[]][] = [
    [5, { type: "string" }, ['spec: Invalid value: "integer": spec in body must be of type string: "integer"']],
    [1.5, { type: "integer" }, ['spec: Invalid value: "number": spec in body must be of type integer: "number"']],
    [1, { type: "number" }, []],
    ["80%", { "x-kubernetes-int-or-string": true }, []],
    [
      true,
      { "x-kubernetes-int-or-string": true },
      ['spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean"'],
    ],
    [null, { type: "string", nullable: true }, []],
    ["abc", { type: "string", maxLength: 2 }, ["spec: Too long: may not be more than 2 bytes"]],
    ["", { type: "string", minLength: 1 }, ['spec: Invalid value: "": spec in body should be at least 1 chars long']],
    [
      [1, 2, 3],
      { type: "array", maxItems: 2, items: { type: "integer" } },
      ["spec: Too many: 3: must have at most 2 items"],
    ],
    [
      ["a", "a"],
      { type: "array", "x-kubernetes-list-type": "set", items: { type: "string" } },
      ['spec[1]: Duplicate value: "a"'],
    ],
    [{ a: 1 }, { type: "object", required: ["b"], properties: {} }, ["spec.b: Required value"]],
    [
      0,
      { type: "integer", minimum: 0, exclusiveMinimum: true },
      ["spec: Invalid value: 0: spec in body should be greater than 0"],
    ],
    [7, { type: "integer", multipleOf: 5 }, ["spec: Invalid value: 7: spec in body should be a multiple of 5"]],
    [
      "1.2.3",
      { type: "string", format: "ipv4" },
      ['spec: Invalid value: "1.2.3": spec in body must be of type ipv4: "1.2.3"'],
    ],
    [{ a: "1" }, { type: "object", oneOf: [{ required: ["a"] }, { required: ["b"] }] }, []],
    [
      {},
      { type: "object", anyOf: [{ required: ["a"] }, { required: ["b"] }] },
      ['spec: Invalid value: "": "spec" must validate at least one schema (anyOf)'],
    ],
    [
      "x",
      { type: "string", not: { enum: ["x"] } },
      ['spec: Invalid value: "": "spec" must not validate the schema (not)'],
    ],
  ];
  for (const [value, schema, expected] of cases)
    assert.deepEqual(texts(value, schema), expected, JSON.stringify(schema));
});

test("a value that was bad before may stay, and only it", () => {
  const schema: Schema = {
    type: "object",
    properties: { a: { type: "string", enum: ["x"] }, b: { type: "string", enum: ["x"] } },
  };
  assert.deepEqual(texts({ a: "old", b: "new" }, schema, { a: "old", b: "x" }), [
    'spec.b: Unsupported value: "new": supported values: "x"',
  ]);
});

test("checkRules gives messages, follows list-map items and skips transitions on create", () => {
  const schema: Schema = {
    type: "object",
    properties: {
      namespace: { type: "string" },
      size: { type: "integer" },
      items: {
        type: "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        items: {
          type: "object",
          properties: {
            name: { type: "string" },
            n: {
              type: "integer",
              "x-kubernetes-validations": [{ rule: "self >= oldSelf", message: "must not shrink" }],
            },
          },
        },
      },
    },
    "x-kubernetes-validations": [
      { rule: "!has(self.__namespace__) || self.__namespace__ != 'bad'" },
      {
        rule: "!has(self.size) || self.size < 10",
        messageExpression: "'size is ' + string(self.size)",
        fieldPath: ".size",
        reason: "FieldValueForbidden",
      },
    ],
  };
  const run = (value: unknown, old?: unknown) =>
    checkRules(value, schema, "spec", old).map((error) => `${error.field}: ${fieldErrorText(error)}`);
  assert.deepEqual(run({ namespace: "bad" }), [
    "spec: Invalid value: \"object\": failed rule: !has(self.__namespace__) || self.__namespace__ != 'bad'",
  ]);
  assert.deepEqual(run({ size: 12 }), ["spec.size: Forbidden: size is 12"]);
  assert.deepEqual(run({ items: [{ name: "a", n: 1 }] }), []);
  assert.deepEqual(
    run(
      {
        items: [
          { name: "b", n: 9 },
          { name: "a", n: 1 },
        ],
      },
      { items: [{ name: "a", n: 2 }] },
    ),
    ['spec.items[1].n: Invalid value: "integer": must not shrink'],
  );
});

test("celName escapes what an expression cannot say", () => {
  assert.deepEqual(["a", "namespace", "a-b", "a.b/c", "a__b"].map(celName), [
    "a",
    "__namespace__",
    "a__dash__b",
    "a__dot__b__slash__c",
    "a__underscores__b",
  ]);
});
