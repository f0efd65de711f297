import assert from "node:assert/strict";
import { test } from "node:test";
import { eniConfigNameOf, findEniConfig } from "./eni-config.ts";

const settings = { eniConfigAnnotation: "k8s.amazonaws.com/eniConfig", eniConfigLabel: "topology.kubernetes.io/zone" };
const zone = { "topology.kubernetes.io/zone": "us-west-2b" };

const names: [node: Parameters<typeof eniConfigNameOf>[0], name: string][] = [
  [{}, "default"],
  [{ labels: zone }, "us-west-2b"],
  [{ labels: zone, annotations: { "k8s.amazonaws.com/eniConfig": "annotated" } }, "annotated"],
  [
    {
      labels: { ...zone, "vpc.amazonaws.com/externalEniConfig": "external" },
      annotations: { "k8s.amazonaws.com/eniConfig": "annotated" },
    },
    "external",
  ],
];
for (const [node, name] of names) {
  test(`a node with ${JSON.stringify(node)} uses ENIConfig ${name}`, () =>
    assert.equal(eniConfigNameOf(node, settings).name, name));
}

test("findEniConfig() gives subnet and groups, or one sentence", () => {
  const find = (spec: unknown) => findEniConfig({ labels: zone }, settings, () => ({ spec }));
  assert.deepEqual(find({ subnet: "subnet-1", securityGroups: ["sg-1"] }), {
    ok: true,
    config: { name: "us-west-2b", subnetId: "subnet-1", securityGroups: ["sg-1"] },
  });
  assert.deepEqual(find({ subnet: "subnet-1" }), {
    ok: true,
    config: { name: "us-west-2b", subnetId: "subnet-1", securityGroups: [] },
  });
  assert.deepEqual(find({ securityGroups: ["sg-1"] }), {
    ok: false,
    why: 'ENIConfig "us-west-2b" names no subnet (spec.subnet)',
  });
  assert.deepEqual(
    findEniConfig({}, settings, () => undefined),
    { ok: false, why: 'ENIConfig "default" does not exist (neither an annotation nor a label names one)' },
  );
  assert.deepEqual(
    findEniConfig(undefined, settings, () => undefined),
    { ok: false, why: "the Node object is not known yet, so nothing says which ENIConfig is its own" },
  );
});
