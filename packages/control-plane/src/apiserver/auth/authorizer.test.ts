import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApiObject } from "../api-object.ts";
import type { ObjectReader, RequestAttributes, UserInfo } from "../seams.ts";
import type { AccessEntries, AccessPolicy } from "./access-entries.ts";
import { canonicalArn } from "./access-entries.ts";
import { createAuthorizer } from "./authorizer.ts";
import { NodeGraph, referencesOf } from "./node-rules.ts";
import { Rbac } from "./rbac.ts";

const group = "rbac.authorization.k8s.io";
const role = (kind: string, name: string, rules: object[], more: object = {}, namespace?: string): ApiObject =>
  ({
    apiVersion: `${group}/v1`,
    kind,
    metadata: { name, ...(namespace ? { namespace } : {}) },
    rules,
    ...more,
  }) as unknown as ApiObject;
const binding = (kind: string, to: [string, string], subjects: object[], namespace?: string): ApiObject =>
  role(kind, `b-${to[1]}`, [], { roleRef: { kind: to[0], name: to[1] }, subjects }, namespace);

const stored: Record<string, ApiObject[]> = {
  [`${group}/clusterroles`]: [
    {
      ...role("ClusterRole", "view", []),
      aggregationRule: { clusterRoleSelectors: [{ matchLabels: { "to-view": "true" } }] },
    },
    {
      ...role("ClusterRole", "part", [{ verbs: ["get"], apiGroups: [""], resources: ["pods", "pods/log"] }]),
      metadata: { name: "part", labels: { "to-view": "true" } },
    },
    role("ClusterRole", "scaler", [{ verbs: ["update"], apiGroups: ["apps"], resources: ["*/scale"] }]),
    role("ClusterRole", "metrics", [{ verbs: ["get"], nonResourceURLs: ["/metrics/*"] }]),
  ],
  [`${group}/roles`]: [
    role(
      "Role",
      "one-secret",
      [{ verbs: ["get"], apiGroups: [""], resources: ["secrets"], resourceNames: ["db"] }],
      {},
      "shop",
    ),
  ],
  [`${group}/clusterrolebindings`]: [
    binding("ClusterRoleBinding", ["ClusterRole", "scaler"], [{ kind: "Group", name: "ops" }]),
    binding("ClusterRoleBinding", ["ClusterRole", "metrics"], [{ kind: "User", name: "prom" }]),
  ],
  [`${group}/rolebindings`]: [
    binding(
      "RoleBinding",
      ["ClusterRole", "view"],
      [{ kind: "ServiceAccount", name: "web", namespace: "shop" }],
      "shop",
    ),
    binding("RoleBinding", ["Role", "one-secret"], [{ kind: "User", name: "ann" }], "shop"),
  ],
  "/pods": [
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "shop" },
      spec: {
        nodeName: "n1",
        serviceAccountName: "web",
        volumes: [{ name: "c", configMap: { name: "settings" } }],
        containers: [],
      },
    },
  ],
};
const objects: ObjectReader = {
  get: (storage, namespace, name) =>
    stored[storage]?.find((o) => o.metadata.name === name && (o.metadata.namespace ?? "") === namespace),
  list: (storage) => stored[storage] ?? [],
  subscribe: () => () => {},
  revision: () => 1,
};
const policies: Record<string, AccessPolicy[]> = {
  viewer: [{ name: "AmazonEKSViewPolicy", namespaces: ["team-*"] }],
  root: [{ name: "AmazonEKSClusterAdminPolicy", namespaces: [] }],
};
const authorize = createAuthorizer({
  rbac: new Rbac(objects),
  nodes: new NodeGraph(objects),
  entries: { policiesOf: (name: string) => policies[name] ?? [] } as unknown as AccessEntries,
});

/** `verb group/resource/subresource namespace name`, or `verb /path`. */
function attributes(text: string): RequestAttributes {
  const [verb = "", what = "", namespace = "", name = ""] = text.split(" ");
  const empty = { verb, resource: "", group: "", version: "v1", subresource: "", namespace: "", name: "", path: "" };
  if (what.startsWith("/")) return { ...empty, path: what };
  const [apiGroup = "", resource = "", subresource = ""] = what.split(",");
  return { ...empty, group: apiGroup, resource, subresource, namespace: namespace === "-" ? "" : namespace, name };
}

const user = (username: string, ...groups: string[]): UserInfo => ({
  username,
  groups: [...groups, "system:authenticated"],
});
const node = user("system:node:n1", "system:nodes");
const anonymous: UserInfo = { username: "system:anonymous", groups: ["system:unauthenticated"] };

const cases: [UserInfo, string, boolean][] = [
  [user("x", "system:masters"), "delete ,nodes - n1", true],
  [user("system:serviceaccount:shop:web"), "get ,pods,log shop p", true],
  [user("system:serviceaccount:shop:web"), "get ,pods other p", false],
  [user("system:serviceaccount:shop:web"), "delete ,pods shop p", false],
  [user("bob", "ops"), "update apps,deployments,scale shop web", true],
  [user("bob", "ops"), "update apps,deployments shop web", false],
  [user("ann"), "get ,secrets shop db", true],
  [user("ann"), "get ,secrets shop other", false],
  [user("ann"), "list ,secrets shop", false],
  [user("prom"), "get /metrics/cadvisor", true],
  [user("prom"), "get /logs", false],
  [user("viewer"), "get ,pods team-a p", true],
  [user("viewer"), "get ,pods shop p", false],
  [user("root"), "delete ,namespaces - shop", true],
  [user("nobody"), "get /apis/apps/v1", true],
  [anonymous, "get /apis/apps/v1", false],
  [anonymous, "get /version", true],
  [anonymous, "get /healthz", true],
  [anonymous, "post /version", false],
  [node, "get ,configmaps shop settings", true],
  [node, "get ,configmaps shop other", false],
  [node, "create ,serviceaccounts,token shop web", true],
  [node, "create ,serviceaccounts,token shop admin", false],
  [node, "patch ,nodes,status - n1", true],
  [node, "patch ,nodes,status - n2", false],
  [node, "patch ,pods,status shop p", true],
  [user("system:node:n2", "system:nodes"), "patch ,pods,status shop p", false],
  [node, "update coordination.k8s.io,leases kube-node-lease n1", true],
  [node, "update coordination.k8s.io,leases kube-node-lease n2", false],
  [user("system:node:n1"), "get ,configmaps shop settings", false],
];

for (const [who, what, allowed] of cases) {
  test(`${who.username} ${allowed ? "may" : "may not"} ${what}`, async () => {
    assert.equal((await authorize(who, attributes(what))).allowed, allowed);
  });
}

test("referencesOf finds what a kubelet must read for a pod", () => {
  const refs = referencesOf({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "n" },
    spec: {
      serviceAccountName: "sa",
      imagePullSecrets: [{ name: "pull" }],
      initContainers: [{ env: [{ name: "A", valueFrom: { secretKeyRef: { name: "s1", key: "k" } } }] }],
      containers: [{ envFrom: [{ configMapRef: { name: "c1" } }] }],
      volumes: [
        { name: "a", secret: { secretName: "s2" } },
        { name: "b", persistentVolumeClaim: { claimName: "pvc" } },
        { name: "c", projected: { sources: [{ configMap: { name: "c2" } }, { secret: { name: "s3" } }] } },
      ],
    },
  });
  assert.deepEqual([...refs].sort(), [
    "configmaps/n/c1",
    "configmaps/n/c2",
    "persistentvolumeclaims/n/pvc",
    "secrets/n/pull",
    "secrets/n/s1",
    "secrets/n/s2",
    "secrets/n/s3",
    "serviceaccounts/n/sa",
  ]);
});

test("canonicalArn makes a role of a session", () => {
  assert.equal(canonicalArn("arn:aws:sts::1:assumed-role/Admin/alice"), "arn:aws:iam::1:role/Admin");
  assert.equal(canonicalArn("arn:aws:iam::1:user/x"), "arn:aws:iam::1:user/x");
});
