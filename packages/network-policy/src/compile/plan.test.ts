/** What changes in the objects of a policy when its lists change: as little as possible. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PolicyEndpoint } from "../api/policy-endpoint.ts";
import type { CompiledSet } from "./compile.ts";
import { planWrites, type Step } from "./plan.ts";

const addressOf = (n: number): string => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;

function setOf(subjects: readonly number[], sources: readonly number[]): CompiledSet {
  return {
    variant: "",
    policyRef: { namespace: "shop", name: "p" },
    podSelector: {},
    podIsolation: ["Ingress"],
    subjects: subjects.map((n) => ({ hostIP: "10.0.0.1", podIP: addressOf(n), name: `pod-${n}`, namespace: "shop" })),
    ingress: sources.map((n) => ({ cidr: addressOf(n) })),
    egress: [],
  };
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index);

/** The objects after the steps. */
function applied(objects: readonly PolicyEndpoint[], steps: readonly Step[]): PolicyEndpoint[] {
  const after = new Map(objects.map((object) => [object.metadata.name, object]));
  for (const step of steps) {
    const name = step.do === "create" ? `p-${step.slot}` : ((step.object?.metadata.name ?? `p-${step.slot}`) as string);
    if (step.do === "delete") after.delete(name);
    else after.set(name, { metadata: { name }, spec: step.spec });
  }
  return [...after.values()];
}

const sizes = (objects: readonly PolicyEndpoint[]): number[][] =>
  objects.map(({ spec }) => [spec.podSelectorEndpoints?.length ?? 0, spec.ingress?.length ?? 0]);

test("lists are cut each by itself, and subjects are named only when every source is stored", () => {
  const steps = planWrites([setOf(upTo(1500), upTo(2500))], [], 1000);
  assert.deepEqual(sizes(applied([], steps)), [
    [1000, 1000],
    [500, 1000],
    [0, 500],
  ]);
  const firstNaming = steps.findIndex((step) => step.do !== "delete" && step.spec.podSelectorEndpoints);
  const before = applied([], steps.slice(0, firstNaming + 1));
  assert.equal(
    before.reduce((sum, { spec }) => sum + (spec.ingress?.length ?? 0), 0),
    2500,
  );
});

test("one source more goes where there is room, one less leaves room: one write each, the other objects stay as they are", () => {
  const objects = applied([], planWrites([setOf([1], upTo(2500))], [], 1000));
  const more = planWrites([setOf([1], upTo(2501))], objects, 1000);
  assert.deepEqual(
    more.map((step) => [step.do, step.slot]),
    [["update", 2]],
  );
  const less = planWrites(
    [
      setOf(
        [1],
        upTo(2500).filter((n) => n !== 700),
      ),
    ],
    objects,
    1000,
  );
  assert.deepEqual(
    less.map((step) => [step.do, step.slot]),
    [["update", 0]],
  );
  const filled = planWrites([setOf([1], [...upTo(2500).filter((n) => n !== 700), 9999])], objects, 1000);
  assert.deepEqual(sizes(applied(objects, filled)), [
    [1, 1000],
    [0, 1000],
    [0, 500],
  ]);
});

test("a policy of one object changes in one write, and keeps an object when nothing is left to say", () => {
  const objects = applied([], planWrites([setOf([1, 2], [3, 4])], [], 1000));
  assert.deepEqual(planWrites([setOf([1, 2], [3, 4])], objects, 1000), []);
  const changed = planWrites([setOf([2, 5], [4, 6])], objects, 1000);
  assert.deepEqual(
    changed.map((step) => step.do),
    ["update"],
  );
  const empty = applied(objects, planWrites([setOf([], [])], objects, 1000));
  assert.deepEqual(sizes(empty), [[0, 0]]);
  assert.deepEqual(
    planWrites([], objects, 1000).map((step) => step.do),
    ["delete"],
  );
});

test("objects of a deleted policy stop naming pods before the first of them goes", () => {
  const objects = applied([], planWrites([setOf([1, 2, 3], [4, 5, 6])], [], 2));
  const steps = planWrites([], objects, 2);
  const firstDelete = steps.findIndex((step) => step.do === "delete");
  const naming = applied(objects, steps.slice(0, firstDelete)).filter(({ spec }) => spec.podSelectorEndpoints);
  assert.ok(naming.length <= 1, "only the object that goes first may still name its own");
  assert.deepEqual(applied(objects, steps), []);
});
