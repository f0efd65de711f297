import assert from "node:assert/strict";
import { test } from "node:test";
import { BackOff, durationText } from "./back-off.ts";

test("the first restart is free, then 10 s doubling to five minutes", () => {
  const backOff = new BackOff({ initialMs: 10_000, maxMs: 300_000 });
  const waits: number[] = [];
  let now = 0;
  for (let crash = 0; crash < 8; crash++) {
    const wait = backOff.remaining("c", now, now);
    waits.push(wait / 1000);
    now += wait;
    backOff.next("c", now, now);
    now += 100; // it runs for a moment and ends again
  }
  assert.deepEqual(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
});

test("a long good run forgets the crashes before it", () => {
  const backOff = new BackOff({ initialMs: 10_000, maxMs: 300_000 });
  backOff.next("c", 0, 0);
  backOff.next("c", 0, 0);
  assert.equal(backOff.remaining("c", 601_000, 601_000), 0);
  backOff.next("c", 601_000, 601_000);
  assert.equal(backOff.delay("c"), 10_000);
});

test("keys are apart, and a forgotten pod starts over", () => {
  const backOff = new BackOff({ initialMs: 10_000, maxMs: 300_000 });
  backOff.next("uid/c", 0, 0);
  assert.equal(backOff.remaining("other/c", 0, 0), 0);
  backOff.forget("uid");
  assert.equal(backOff.remaining("uid/c", 0, 0), 0);
});

test("durationText() writes Go's form", () => {
  assert.deepEqual([10_000, 80_000, 300_000, 3_600_000].map(durationText), ["10s", "1m20s", "5m0s", "1h0m0s"]);
});
