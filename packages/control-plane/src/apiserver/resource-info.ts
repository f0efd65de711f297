/**
 * What the API server serves: one `ResourceInfo` per group-version and plural. The built-in ones are the static list
 * here; custom resources add theirs at run time (`custom` is set). Behaviour of a kind is not here: see registry/.
 */
import type { FieldError } from "./api-error.ts";
import type { ApiObject, JsonObject } from "./api-object.ts";

export type Verb = "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection";

export type SubresourceInfo = {
  /** `status`, `scale`, `log`… */
  readonly name: string;
  /** Kind the subresource answers and takes, with its own group-version when it differs (Scale, Eviction, TokenRequest). */
  readonly kind: string;
  readonly group?: string;
  readonly version?: string;
  readonly verbs: readonly string[];
};

export type ResourceInfo = {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly listKind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly verbs: readonly Verb[];
  readonly subresources: readonly SubresourceInfo[];
  /** Name of the type in generated/kubernetes-schemas.json; absent for custom resources. */
  readonly schema?: string;
  /** Where objects live: `<group>/<plural>`. events.k8s.io events live with core events. */
  readonly storage: string;
  /** Answered by a function, never stored (reviews, bindings). */
  readonly virtual?: true;
  readonly custom?: CustomKind;
};

/** What the CRD engine (crd/) knows about one served version of a custom kind. */
export type CustomKind = {
  readonly crd: string;
  /** The version's openAPIV3Schema (JSON), for server-side apply's list types and OpenAPI. */
  readonly openAPIV3Schema: JsonObject | undefined;
  readonly hasStatus: boolean;
  readonly scale?: {
    readonly specReplicasPath: string;
    readonly statusReplicasPath: string;
    readonly labelSelectorPath?: string;
  };
  readonly printerColumns: readonly {
    name: string;
    type: string;
    format?: string;
    description?: string;
    priority?: number;
    jsonPath: string;
  }[];
  /** JSON paths (`.spec.color`) usable in field selectors. */
  readonly selectableFields: readonly string[];
  /** Removes what the schema does not know; returns their paths (`spec.bogus`). Changes the object in place. */
  prune(object: ApiObject): string[];
  /** Applies schema defaults in place (on write and on read). */
  default(object: ApiObject): void;
  /** Schema, list-map keys, CEL (transition rules when `old` is given). */
  validate(object: ApiObject, old: ApiObject | undefined): FieldError[];
};

/** `apps/v1`, `v1`. */
export const groupVersion = (info: { group: string; version: string }): string =>
  info.group === "" ? info.version : `${info.group}/${info.version}`;

const every: readonly Verb[] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const statusOf = (kind: string): SubresourceInfo => ({ name: "status", kind, verbs: ["get", "patch", "update"] });
const scale: SubresourceInfo = {
  name: "scale",
  kind: "Scale",
  group: "autoscaling",
  version: "v1",
  verbs: ["get", "patch", "update"],
};
const connect = (name: string, kind: string, verbs: readonly string[] = ["create", "get"]): SubresourceInfo => ({
  name,
  kind,
  verbs,
});
const proxyVerbs = ["create", "delete", "get", "patch", "update"];

const packages: Record<string, string> = {
  "": "core",
  "rbac.authorization.k8s.io": "rbac",
  "authentication.k8s.io": "authentication",
  "authorization.k8s.io": "authorization",
};
function schemaName(group: string, version: string, kind: string): string {
  if (group === "apiextensions.k8s.io")
    return `io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.${version}.${kind}`;
  if (group === "apiregistration.k8s.io") return `io.k8s.kube-aggregator.pkg.apis.apiregistration.${version}.${kind}`;
  return `io.k8s.api.${packages[group] ?? group.split(".")[0]}.${version}.${kind}`;
}

type Options = {
  cluster?: true;
  short?: readonly string[];
  categories?: readonly string[];
  status?: true;
  scale?: true;
  sub?: readonly SubresourceInfo[];
  verbs?: readonly Verb[];
  storage?: string;
  virtual?: true;
};
function builtin(group: string, version: string, kind: string, plural: string, o: Options = {}): ResourceInfo {
  return {
    group,
    version,
    kind,
    plural,
    singular: kind.toLowerCase(),
    listKind: `${kind}List`,
    namespaced: o.cluster !== true,
    shortNames: o.short ?? [],
    categories: o.categories ?? [],
    verbs: o.verbs ?? (o.virtual ? ["create"] : every),
    subresources: [...(o.status ? [statusOf(kind)] : []), ...(o.scale ? [scale] : []), ...(o.sub ?? [])],
    schema: schemaName(group, version, kind),
    storage: o.storage ?? `${group}/${plural}`,
    ...(o.virtual ? { virtual: true } : {}),
  };
}

const all = ["all"];

/** The built-in resources, in discovery order. */
export const builtinResources: readonly ResourceInfo[] = [
  builtin("", "v1", "Binding", "bindings", { virtual: true }),
  builtin("", "v1", "ConfigMap", "configmaps", { short: ["cm"] }),
  builtin("", "v1", "Endpoints", "endpoints", { short: ["ep"] }),
  builtin("", "v1", "Event", "events", { short: ["ev"] }),
  builtin("", "v1", "LimitRange", "limitranges", { short: ["limits"] }),
  builtin("", "v1", "Namespace", "namespaces", {
    cluster: true,
    short: ["ns"],
    status: true,
    verbs: ["create", "delete", "get", "list", "patch", "update", "watch"],
    sub: [{ name: "finalize", kind: "Namespace", verbs: ["update"] }],
  }),
  builtin("", "v1", "Node", "nodes", {
    cluster: true,
    short: ["no"],
    status: true,
    sub: [connect("proxy", "NodeProxyOptions", proxyVerbs)],
  }),
  builtin("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", { short: ["pvc"], status: true }),
  builtin("", "v1", "PersistentVolume", "persistentvolumes", { cluster: true, short: ["pv"], status: true }),
  builtin("", "v1", "Pod", "pods", {
    short: ["po"],
    categories: all,
    status: true,
    sub: [
      connect("attach", "PodAttachOptions"),
      { name: "binding", kind: "Binding", verbs: ["create"] },
      { name: "ephemeralcontainers", kind: "Pod", verbs: ["get", "patch", "update"] },
      { name: "eviction", kind: "Eviction", group: "policy", version: "v1", verbs: ["create"] },
      connect("exec", "PodExecOptions"),
      { name: "log", kind: "Pod", verbs: ["get"] },
      connect("portforward", "PodPortForwardOptions"),
      connect("proxy", "PodProxyOptions", proxyVerbs),
      { name: "resize", kind: "Pod", verbs: ["get", "patch", "update"] },
    ],
  }),
  builtin("", "v1", "PodTemplate", "podtemplates"),
  builtin("", "v1", "ReplicationController", "replicationcontrollers", {
    short: ["rc"],
    categories: all,
    status: true,
    scale: true,
  }),
  builtin("", "v1", "ResourceQuota", "resourcequotas", { short: ["quota"], status: true }),
  builtin("", "v1", "Secret", "secrets"),
  builtin("", "v1", "ServiceAccount", "serviceaccounts", {
    short: ["sa"],
    sub: [{ name: "token", kind: "TokenRequest", group: "authentication.k8s.io", version: "v1", verbs: ["create"] }],
  }),
  builtin("", "v1", "Service", "services", {
    short: ["svc"],
    categories: all,
    status: true,
    sub: [connect("proxy", "ServiceProxyOptions", proxyVerbs)],
  }),

  builtin("apiregistration.k8s.io", "v1", "APIService", "apiservices", {
    cluster: true,
    categories: ["api-extensions"],
    status: true,
  }),

  builtin("apps", "v1", "ControllerRevision", "controllerrevisions"),
  builtin("apps", "v1", "DaemonSet", "daemonsets", { short: ["ds"], categories: all, status: true }),
  builtin("apps", "v1", "Deployment", "deployments", { short: ["deploy"], categories: all, status: true, scale: true }),
  builtin("apps", "v1", "ReplicaSet", "replicasets", { short: ["rs"], categories: all, status: true, scale: true }),
  builtin("apps", "v1", "StatefulSet", "statefulsets", { short: ["sts"], categories: all, status: true, scale: true }),

  builtin("events.k8s.io", "v1", "Event", "events", { short: ["ev"], storage: "/events" }),

  builtin("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", { cluster: true, virtual: true }),
  builtin("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", { cluster: true, virtual: true }),

  builtin("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", { virtual: true }),
  builtin("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", {
    cluster: true,
    virtual: true,
  }),
  builtin("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", {
    cluster: true,
    virtual: true,
  }),
  builtin("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", {
    cluster: true,
    virtual: true,
  }),

  builtin("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", {
    short: ["hpa"],
    categories: all,
    status: true,
  }),

  builtin("batch", "v1", "CronJob", "cronjobs", { short: ["cj"], categories: all, status: true }),
  builtin("batch", "v1", "Job", "jobs", { categories: all, status: true }),

  builtin("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", {
    cluster: true,
    short: ["csr"],
    status: true,
    sub: [{ name: "approval", kind: "CertificateSigningRequest", verbs: ["get", "patch", "update"] }],
  }),

  builtin("networking.k8s.io", "v1", "IngressClass", "ingressclasses", { cluster: true }),
  builtin("networking.k8s.io", "v1", "Ingress", "ingresses", { short: ["ing"], status: true }),
  builtin("networking.k8s.io", "v1", "IPAddress", "ipaddresses", { cluster: true, short: ["ip"] }),
  builtin("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", { short: ["netpol"] }),
  builtin("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", { cluster: true, status: true }),

  builtin("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", { short: ["pdb"], status: true }),

  builtin("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", { cluster: true }),
  builtin("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", { cluster: true }),
  builtin("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
  builtin("rbac.authorization.k8s.io", "v1", "Role", "roles"),

  builtin("storage.k8s.io", "v1", "CSIDriver", "csidrivers", { cluster: true }),
  builtin("storage.k8s.io", "v1", "CSINode", "csinodes", { cluster: true }),
  builtin("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities"),
  builtin("storage.k8s.io", "v1", "StorageClass", "storageclasses", { cluster: true, short: ["sc"] }),
  builtin("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", { cluster: true, status: true }),

  builtin("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", {
    cluster: true,
    categories: ["api-extensions"],
  }),
  builtin("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", {
    cluster: true,
    categories: ["api-extensions"],
  }),

  builtin("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", {
    cluster: true,
    short: ["crd", "crds"],
    categories: ["api-extensions"],
    status: true,
  }),

  builtin("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", { cluster: true, short: ["pc"] }),
  builtin("coordination.k8s.io", "v1", "Lease", "leases"),
  builtin("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", { cluster: true }),
  builtin("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
];
