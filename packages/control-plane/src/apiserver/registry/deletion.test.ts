import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApiObject } from "../api-object.ts";
import { builtinResources } from "../resource-info.ts";
import { planDeletion } from "./deletion.ts";

const info = (storage: string) => builtinResources.find((i) => i.storage === storage)!;
const object = (spec: object = {}, metadata: object = {}, status: object = {}): ApiObject => ({
  apiVersion: "v1",
  kind: "X",
  metadata: { name: "x", ...metadata },
  spec,
  status,
});
const bound = { nodeName: "n", terminationGracePeriodSeconds: 30 };
const summary = (storage: string, o: ApiObject, options: object) => {
  const plan = planDeletion(info(storage), o, options, 0);
  if (plan.do === "nothing") return "nothing";
  const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = plan.object.metadata;
  return [plan.do, deletionTimestamp, deletionGracePeriodSeconds, finalizers].filter((v) => v !== undefined);
};

test("unbound and finished pods go at once, bound ones get their grace", () => {
  assert.deepEqual(summary("/pods", object({}), {}), ["remove"]);
  assert.deepEqual(summary("/pods", object(bound, {}, { phase: "Succeeded" }), {}), ["remove"]);
  assert.deepEqual(summary("/pods", object(bound), {}), ["mark", "1970-01-01T00:00:30Z", 30]);
  assert.deepEqual(summary("/pods", object(bound), { gracePeriodSeconds: 5 }), ["mark", "1970-01-01T00:00:05Z", 5]);
  assert.deepEqual(summary("/pods", object(bound), { gracePeriodSeconds: 0 }), ["remove"]);
});

test("a later delete may only shorten the grace; grace 0 announces and removes", () => {
  const dying = object(bound, { deletionTimestamp: "1970-01-01T00:00:30Z", deletionGracePeriodSeconds: 30 });
  assert.equal(summary("/pods", dying, { gracePeriodSeconds: 60 }), "nothing");
  assert.deepEqual(summary("/pods", dying, { gracePeriodSeconds: 5 }), ["mark", "1970-01-01T00:00:05Z", 5]);
  const plan = planDeletion(info("/pods"), dying, { gracePeriodSeconds: 0 }, 0);
  assert.ok(plan.do === "remove" && plan.announce);
});

test("propagation policies are finalizers", () => {
  assert.deepEqual(summary("apps/deployments", object(), { propagationPolicy: "Foreground" }), [
    "mark",
    "1970-01-01T00:00:00Z",
    0,
    ["foregroundDeletion"],
  ]);
  assert.deepEqual(summary("apps/deployments", object(), { propagationPolicy: "Orphan" }), [
    "mark",
    "1970-01-01T00:00:00Z",
    0,
    ["orphan"],
  ]);
  assert.deepEqual(summary("apps/deployments", object(), { propagationPolicy: "Background" }), ["remove"]);
  assert.deepEqual(summary("batch/jobs", object(), {}), ["mark", "1970-01-01T00:00:00Z", 0, ["orphan"]]);
});

test("finalizers and namespaces hold the object", () => {
  assert.deepEqual(summary("/configmaps", object({}, { finalizers: ["a/b"] }), {}), [
    "mark",
    "1970-01-01T00:00:00Z",
    0,
    ["a/b"],
  ]);
  const plan = planDeletion(info("/namespaces"), object({ finalizers: ["kubernetes"] }), {}, 0);
  assert.ok(plan.do === "mark" && plan.object["status"].phase === "Terminating");
});
