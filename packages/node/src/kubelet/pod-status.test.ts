import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pod } from "@underlay/kube/objects";
import { newRecord, type ContainerRecord } from "./container-record.ts";
import { podStatus, type StatusInput } from "./pod-status.ts";

const now = "2026-01-01T00:00:10.000Z";
const started = "2026-01-01T00:00:05.123456789Z";
const run = (id: string) => ({ id, name: "c", attempt: 0, pid: 7, startedAt: started, running: true });
const end = (exitCode: number) => ({
  containerId: "old",
  exitCode,
  reason: exitCode === 0 ? "Completed" : "Error",
  startedAt: started,
  finishedAt: now,
});

function status(records: ContainerRecord[], more: Partial<StatusInput> = {}, spec: object = {}) {
  const pod = {
    metadata: { name: "p", namespace: "n" },
    spec: { containers: [{ name: "c", image: "img" }], restartPolicy: "Always", ...spec },
    ...("pod" in more ? more.pod : {}),
  } as unknown as Pod;
  return podStatus({
    records: new Map(records.map((r) => [r.name, r])),
    sandboxReady: true,
    podIps: ["10.0.0.9"],
    hostIp: "10.0.0.1",
    startTime: "2026-01-01T00:00:00Z",
    initialized: true,
    terminal: false,
    now,
    runtime: "underlay://0.1.0",
    ...more,
    pod,
  });
}
const record = (more: Partial<ContainerRecord>): ContainerRecord => ({ ...newRecord("c"), imageId: "id", ...more });
const conditions = (s: ReturnType<typeof status>) =>
  Object.fromEntries((s.conditions ?? []).map((c) => [c.type, `${c.status} ${c.reason ?? ""}`.trim()]));

test("a running, ready pod", () => {
  const s = status([record({ running: run("abc"), started: true, ready: true })]);
  assert.equal(s.phase, "Running");
  assert.deepEqual(conditions(s), {
    PodReadyToStartContainers: "True",
    Initialized: "True",
    Ready: "True",
    ContainersReady: "True",
  });
  assert.equal(s.podIP, "10.0.0.9");
  assert.deepEqual(s.hostIPs, [{ ip: "10.0.0.1" }]);
  assert.deepEqual(s.containerStatuses?.[0], {
    name: "c",
    image: "img",
    imageID: "id",
    restartCount: 0,
    ready: true,
    started: true,
    containerID: "underlay://abc",
    lastState: {},
    state: { running: { startedAt: "2026-01-01T00:00:05Z" } },
  });
});

test("before the first start the pod is Pending and its container is being created", () => {
  const s = status([], { sandboxReady: false, podIps: [] });
  assert.equal(s.phase, "Pending");
  assert.equal(s.podIP, undefined);
  assert.deepEqual(s.containerStatuses?.[0]?.state, { waiting: { reason: "ContainerCreating" } });
  assert.equal(conditions(s)["Ready"], "False ContainersNotReady");
});

test("while init containers run, the others wait with PodInitializing", () => {
  const s = status(
    [{ ...newRecord("i"), running: run("x") }],
    { initialized: false },
    { initContainers: [{ name: "i", image: "img" }] },
  );
  assert.equal(s.phase, "Pending");
  assert.deepEqual(s.containerStatuses?.[0]?.state, { waiting: { reason: "PodInitializing" } });
  assert.equal(conditions(s)["Initialized"], "False ContainersNotInitialized");
});

test("in a crash loop the last run is the last state, and the pod stays Running", () => {
  const s = status([
    record({ ended: end(3), restarts: 2, waiting: { reason: "CrashLoopBackOff", message: "back-off" } }),
  ]);
  assert.equal(s.phase, "Running");
  const c = s.containerStatuses?.[0];
  assert.equal(c?.restartCount, 2);
  assert.equal(c?.state?.waiting?.reason, "CrashLoopBackOff");
  assert.equal(c?.lastState?.terminated?.exitCode, 3);
});

for (const [code, phase] of [
  [0, "Succeeded"],
  [1, "Failed"],
] as const) {
  test(`a pod that is over with exit code ${code} has ${phase}`, () => {
    const s = status(
      [record({ ended: end(code) })],
      { terminal: true, sandboxReady: false },
      { restartPolicy: "Never" },
    );
    assert.equal(s.phase, phase);
    assert.equal(conditions(s)["Ready"], "False PodCompleted");
  });
}

test("an unmet readiness gate keeps Ready false although the containers are ready", () => {
  const s = status(
    [record({ running: run("a"), started: true, ready: true })],
    {},
    { readinessGates: [{ conditionType: "target-health" }] },
  );
  assert.equal(conditions(s)["ContainersReady"], "True");
  assert.equal(conditions(s)["Ready"], "False ReadinessGatesNotReady");
});

test("a condition keeps its transition time while its status stays", () => {
  const before = {
    status: { conditions: [{ type: "Ready", status: "True", lastTransitionTime: "2025-12-31T00:00:00Z" }] },
  } as unknown as Pod;
  const s = status([record({ running: run("a"), started: true, ready: true })], { pod: before });
  assert.equal(s.conditions?.find((c) => c.type === "Ready")?.lastTransitionTime, "2025-12-31T00:00:00Z");
});
