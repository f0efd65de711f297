import assert from "node:assert/strict";
import { test } from "node:test";
import type { PodSpec } from "@underlay/kube/objects";
import { planContainers, type ContainerView } from "./container-plan.ts";

const view = (name: string, more: Partial<ContainerView> = {}): [string, ContainerView] => [
  name,
  { name, running: false, started: false, exitCode: undefined, backOffMs: 0, ...more },
];
const running = { running: true, started: true };
const spec = (more: Partial<PodSpec>): PodSpec =>
  ({ containers: [{ name: "a" }, { name: "b" }], restartPolicy: "Always", ...more }) as PodSpec;
const inits = { initContainers: [{ name: "i1" }, { name: "side", restartPolicy: "Always" }, { name: "i2" }] };

test("init containers start one after another", () => {
  assert.deepEqual(planContainers(spec(inits), new Map()).steps, [{ do: "start", name: "i1" }]);
  assert.deepEqual(planContainers(spec(inits), new Map([view("i1", { running: true })])).steps, []);
});

test("a sidecar is waited for until it has started, and then the next init container runs beside it", () => {
  const afterFirst = new Map([view("i1", { exitCode: 0 })]);
  assert.deepEqual(planContainers(spec(inits), afterFirst), {
    steps: [{ do: "start", name: "side" }],
    outcome: "running",
    initialized: false,
  });
  const sideRuns = new Map([view("i1", { exitCode: 0 }), view("side", { running: true })]);
  assert.deepEqual(planContainers(spec(inits), sideRuns).steps, []);
  const sideStarted = new Map([view("i1", { exitCode: 0 }), view("side", running)]);
  assert.deepEqual(planContainers(spec(inits), sideStarted).steps, [{ do: "start", name: "i2" }]);
});

test("containers start together once initialization is over", () => {
  const done = new Map([view("i1", { exitCode: 0 }), view("side", running), view("i2", { exitCode: 0 })]);
  assert.deepEqual(planContainers(spec(inits), done), {
    steps: [
      { do: "start", name: "a" },
      { do: "start", name: "b" },
    ],
    outcome: "running",
    initialized: true,
  });
});

test("a failed init container is tried again, except under Never", () => {
  const failed = new Map([view("i1", { exitCode: 1, backOffMs: 500 })]);
  assert.deepEqual(planContainers(spec(inits), failed).steps, [{ do: "back-off", name: "i1", ms: 500 }]);
  assert.equal(planContainers(spec({ ...inits, restartPolicy: "Never" }), failed).outcome, "failed");
});

test("a sidecar that died is started again beside running containers", () => {
  const views = new Map([
    view("i1", { exitCode: 0 }),
    view("side", { exitCode: 2 }),
    view("i2", { exitCode: 0 }),
    view("a", running),
    view("b", running),
  ]);
  assert.deepEqual(planContainers(spec(inits), views).steps, [{ do: "start", name: "side" }]);
});

for (const [policy, codes, outcome, started] of [
  ["Always", [0, 0], "running", ["a", "b"]],
  ["OnFailure", [0, 0], "succeeded", []],
  ["OnFailure", [0, 3], "running", ["b"]],
  ["Never", [0, 3], "failed", []],
  ["Never", [0, 0], "succeeded", []],
] as const) {
  test(`restartPolicy ${policy} with exit codes ${codes.join(" and ")}: ${outcome}`, () => {
    const views = new Map([view("a", { exitCode: codes[0] }), view("b", { exitCode: codes[1] })]);
    const plan = planContainers(spec({ restartPolicy: policy }), views);
    assert.equal(plan.outcome, outcome);
    assert.deepEqual(
      plan.steps.flatMap((s) => (s.do === "start" ? [s.name] : [])),
      started,
    );
  });
}

test("one container's end does not end a pod whose other container runs", () => {
  const views = new Map([view("a", { exitCode: 0 }), view("b", running)]);
  assert.deepEqual(planContainers(spec({ restartPolicy: "Never" }), views), {
    steps: [],
    outcome: "running",
    initialized: true,
  });
});
