import assert from "node:assert/strict";
import { test } from "node:test";
import { initialProbeState, takeProbeResult, type ProbeKind } from "./probe-state.ts";

function feed(kind: ProbeKind, results: boolean[], probe = {}): string {
  let state = initialProbeState(kind);
  return results
    .map((result) => {
      const verdict = takeProbeResult(state, result, probe);
      state = verdict.state;
      return `${state.ok ? "ok" : "no"}${verdict.restart ? "!" : ""}`;
    })
    .join(" ");
}

test("readiness follows its thresholds in both directions and never restarts", () => {
  assert.equal(feed("readiness", [true, false, false, false, false, true], {}), "ok ok ok no no ok");
  assert.equal(feed("readiness", [true, false, true, true], { successThreshold: 2 }), "no no no ok");
});

test("liveness asks for a restart at the third failure in a row", () => {
  assert.equal(feed("liveness", [false, false, true, false, false, false]), "ok ok ok ok ok no!");
});

test("startup is not ok until its first success and gives up at its threshold", () => {
  assert.equal(feed("startup", [false, true], { failureThreshold: 2 }), "no ok");
  assert.equal(feed("startup", [false, false], { failureThreshold: 2 }), "no no!");
});
