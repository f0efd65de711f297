import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import { builtinResources, type ResourceInfo } from "../resource-info.ts";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";
import type { Stored } from "../stored.ts";
import { limitPod } from "./limit-ranger.ts";
import { checkNamespace } from "./namespace-lifecycle.ts";
import { checkNodeRestriction } from "./node-restriction.ts";
import { mutatePod } from "./pod-admission.ts";
import { rulesMatch, selectorsMatch } from "./webhook-match.ts";

const info = (storage: string): ResourceInfo => builtinResources.find((candidate) => candidate.storage === storage)!;
const object = (kind: string, name: string, more: object = {}, namespace?: string): ApiObject => ({
  apiVersion: "v1",
  kind,
  metadata: { name, ...(namespace ? { namespace } : {}) },
  ...more,
});
const stored: Record<string, ApiObject[]> = {
  "/namespaces": [
    object("Namespace", "shop", { metadata: { name: "shop", labels: { team: "a" } } }),
    object("Namespace", "going", { metadata: { name: "going", deletionTimestamp: "2026-01-01T00:00:00Z" } }),
  ],
  "/serviceaccounts": [
    object("ServiceAccount", "default", { imagePullSecrets: [{ name: "pull" }] }, "shop"),
    object("ServiceAccount", "quiet", { automountServiceAccountToken: false }, "shop"),
  ],
  "scheduling.k8s.io/priorityclasses": [object("PriorityClass", "high", { value: 1000, preemptionPolicy: "Never" })],
  "/limitranges": [
    object(
      "LimitRange",
      "limits",
      {
        spec: {
          limits: [{ type: "Container", default: { cpu: "500m" }, defaultRequest: { cpu: "100m" }, max: { cpu: "1" } }],
        },
      },
      "shop",
    ),
  ],
};
const objects: ObjectReader = {
  get: (storage, namespace, name) =>
    stored[storage]?.find((o) => o.metadata.name === name && (o.metadata.namespace ?? "") === namespace),
  list: (storage) => structuredClone(stored[storage] ?? []),
  subscribe: () => () => {},
  revision: () => 1,
};
const request = (storage: string, more: Partial<AdmissionRequest> = {}): AdmissionRequest => ({
  operation: "CREATE",
  info: info(storage),
  subresource: "",
  namespace: "shop",
  name: "x",
  user: { username: "u", groups: [] },
  options: {},
  dryRun: false,
  warn: () => {},
  ...more,
});
const refusal = (run: () => void): string => {
  try {
    run();
    return "allowed";
  } catch (error) {
    assert.ok(error instanceof ApiError);
    return `${error.status.code} ${error.message}`;
  }
};
const pod = (spec: Stored): ApiObject =>
  object("Pod", "x", { spec: { containers: [{ name: "c", image: "i" }], ...spec } }, "shop");

test("namespace lifecycle refuses missing, terminating and immortal namespaces", () => {
  assert.equal(
    refusal(() => checkNamespace(request("/pods"), objects)),
    "allowed",
  );
  assert.equal(
    refusal(() => checkNamespace(request("/pods", { namespace: "none" }), objects)),
    '404 namespaces "none" not found',
  );
  assert.equal(
    refusal(() => checkNamespace(request("/configmaps", { namespace: "going" }), objects)),
    '403 configmaps "x" is forbidden: unable to create new content in namespace going because it is being terminated',
  );
  assert.equal(
    refusal(() => checkNamespace(request("/namespaces", { operation: "DELETE", name: "kube-system" }), objects)),
    '403 namespaces "kube-system" is forbidden: this namespace may not be deleted',
  );
});

test("a pod gets account, token, priority and tolerations once, however often admission runs", () => {
  const made = pod({
    priorityClassName: "high",
    tolerations: [
      { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute", tolerationSeconds: 5 },
    ],
  });
  mutatePod(request("/pods"), made, objects);
  const once = structuredClone(made);
  mutatePod(request("/pods"), made, objects);
  assert.deepEqual(made, once);
  const spec = made["spec"];
  assert.deepEqual(
    [spec.serviceAccountName, spec.imagePullSecrets, spec.priority, spec.preemptionPolicy],
    ["default", [{ name: "pull" }], 1000, "Never"],
  );
  assert.equal(spec.volumes.length, 1);
  assert.deepEqual(
    spec.tolerations.map((t: Stored) => [t.key, t.tolerationSeconds]),
    [
      ["node.kubernetes.io/not-ready", 5],
      ["node.kubernetes.io/unreachable", 300],
    ],
  );
});

test("automount can be declined by the account, and asked for again by the pod", () => {
  const quiet = pod({ serviceAccountName: "quiet" });
  mutatePod(request("/pods"), quiet, objects);
  assert.equal(quiet["spec"].volumes, undefined);
  const loud = pod({ serviceAccountName: "quiet", automountServiceAccountToken: true });
  mutatePod(request("/pods"), loud, objects);
  assert.equal(loud["spec"].volumes.length, 1);
});

test("a pod without its account or priority class is refused", () => {
  assert.match(
    refusal(() => mutatePod(request("/pods"), pod({ serviceAccountName: "none" }), objects)),
    /403 .*error looking up service account shop\/none: serviceaccount "none" not found/,
  );
  assert.match(
    refusal(() => mutatePod(request("/pods"), pod({ priorityClassName: "none" }), objects)),
    /403 .*no PriorityClass with name none was found/,
  );
});

test("limit ranges default and bound containers", () => {
  const made = pod({});
  limitPod(request("/pods"), made, objects);
  assert.deepEqual(made["spec"].containers[0].resources, { limits: { cpu: "500m" }, requests: { cpu: "100m" } });
  const own = pod({ containers: [{ name: "c", resources: { limits: { cpu: "2" } } }] });
  assert.equal(
    refusal(() => limitPod(request("/pods"), own, objects)),
    '403 pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2',
  );
});

test("a kubelet writes its own node and pods only", () => {
  const user = { username: "system:node:n1", groups: ["system:nodes"] };
  assert.equal(
    refusal(() => checkNodeRestriction(request("/nodes", { user, operation: "UPDATE", name: "n1" }), objects)),
    "allowed",
  );
  assert.match(
    refusal(() => checkNodeRestriction(request("/nodes", { user, operation: "UPDATE", name: "n2" }), objects)),
    /node "n1" is not allowed to modify node "n2"/,
  );
  assert.match(
    refusal(() => checkNodeRestriction(request("/pods", { user, object: pod({}) }), objects)),
    /can only create mirror pods/,
  );
});

test("webhook rules and selectors pick requests", () => {
  const rule = (more: object) => ({
    rules: [{ apiGroups: [""], apiVersions: ["*"], operations: ["CREATE"], resources: ["pods"], ...more }],
  });
  const cases: [object, Partial<AdmissionRequest>, boolean][] = [
    [rule({}), {}, true],
    [rule({ operations: ["*"] }), { operation: "DELETE" }, true],
    [rule({}), { operation: "UPDATE" }, false],
    [rule({}), { subresource: "exec" }, false],
    [rule({ resources: ["pods/*"] }), { subresource: "exec" }, true],
    [rule({ resources: ["*"] }), { subresource: "status" }, false],
    [rule({ resources: ["*/*"] }), { subresource: "status" }, true],
    [rule({ scope: "Cluster" }), {}, false],
    [rule({ apiGroups: ["apps"] }), {}, false],
  ];
  for (const [webhook, more, expected] of cases)
    assert.equal(rulesMatch(webhook, request("/pods", more)), expected, JSON.stringify([webhook, more]));
  const asked = request("/pods", { object: pod({}) });
  assert.equal(selectorsMatch({ namespaceSelector: { matchLabels: { team: "a" } } }, asked, objects), true);
  assert.equal(
    selectorsMatch(
      { namespaceSelector: { matchExpressions: [{ key: "team", operator: "NotIn", values: ["a"] }] } },
      asked,
      objects,
    ),
    false,
  );
  assert.equal(selectorsMatch({ objectSelector: { matchLabels: { x: "y" } } }, asked, objects), false);
});
