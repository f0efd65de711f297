/**
 * The RBAC objects of a fresh cluster: user-facing roles (aggregated), discovery, and roles of the control plane's own
 * components. Rules are written `verbs: group/resources`, one line each.
 */

import type { JsonObject, ObjectMeta } from "../api-object.ts";

type Rule = {
  apiGroups?: string[];
  resources?: string[];
  nonResourceURLs?: string[];
  verbs: string[];
  resourceNames?: string[];
};
type Role = JsonObject & { metadata: Pick<ObjectMeta, "name" | "namespace" | "labels" | "annotations"> };

const bootstrapping = { "kubernetes.io/bootstrapping": "rbac-defaults" };
const group = "rbac.authorization.k8s.io";
const keep = { "rbac.authorization.kubernetes.io/autoupdate": "true" };

const on = (groups: string, resources: string, verbs: string): Rule => ({
  apiGroups: groups.split(",").map((name) => (name === "core" ? "" : name)),
  resources: resources.split(","),
  verbs: verbs.split(","),
});
const paths = (urls: string, verbs = "get"): Rule => ({ nonResourceURLs: urls.split(","), verbs: verbs.split(",") });
const role = (name: string, rules: Rule[], labels: Record<string, string> = {}): Role => ({
  metadata: { name, annotations: keep, labels: { ...bootstrapping, ...labels } },
  rules,
});
const aggregated = (name: string, selector: string, labels: Record<string, string> = {}): Role => ({
  ...role(name, [], labels),
  aggregationRule: {
    clusterRoleSelectors: [{ matchLabels: { [`rbac.authorization.k8s.io/aggregate-to-${selector}`]: "true" } }],
  },
});
const aggregate = (to: string): Record<string, string> => ({
  [`rbac.authorization.k8s.io/aggregate-to-${to}`]: "true",
});

const read = "get,list,watch";
const write = "create,delete,deletecollection,patch,update";
const workloads =
  "daemonsets,deployments,deployments/scale,replicasets,replicasets/scale,statefulsets,statefulsets/scale";
const events: Rule = on("core,events.k8s.io", "events", "create,patch,update");

const clusterRoles: Role[] = [
  role("cluster-admin", [on("*", "*", "*"), paths("*", "*")]),
  aggregated("admin", "admin"),
  aggregated("edit", "edit", aggregate("admin")),
  aggregated("view", "view", aggregate("edit")),
  role(
    "system:aggregate-to-admin",
    [
      on("authorization.k8s.io", "localsubjectaccessreviews", "create"),
      on(group, "roles,rolebindings", `${read},${write}`),
    ],
    aggregate("admin"),
  ),
  role(
    "system:aggregate-to-edit",
    [
      on("core", "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy", read),
      on("core", "serviceaccounts", "impersonate"),
      on("core", "pods,pods/attach,pods/exec,pods/portforward,pods/proxy", write),
      on("core", "pods/eviction", "create"),
      on(
        "core",
        "configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,services/proxy",
        write,
      ),
      on("core", "serviceaccounts/token", "create"),
      on("apps", `${workloads},deployments/rollback`, write),
      on("autoscaling", "horizontalpodautoscalers", write),
      on("batch", "cronjobs,jobs", write),
      on("networking.k8s.io", "ingresses,networkpolicies", write),
      on("policy", "poddisruptionbudgets", write),
      on("coordination.k8s.io", "leases", `${read},${write}`),
    ],
    aggregate("edit"),
  ),
  role(
    "system:aggregate-to-view",
    [
      on(
        "core",
        "bindings,configmaps,endpoints,events,limitranges,namespaces,namespaces/status,persistentvolumeclaims,persistentvolumeclaims/status,pods,pods/log,pods/status,replicationcontrollers,replicationcontrollers/scale,replicationcontrollers/status,resourcequotas,resourcequotas/status,serviceaccounts,services,services/status",
        read,
      ),
      on("discovery.k8s.io", "endpointslices", read),
      on(
        "apps",
        `${workloads},controllerrevisions,daemonsets/status,deployments/status,replicasets/status,statefulsets/status`,
        read,
      ),
      on("autoscaling", "horizontalpodautoscalers,horizontalpodautoscalers/status", read),
      on("batch", "cronjobs,cronjobs/status,jobs,jobs/status", read),
      on("networking.k8s.io", "ingresses,ingresses/status,networkpolicies", read),
      on("policy", "poddisruptionbudgets,poddisruptionbudgets/status", read),
    ],
    aggregate("view"),
  ),
  role("system:discovery", [
    paths("/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/"),
  ]),
  role("system:public-info-viewer", [paths("/healthz,/livez,/readyz,/version,/version/")]),
  role("system:service-account-issuer-discovery", [
    paths("/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/"),
  ]),
  role("system:basic-user", [
    on("authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews", "create"),
    on("authentication.k8s.io", "selfsubjectreviews", "create"),
  ]),
  role("system:auth-delegator", [
    on("authentication.k8s.io", "tokenreviews", "create"),
    on("authorization.k8s.io", "subjectaccessreviews", "create"),
  ]),
  role("system:node-proxier", [
    on("core", "endpoints,services", "list,watch"),
    on("core", "nodes", "get,list,watch"),
    events,
    on("discovery.k8s.io", "endpointslices", "list,watch"),
    on("networking.k8s.io", "servicecidrs", "list,watch"),
  ]),
  role("system:kube-dns", [on("core", "endpoints,services", "list,watch")]),
  role("system:coredns", [
    on("core", "endpoints,services,pods,namespaces", "list,watch"),
    on("core", "nodes", "get"),
    on("discovery.k8s.io", "endpointslices", "list,watch"),
  ]),
  role("system:kube-scheduler", [
    events,
    on("coordination.k8s.io", "leases", "create,get,list,update,watch,patch"),
    on("core", "nodes", read),
    on("core", "pods", "delete,get,list,watch"),
    on("core", "bindings,pods/binding", "create"),
    on("core", "pods/status", "patch,update"),
    on("core", "replicationcontrollers,services,namespaces", read),
    on("apps", "replicasets,statefulsets", read),
    on("policy", "poddisruptionbudgets", read),
    on("core", "persistentvolumeclaims,persistentvolumes", `${read},patch,update`),
    on("storage.k8s.io", "csinodes,csidrivers,csistoragecapacities,storageclasses,volumeattachments", read),
    on("authentication.k8s.io", "tokenreviews", "create"),
    on("authorization.k8s.io", "subjectaccessreviews", "create"),
  ]),
  // Upstream splits this one role a controller; here the controllers share one client, and the garbage collector and namespace controller need everything anyway.
  role("system:kube-controller-manager", [on("*", "*", "*"), paths("*", "get")]),
  role("system:node-bootstrapper", [on("certificates.k8s.io", "certificatesigningrequests", "create,get,list,watch")]),
  role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", [
    on("certificates.k8s.io", "certificatesigningrequests/nodeclient", "create"),
  ]),
  role("system:kubelet-api-admin", [
    on("core", "nodes", read),
    on("core", "nodes/log,nodes/metrics,nodes/proxy,nodes/stats", "*"),
  ]),
  // EKS gives nodes this role through access entries; the node authorizer covers the rest.
  role("system:node", []),
  role("eks:node-bootstrapper", [on("certificates.k8s.io", "certificatesigningrequests/selfnodeserver", "create")]),
];

const subject = (kind: "Group" | "User", name: string) => ({ kind, name, apiGroup: group });
const account = (namespace: string, name: string) => ({ kind: "ServiceAccount", name, namespace });
const bind = (name: string, to: string, subjects: object[]): Role => ({
  metadata: { name, annotations: keep, labels: bootstrapping },
  roleRef: { apiGroup: group, kind: "ClusterRole", name: to },
  subjects,
});

const clusterRoleBindings: Role[] = [
  bind("cluster-admin", "cluster-admin", [subject("Group", "system:masters")]),
  bind("system:discovery", "system:discovery", [subject("Group", "system:authenticated")]),
  bind("system:basic-user", "system:basic-user", [subject("Group", "system:authenticated")]),
  bind("system:public-info-viewer", "system:public-info-viewer", [
    subject("Group", "system:authenticated"),
    subject("Group", "system:unauthenticated"),
  ]),
  bind("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", [
    subject("Group", "system:serviceaccounts"),
  ]),
  bind("system:kube-scheduler", "system:kube-scheduler", [subject("User", "system:kube-scheduler")]),
  bind("system:kube-controller-manager", "system:kube-controller-manager", [
    subject("User", "system:kube-controller-manager"),
  ]),
  bind("system:node-proxier", "system:node-proxier", [
    subject("User", "system:kube-proxy"),
    account("kube-system", "kube-proxy"),
  ]),
  bind("system:coredns", "system:coredns", [account("kube-system", "coredns")]),
  bind("eks:kube-proxy-windows", "system:node-proxier", [subject("Group", "eks:kube-proxy-windows")]),
  bind("eks:node-bootstrapper", "eks:node-bootstrapper", [
    subject("Group", "system:bootstrappers"),
    subject("Group", "system:nodes"),
  ]),
];

const configReader: Role = {
  metadata: {
    name: "extension-apiserver-authentication-reader",
    namespace: "kube-system",
    annotations: keep,
    labels: bootstrapping,
  },
  rules: [
    {
      apiGroups: [""],
      resources: ["configmaps"],
      resourceNames: ["extension-apiserver-authentication"],
      verbs: ["get", "list", "watch"],
    },
  ],
};
const configReaderBinding: Role = {
  metadata: {
    name: "system::extension-apiserver-authentication-reader",
    namespace: "kube-system",
    annotations: keep,
    labels: bootstrapping,
  },
  roleRef: { apiGroup: group, kind: "Role", name: "extension-apiserver-authentication-reader" },
  subjects: [subject("User", "system:kube-controller-manager"), subject("User", "system:kube-scheduler")],
};

/** By storage, in the order they are made. */
export const bootstrapRbac: Readonly<Record<string, readonly Role[]>> = {
  [`${group}/clusterroles`]: clusterRoles,
  [`${group}/clusterrolebindings`]: clusterRoleBindings,
  [`${group}/roles`]: [configReader],
  [`${group}/rolebindings`]: [configReaderBinding],
};
