/** Typed descriptors of resources: which path an object kind lives at, and what TypeScript type it has. */
import type * as o from "./objects.ts";

export type Resource<T extends o.KubeObject = o.KubeObject> = {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Carries the object type; never present at run time. */
  readonly _type?: T;
};

/** A resource of any group, e.g. a custom one. */
export function resource<T extends o.KubeObject>(shape: Omit<Resource, "_type">): Resource<T> {
  return shape as Resource<T>;
}

/** "v1" or "apps/v1". */
export function apiVersionOf(of: Resource): string {
  return of.group === "" ? of.version : `${of.group}/${of.version}`;
}

/** The request path of a collection, an object, or a subresource. */
export function pathOf(of: Resource, namespace?: string, name?: string, subresource?: string): string {
  let path = of.group === "" ? `/api/${of.version}` : `/apis/${of.group}/${of.version}`;
  if (of.namespaced && namespace) path += `/namespaces/${encodeURIComponent(namespace)}`;
  path += `/${of.plural}`;
  if (name !== undefined) path += `/${encodeURIComponent(name)}`;
  if (subresource) path += `/${subresource}`;
  return path;
}

function define<T extends o.KubeObject>(
  groupVersion: string,
  kind: string,
  plural: string,
  namespaced = true,
): Resource<T> {
  const slash = groupVersion.indexOf("/");
  const group = slash < 0 ? "" : groupVersion.slice(0, slash);
  return { group, version: groupVersion.slice(slash + 1), kind, plural, namespaced };
}

export const pods = define<o.Pod>("v1", "Pod", "pods");
export const nodes = define<o.Node>("v1", "Node", "nodes", false);
export const services = define<o.Service>("v1", "Service", "services");
export const endpoints = define<o.Endpoints>("v1", "Endpoints", "endpoints");
export const configMaps = define<o.ConfigMap>("v1", "ConfigMap", "configmaps");
export const secrets = define<o.Secret>("v1", "Secret", "secrets");
export const serviceAccounts = define<o.ServiceAccount>("v1", "ServiceAccount", "serviceaccounts");
export const namespaces = define<o.Namespace>("v1", "Namespace", "namespaces", false);
export const events = define<o.Event>("v1", "Event", "events");
export const persistentVolumeClaims = define<o.PersistentVolumeClaim>(
  "v1",
  "PersistentVolumeClaim",
  "persistentvolumeclaims",
);
export const endpointSlices = define<o.EndpointSlice>("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
export const leases = define<o.Lease>("coordination.k8s.io/v1", "Lease", "leases");
export const deployments = define<o.Deployment>("apps/v1", "Deployment", "deployments");
export const replicaSets = define<o.ReplicaSet>("apps/v1", "ReplicaSet", "replicasets");
export const statefulSets = define<o.StatefulSet>("apps/v1", "StatefulSet", "statefulsets");
export const daemonSets = define<o.DaemonSet>("apps/v1", "DaemonSet", "daemonsets");
export const controllerRevisions = define<o.ControllerRevision>("apps/v1", "ControllerRevision", "controllerrevisions");
export const jobs = define<o.Job>("batch/v1", "Job", "jobs");
export const cronJobs = define<o.CronJob>("batch/v1", "CronJob", "cronjobs");
export const podDisruptionBudgets = define<o.PodDisruptionBudget>(
  "policy/v1",
  "PodDisruptionBudget",
  "poddisruptionbudgets",
);
export const priorityClasses = define<o.PriorityClass>(
  "scheduling.k8s.io/v1",
  "PriorityClass",
  "priorityclasses",
  false,
);
export const certificateSigningRequests = define<o.CertificateSigningRequest>(
  "certificates.k8s.io/v1",
  "CertificateSigningRequest",
  "certificatesigningrequests",
  false,
);
export const customResourceDefinitions = define<o.CustomResourceDefinition>(
  "apiextensions.k8s.io/v1",
  "CustomResourceDefinition",
  "customresourcedefinitions",
  false,
);
export const networkPolicies = define<o.NetworkPolicy>("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies");
export const ingresses = define<o.Ingress>("networking.k8s.io/v1", "Ingress", "ingresses");
export const ingressClasses = define<o.IngressClass>("networking.k8s.io/v1", "IngressClass", "ingressclasses", false);
export const storageClasses = define<o.StorageClass>("storage.k8s.io/v1", "StorageClass", "storageclasses", false);
export const clusterRoles = define<o.ClusterRole>("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false);
export const clusterRoleBindings = define<o.ClusterRoleBinding>(
  "rbac.authorization.k8s.io/v1",
  "ClusterRoleBinding",
  "clusterrolebindings",
  false,
);
export const roles = define<o.Role>("rbac.authorization.k8s.io/v1", "Role", "roles");
export const roleBindings = define<o.RoleBinding>("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings");
