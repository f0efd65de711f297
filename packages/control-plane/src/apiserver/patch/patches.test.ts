import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinType } from "../schema/type-node.ts";
import { applyJsonPatch } from "./json-patch.ts";
import { applyMergePatch } from "./merge-patch.ts";
import { applyStrategicMerge } from "./strategic-merge.ts";

const podSpec = builtinType("io.k8s.api.core.v1.PodSpec");
const smp = (target: object, patch: object): unknown => applyStrategicMerge(target, patch, podSpec);

test("JSON Patch applies add, remove, replace, move, copy and test, all or nothing", () => {
  const document = { a: { b: [1, 2] }, "x/y": 1 };
  assert.deepEqual(
    applyJsonPatch(document, [
      { op: "add", path: "/a/b/-", value: 3 },
      { op: "add", path: "/a/b/0", value: 0 },
      { op: "remove", path: "/x~1y" },
    ]),
    { a: { b: [0, 1, 2, 3] } },
  );
  assert.deepEqual(
    applyJsonPatch(document, [
      { op: "move", from: "/a/b", path: "/c" },
      { op: "copy", from: "/c/0", path: "/d" },
    ]),
    { a: {}, c: [1, 2], "x/y": 1, d: 1 },
  );
  assert.deepEqual(applyJsonPatch(document, [{ op: "test", path: "/a/b/0", value: 1 }]), document);
  assert.throws(() => applyJsonPatch(document, [{ op: "replace", path: "/nope", value: 1 }]), /missing path: "\/nope"/);
  assert.throws(() => applyJsonPatch(document, [{ op: "remove", path: "/a/b/7" }]));
  assert.throws(() => applyJsonPatch(document, [{ op: "test", path: "/a/b/0", value: 9 }]), /testing value/);
  assert.deepEqual(document, { a: { b: [1, 2] }, "x/y": 1 });
});

test("merge patch replaces lists and deletes by null", () => {
  assert.deepEqual(
    applyMergePatch({ a: { b: 1, c: [1, 2] }, d: 1 }, { a: { b: null, c: [3] }, e: { f: null, g: 1 } }),
    { a: { c: [3] }, d: 1, e: { g: 1 } },
  );
});

test("strategic merge merges lists by key and deletes items by directive", () => {
  const live = {
    containers: [
      {
        name: "a",
        image: "1",
        env: [
          { name: "X", value: "1" },
          { name: "Y", value: "2" },
        ],
      },
      { name: "b", image: "1" },
    ],
  };
  assert.deepEqual(
    smp(live, {
      containers: [
        { name: "a", image: "2", env: [{ name: "Y", $patch: "delete" }] },
        { name: "c", image: "3" },
      ],
    }),
    {
      containers: [
        { name: "a", image: "2", env: [{ name: "X", value: "1" }] },
        { name: "b", image: "1" },
        { name: "c", image: "3" },
      ],
    },
  );
});

test("$setElementOrder orders, server-only items keep their place", () => {
  const live = { containers: [{ name: "a" }, { name: "injected" }, { name: "b" }] };
  assert.deepEqual(
    smp(live, {
      "$setElementOrder/containers": [{ name: "b" }, { name: "a" }],
      containers: [{ name: "a", image: "x" }],
    }),
    {
      containers: [{ name: "b" }, { name: "a", image: "x" }, { name: "injected" }],
    },
  );
});

test("$retainKeys, $patch replace and atomic lists replace", () => {
  assert.deepEqual(
    smp(
      { volumes: [{ name: "v", emptyDir: {} }] },
      { volumes: [{ name: "v", $retainKeys: ["name", "hostPath"], hostPath: { path: "/x" } }] },
    ),
    { volumes: [{ name: "v", hostPath: { path: "/x" } }] },
  );
  assert.deepEqual(smp({ securityContext: { a: 1 } }, { securityContext: { $patch: "replace", runAsUser: 1 } }), {
    securityContext: { runAsUser: 1 },
  });
  assert.deepEqual(smp({ tolerations: [{ key: "a" }] }, { tolerations: [{ key: "b" }] }), {
    tolerations: [{ key: "b" }],
  });
});

test("sets of scalars merge and shrink by directive", () => {
  const meta = builtinType("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
  assert.deepEqual(
    applyStrategicMerge(
      { finalizers: ["a", "b"] },
      { finalizers: ["c"], "$deleteFromPrimitiveList/finalizers": ["a"] },
      meta,
    ),
    { finalizers: ["b", "c"] },
  );
});

test("ports merge by containerPort, conditions by type", () => {
  const status = builtinType("io.k8s.api.core.v1.PodStatus");
  assert.deepEqual(
    applyStrategicMerge(
      {
        conditions: [
          { type: "Ready", status: "False" },
          { type: "x/gate", status: "True" },
        ],
      },
      { conditions: [{ type: "Ready", status: "True" }] },
      status,
    ),
    {
      conditions: [
        { type: "Ready", status: "True" },
        { type: "x/gate", status: "True" },
      ],
    },
  );
});

test("a merge key that is missing is a bad request", () => {
  assert.throws(
    () => smp({ containers: [] }, { containers: [{ image: "x" }] }),
    /does not contain declared merge key: name/,
  );
});
