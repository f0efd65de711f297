import assert from "node:assert/strict";
import { test } from "node:test";
import type { Node } from "@underlay/kube/objects";
import { Freshness, isEligible } from "./health.ts";

test("changes that wait too long make the proxy unhealthy until they are written", () => {
  let now = 1000;
  const freshness = new Freshness(() => now);
  now += 600_000;
  assert.equal(freshness.isHealthy, true, "nothing pending is as fresh as can be");
  assert.equal(freshness.lastUpdated, now);
  freshness.queued();
  now += 59_000;
  assert.equal(freshness.isHealthy, true);
  now += 2000;
  freshness.queued();
  assert.equal(freshness.isHealthy, false);
  assert.equal(freshness.lastUpdated, 1000);
  freshness.updated();
  assert.equal(freshness.isHealthy, true);
});

test("a node on its way out takes no more traffic", () => {
  const node = (over: object): Node => ({ metadata: { name: "n" }, ...over }) as Node;
  assert.equal(isEligible(undefined), true);
  assert.equal(isEligible(node({ spec: { taints: [{ key: "other", effect: "NoSchedule" }] } })), true);
  assert.equal(
    isEligible(node({ spec: { taints: [{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule" }] } })),
    false,
  );
  assert.equal(isEligible(node({ metadata: { name: "n", deletionTimestamp: "2026-01-01T00:00:00Z" } })), false);
});
