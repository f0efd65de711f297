import assert from "node:assert/strict";
import { test } from "node:test";
import { shortDuration } from "./age.ts";
import { customPrinter } from "./custom-printer.ts";
import { evaluateJsonPath, parseJsonPath } from "./json-path.ts";
import { summarizePod } from "./pod-status.ts";
import { printerFor, tableOf } from "./tables.ts";

const now = Date.parse("2026-01-02T00:00:00Z");
const second = 1000;

test("shortDuration prints as kubectl does", () => {
  const cases: [number, string][] = [
    [5, "5s"],
    [119, "119s"],
    [120, "2m"],
    [200, "3m20s"],
    [599, "9m59s"],
    [600, "10m"],
    [3 * 3600, "3h"],
    [3 * 3600 + 60, "3h1m"],
    [21 * 3600, "21h"],
    [48 * 3600, "2d"],
    [50 * 3600, "2d2h"],
    [10 * 86400, "10d"],
    [800 * 86400, "2y70d"],
    [-5, "<invalid>"],
  ];
  for (const [seconds, text] of cases) assert.equal(shortDuration(seconds * second), text);
});

const running = (name: string, more: object = {}) => ({
  name,
  ready: true,
  restartCount: 0,
  state: { running: {} },
  ...more,
});

test("summarizePod tells the worst container's reason", () => {
  const spec = { containers: [{ name: "a" }, { name: "b" }] };
  const cases: [object, ReturnType<typeof summarizePod>][] = [
    [
      { spec, status: { phase: "Pending" } },
      { ready: "0/2", status: "Pending", restarts: "0" },
    ],
    [
      { spec, status: { phase: "Running", containerStatuses: [running("a"), running("b")] } },
      { ready: "2/2", status: "Running", restarts: "0" },
    ],
    [
      {
        spec,
        status: {
          phase: "Running",
          containerStatuses: [
            running("a"),
            {
              name: "b",
              ready: false,
              restartCount: 3,
              state: { waiting: { reason: "CrashLoopBackOff" } },
              lastState: { terminated: { finishedAt: "2026-01-01T23:58:00Z" } },
            },
          ],
        },
      },
      { ready: "1/2", status: "CrashLoopBackOff", restarts: "3 (2m ago)" },
    ],
    [
      { metadata: { deletionTimestamp: "x" }, spec, status: { phase: "Running", containerStatuses: [running("a")] } },
      { ready: "1/2", status: "Terminating", restarts: "0" },
    ],
    [
      {
        spec: { ...spec, initContainers: [{ name: "i" }, { name: "j" }] },
        status: {
          phase: "Pending",
          initContainerStatuses: [
            { name: "i", restartCount: 0, state: { terminated: { exitCode: 0 } } },
            { name: "j", restartCount: 0, state: { running: {} } },
          ],
          containerStatuses: [{ name: "a", restartCount: 0, state: { waiting: { reason: "PodInitializing" } } }],
        },
      },
      { ready: "0/2", status: "Init:1/2", restarts: "0" },
    ],
    [
      {
        spec: { containers: [{ name: "a" }] },
        status: {
          phase: "Succeeded",
          containerStatuses: [
            { name: "a", restartCount: 0, state: { terminated: { exitCode: 0, reason: "Completed" } } },
          ],
        },
      },
      { ready: "0/1", status: "Completed", restarts: "0" },
    ],
  ];
  for (const [pod, expected] of cases) assert.deepEqual(summarizePod(pod, now), expected);
});

test("every printer gives as many cells as columns, also for a bare object", () => {
  const bare = { metadata: { name: "x" }, roleRef: {}, spec: {} };
  const resources = ["pods", "services", "nodes", "events", "endpoints", "configmaps", "secrets", "persistentvolumes"];
  for (const resource of resources) {
    const printed = printerFor("", resource);
    assert.equal(printed.cells(bare, now).length, printed.columns.length, resource);
  }
  for (const [group, resource] of [
    ["apps", "daemonsets"],
    ["batch", "cronjobs"],
    ["batch", "jobs"],
    ["discovery.k8s.io", "endpointslices"],
  ]) {
    const printed = printerFor(group!, resource!);
    assert.equal(printed.cells(bare, now).length, printed.columns.length, resource);
  }
});

test("tableOf wraps rows with partial metadata", () => {
  const object = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "a", creationTimestamp: "2026-01-01T23:59:00Z" },
    data: { k: "v" },
  };
  const table = tableOf(
    printerFor("", "configmaps"),
    [object],
    { resourceVersion: "7" },
    {
      version: "v1",
      includeObject: "Metadata",
      columnDefinitions: false,
      now,
    },
  );
  assert.deepEqual(table, {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: { resourceVersion: "7" },
    columnDefinitions: null,
    rows: [
      {
        cells: ["a", 1, "60s"],
        object: { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata },
      },
    ],
  });
});

test("customPrinter reads columns by JSONPath", () => {
  const printed = customPrinter([
    { name: "Ready", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
    { name: "Hosts", type: "string", jsonPath: ".spec.hosts" },
    { name: "Replicas", type: "integer", jsonPath: ".spec.replicas", priority: 1 },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  ]);
  const object = {
    metadata: { name: "x", creationTimestamp: "2026-01-01T23:59:55Z" },
    spec: { hosts: ["a", "b"] },
    status: {
      conditions: [
        { type: "Synced", status: "False" },
        { type: "Ready", status: "True" },
      ],
    },
  };
  assert.deepEqual(printed.cells(object, now), ["x", "True", '["a","b"]', null, "5s"]);
});

test("JSONPath takes quoted fields, indexes and wildcards", () => {
  const object = { metadata: { annotations: { "a.b/c": "v" } }, list: [{ n: 1 }, { n: 2 }] };
  assert.deepEqual(evaluateJsonPath(parseJsonPath(".metadata.annotations['a.b/c']"), object), ["v"]);
  assert.deepEqual(evaluateJsonPath(parseJsonPath(".metadata.annotations.a\\.b/c"), object), ["v"]);
  assert.deepEqual(evaluateJsonPath(parseJsonPath(".list[*].n"), object), [1, 2]);
  assert.deepEqual(evaluateJsonPath(parseJsonPath(".list[-1].n"), object), [2]);
  assert.throws(() => parseJsonPath(".list[0"), /without/);
});
