import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApiObject } from "../api-object.ts";
import { builtinType } from "../schema/type-node.ts";
import { ApiError } from "../api-error.ts";
import { applyConfiguration } from "./apply.ts";
import { trackUpdate } from "./managed-fields.ts";

const type = builtinType("io.k8s.api.apps.v1.Deployment");
const config = (spec: object, metadata: object = {}): ApiObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "d", ...metadata },
  spec,
});
const apply = (live: ApiObject | undefined, wanted: ApiObject, manager = "m", force = false): ApiObject =>
  applyConfiguration({ type, live, config: wanted, manager, subresource: "", force, now: 0 });
const containers = (...list: object[]): object => ({ template: { spec: { containers: list } } });
const managers = (object: ApiObject): string[] =>
  (object.metadata.managedFields ?? []).map((m) => `${m.manager} ${m.operation}`);

test("the first apply owns what it sent, in fieldsV1 form", () => {
  const made = apply(
    undefined,
    config(
      { replicas: 1, ...containers({ name: "c", image: "i", ports: [{ containerPort: 80 }] }) },
      { labels: { a: "b" } },
    ),
  );
  assert.deepEqual(made.metadata.managedFields?.[0]?.fieldsV1, {
    "f:metadata": { "f:labels": { "f:a": {} } },
    "f:spec": {
      "f:replicas": {},
      "f:template": {
        "f:spec": {
          "f:containers": {
            'k:{"name":"c"}': {
              ".": {},
              "f:name": {},
              "f:image": {},
              "f:ports": { 'k:{"containerPort":80,"protocol":"TCP"}': { ".": {}, "f:containerPort": {} } },
            },
          },
        },
      },
    },
  });
});

test("fields no longer sent go, unless another manager has them", () => {
  let live = apply(
    undefined,
    config({ replicas: 1, paused: true, ...containers({ name: "a", image: "1" }, { name: "b", image: "1" }) }),
  );
  live = apply(live, config({ paused: true }), "other");
  live = apply(live, config({ ...containers({ name: "a", image: "2" }) }));
  assert.equal(live["spec"].replicas, undefined);
  assert.equal(live["spec"].paused, true);
  assert.deepEqual(live["spec"].template.spec.containers, [{ name: "a", image: "2" }]);
});

test("a different value of another manager's field is a conflict; force takes it; the same value is shared", () => {
  const first = apply(undefined, config({ replicas: 1 }), "one");
  assert.throws(
    () => apply(first, config({ replicas: 2 }), "two"),
    (error: ApiError) => {
      assert.equal(error.status.code, 409);
      assert.equal(error.message, 'Apply failed with 1 conflict: conflict with "one": .spec.replicas');
      assert.deepEqual(error.status.details?.causes, [
        { reason: "FieldManagerConflict", message: 'conflict with "one"', field: ".spec.replicas" },
      ]);
      return true;
    },
  );
  const forced = apply(first, config({ replicas: 2 }), "two", true);
  assert.deepEqual(managers(forced), ["two Apply"]);
  assert.deepEqual(managers(apply(first, config({ replicas: 1 }), "two")), ["one Apply", "two Apply"]);
});

test("live fields nobody sent stay (defaults, injected containers)", () => {
  const live = config({
    revisionHistoryLimit: 10,
    ...containers({ name: "a", image: "1", imagePullPolicy: "Always" }, { name: "sidecar", image: "s" }),
  });
  const merged = apply(live, config({ ...containers({ name: "a", image: "2" }) }));
  assert.equal(merged["spec"].revisionHistoryLimit, 10);
  assert.deepEqual(merged["spec"].template.spec.containers, [
    { name: "a", image: "2", imagePullPolicy: "Always" },
    { name: "sidecar", image: "s" },
  ]);
});

test("the same apply again changes nothing", () => {
  const first = apply(undefined, config({ replicas: 1 }, { labels: { a: "b" } }));
  assert.deepEqual(apply(first, config({ replicas: 1 }, { labels: { a: "b" } })), first);
});

test("a plain update takes over the fields it changes and leaves the rest", () => {
  const old = apply(undefined, config({ replicas: 1, paused: true }), "one");
  const object = structuredClone(old);
  object["spec"].replicas = 5;
  trackUpdate({ type, object, old, manager: "kubectl-edit", subresource: "", now: 0 });
  assert.deepEqual(
    object.metadata.managedFields?.map((m) => [m.manager, m.operation, m.fieldsV1]),
    [
      ["one", "Apply", { "f:spec": { "f:paused": {} } }],
      ["kubectl-edit", "Update", { "f:spec": { "f:replicas": {} } }],
    ],
  );
});

test("managedFields [{}] clears the books", () => {
  const old = apply(undefined, config({ replicas: 1 }), "one");
  const object = structuredClone(old);
  object.metadata.managedFields = [{}];
  trackUpdate({ type, object, old, manager: "x", subresource: "", now: 0 });
  assert.equal(object.metadata.managedFields, undefined);
});

test("moving from client-side apply, kubectl's own last-applied fields are not contested", () => {
  const live = config(
    { replicas: 1 },
    { annotations: { "kubectl.kubernetes.io/last-applied-configuration": JSON.stringify(config({ replicas: 1 })) } },
  );
  trackUpdate({ type, object: live, old: undefined, manager: "kubectl-client-side-apply", subresource: "", now: 0 });
  assert.equal(apply(live, config({ replicas: 3 }), "kubectl")["spec"].replicas, 3);
  assert.throws(
    () => apply(live, config({ replicas: 3 }), "someone"),
    /conflict with "kubectl-client-side-apply" using apps\/v1: \.spec\.replicas/,
  );
});
