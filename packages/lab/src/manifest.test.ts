import assert from "node:assert/strict";
import { test } from "node:test";
import { pathOfManifest, readManifest } from "./manifest.ts";

test("readManifest() fills placeholders and reads every document", () => {
  const objects = readManifest("kind: A\nmetadata: {name: x}\n---\nkind: B\nmetadata: {name: '${REGION}'}\n---\n", {
    REGION: "eu-west-1",
  });
  assert.deepEqual(
    objects.map((object) => [object.kind, object.metadata.name]),
    [
      ["A", "x"],
      ["B", "eu-west-1"],
    ],
  );
});

test("readManifest() refuses a placeholder nobody fills", () => {
  assert.throws(() => readManifest("a: ${NOBODY}", {}), /nothing is known for \$\{NOBODY\}/);
});

test("pathOfManifest() knows cluster-scoped kinds and groups", () => {
  const of = (apiVersion: string, kind: string, namespace?: string) =>
    pathOfManifest({ apiVersion, kind, metadata: { name: "n", ...(namespace ? { namespace } : {}) } });
  assert.equal(of("v1", "ServiceAccount", "kube-system"), "/api/v1/namespaces/kube-system/serviceaccounts/n");
  assert.equal(of("rbac.authorization.k8s.io/v1", "ClusterRole"), "/apis/rbac.authorization.k8s.io/v1/clusterroles/n");
  assert.equal(of("apps/v1", "DaemonSet", "kube-system"), "/apis/apps/v1/namespaces/kube-system/daemonsets/n");
});
