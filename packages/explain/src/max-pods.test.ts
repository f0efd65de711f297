import assert from "node:assert/strict";
import { test } from "node:test";
import { findEniLimits } from "@underlay/vpc-cni/eni-limits";
import { publishedMaxPods } from "./generated/published-max-pods.ts";
import { allInstanceLimits, vcpusOf } from "./instance-limits.ts";
import { findMaxPods, type AddressingMode } from "./max-pods.ts";

test("every type has the pods Amazon publishes", () => {
  const published = Object.entries(publishedMaxPods).flatMap(([pods, types]) =>
    types.split(" ").map((type) => [type, Number(pods)] as const),
  );
  const ours = [...allInstanceLimits().keys()].map((type) => [type, findMaxPods(type)?.pods] as const);
  const byName = (a: readonly [string, unknown], b: readonly [string, unknown]) => (a[0] < b[0] ? -1 : 1);
  assert.equal(ours.length, 1391);
  assert.deepEqual(ours.toSorted(byName), published.toSorted(byName));
});

const sheet: [type: string, mode: AddressingMode, pods: number][] = [
  ["t3.nano", {}, 4],
  ["t3.small", {}, 11],
  ["t3.medium", {}, 17],
  ["m5.large", {}, 29],
  ["m5.xlarge", {}, 58],
  ["m5.4xlarge", {}, 234],
  ["c5.4xlarge", {}, 234],
  ["m5.24xlarge", {}, 737],
  ["c6gn.16xlarge", {}, 737],
  ["p5.48xlarge", {}, 100],
  ["m5.large", { custom: true }, 20],
  ["m5.large", { prefix: true }, 434],
  ["m5.large", { prefix: true, cap: true }, 110],
  ["m5.large", { prefix: true, custom: true }, 290],
  ["m5.24xlarge", { cap: true }, 250],
  ["m5.large", { cap: true }, 29],
  ["m5.metal", { prefix: true, cap: true }, 250],
  ["a1.metal", { prefix: true, cap: true }, 110],
  ["m4.large", { prefix: true }, 20],
];
for (const [type, mode, pods] of sheet) {
  test(`${type} ${JSON.stringify(mode)} runs ${pods} pods`, () => assert.equal(findMaxPods(type, mode)?.pods, pods));
}

test("the sum is written out", () => {
  assert.equal(
    findMaxPods("m5.large", { prefix: true, custom: true, cap: true })?.because,
    "2 ENIs (the primary is left out) × 9 prefixes × 16 + 2 pods on the host's network = 290; capped at 110 (2 vCPUs)",
  );
  assert.equal(findMaxPods("z9.huge"), undefined);
});

test("vCPUs follow from the size but for the types that are named", () => {
  assert.deepEqual(["t3.nano", "m5.8xlarge", "c7i.metal-24xl", "a1.metal", "m5.metal"].map(vcpusOf), [
    2,
    32,
    96,
    16,
    undefined,
  ]);
});

test("the table is the one vpc-cni sizes its pool by", () => {
  for (const [type, limits] of allInstanceLimits()) {
    const other = findEniLimits(type);
    assert.deepEqual(
      { enis: other?.maxEnis, addressesPerEni: other?.addressesPerEni, prefixes: other?.prefixes },
      limits,
      type,
    );
  }
});
