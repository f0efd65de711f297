import assert from "node:assert/strict";
import { test } from "node:test";
import { conform } from "./conform.ts";
import { duplicateKeys } from "./duplicate-keys.ts";
import { canonicalQuantity } from "./quantity.ts";
import { builtinType } from "./type-node.ts";

for (const [given, canonical] of [
  ["0.5", "500m"],
  ["1000m", "1"],
  ["1024Mi", "1Gi"],
  ["1500Mi", "1500Mi"],
  ["1.5Gi", "1536Mi"],
  ["0.1Ki", "102400m"],
  ["1e3", "1e3"],
  ["12e6", "12e6"],
  ["1000", "1k"],
  ["100m", "100m"],
  ["0", "0"],
  ["0Mi", "0"],
  ["-1500m", "-1500m"],
  [".5", "500m"],
  ["1k", "1k"],
  ["1000k", "1M"],
  ["3.", "3"],
  ["100n", "100n"],
  ["abc", undefined],
  ["1 Gi", undefined],
  ["", undefined],
] as [string, string | undefined][]) {
  test(`quantity ${given} is ${canonical}`, () => assert.equal(canonicalQuantity(given), canonical));
}

const pod = builtinType("io.k8s.api.core.v1.Pod");

test("conforming drops unknown fields with their paths, nulls, and makes scalars canonical", () => {
  const unknown: string[] = [];
  const result = conform(
    {
      apiVersion: "v1",
      kind: "Pod",
      bogus: 1,
      metadata: { name: "p", creationTimestamp: null, labels: { a: null } },
      spec: {
        containers: [{ name: "c", typo: 1, resources: { limits: { cpu: 2, memory: "1024Mi" } } }],
        hostname: null,
      },
    },
    pod,
    unknown,
  );
  assert.deepEqual(result, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", labels: { a: "" } },
    spec: { containers: [{ name: "c", resources: { limits: { cpu: "2", memory: "1Gi" } } }] },
  });
  assert.deepEqual(unknown, ["bogus", "spec.containers[0].typo"]);
});

test("a wrong JSON type is named as Go names it", () => {
  const wrong = (spec: object, message: RegExp): void => assert.throws(() => conform({ spec }, pod, []), message);
  wrong(
    { activeDeadlineSeconds: "5" },
    /cannot unmarshal string into Go struct field PodSpec\.spec\.activeDeadlineSeconds of type int64/,
  );
  wrong({ hostNetwork: 1 }, /cannot unmarshal number into Go struct field PodSpec\.spec\.hostNetwork of type bool/);
  wrong({ containers: {} }, /cannot unmarshal object into Go struct field PodSpec\.spec\.containers/);
  wrong({ containers: [{ resources: { limits: { cpu: "x" } } }] }, /quantities must match the regular expression/);
});

test("times are whole seconds in Z, micro times keep six digits", () => {
  const lease = builtinType("io.k8s.api.coordination.v1.Lease");
  assert.deepEqual(
    conform(
      { spec: { renewTime: "2024-01-01T00:00:00.1234567Z", acquireTime: "2024-01-01T02:00:00+02:00" } },
      lease,
      [],
    ),
    {
      spec: { renewTime: "2024-01-01T00:00:00.123456Z", acquireTime: "2024-01-01T00:00:00.000000Z" },
    },
  );
});

test("duplicate keys are found at every depth, in any spelling", () => {
  assert.deepEqual(duplicateKeys('{"a":1,"b":{"c":[{"d":1,"d":2}],"x":"\\"}{"},"a":2}'), ["b.c[0].d", "a"]);
  assert.deepEqual(duplicateKeys('{"a":{"b":1},"c":{"b":1}}'), []);
});
