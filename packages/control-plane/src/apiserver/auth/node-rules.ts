/**
 * What a node may do (upstream's Node authorizer): its own Node, leases and pods, and only those secrets, config maps,
 * volume claims and service-account tokens that a pod bound to it refers to.
 */
import type { ApiObject } from "../api-object.ts";
import type { Decision, ObjectReader, RequestAttributes, UserInfo } from "../seams.ts";

const read = ["get", "list", "watch"];
/** `group/resource[/subresource]` → verbs any node has, as upstream's ClusterRole system:node. */
const general: Readonly<Record<string, readonly string[]>> = {
  "authentication.k8s.io/tokenreviews": ["create"],
  "authorization.k8s.io/subjectaccessreviews": ["create"],
  "authorization.k8s.io/localsubjectaccessreviews": ["create"],
  "/services": read,
  "discovery.k8s.io/endpointslices": read,
  "/nodes": ["create", ...read],
  "/events": ["create", "patch", "update"],
  "events.k8s.io/events": ["create", "patch", "update"],
  "/pods": read,
  "/pods/eviction": ["create"],
  "/endpoints": ["get"],
  "/namespaces": read,
  "certificates.k8s.io/certificatesigningrequests": ["create", ...read],
  "storage.k8s.io/csidrivers": read,
  "storage.k8s.io/volumeattachments": ["get"],
  "node.k8s.io/runtimeclasses": read,
  "/persistentvolumes": ["get"],
};

type TrackedPod = { readonly node: string; readonly refs: ReadonlySet<string> };

/** Which objects the pods of each node refer to, kept up with every pod change. */
export class NodeGraph {
  readonly #objects: ObjectReader;
  /** `namespace/name` of a pod → its node and references. */
  #pods: Map<string, TrackedPod> | undefined;

  constructor(objects: ObjectReader) {
    this.#objects = objects;
  }

  /** Does a pod bound to `node` refer to `<plural>/<namespace>/<name>`. */
  refers(node: string, reference: string): boolean {
    for (const pod of this.#tracked().values()) if (pod.node === node && pod.refs.has(reference)) return true;
    return false;
  }

  /** Has `node` a pod in this namespace that reads objects of this plural. */
  refersToAny(node: string, prefix: string): boolean {
    for (const pod of this.#tracked().values()) {
      if (pod.node !== node) continue;
      for (const ref of pod.refs) if (ref.startsWith(prefix)) return true;
    }
    return false;
  }

  nodeOf(namespace: string, name: string): string | undefined {
    return this.#tracked().get(`${namespace}/${name}`)?.node;
  }

  #tracked(): Map<string, TrackedPod> {
    if (this.#pods) return this.#pods;
    const pods = new Map<string, TrackedPod>();
    this.#pods = pods;
    const set = (pod: ApiObject) =>
      pods.set(keyOf(pod), { node: pod["spec"]?.nodeName ?? "", refs: referencesOf(pod) });
    this.#objects.subscribe("/pods", ({ type, object }) => {
      if (type === "DELETED") pods.delete(keyOf(object));
      else set(object);
    });
    for (const pod of this.#objects.list("/pods")) set(pod);
    return pods;
  }
}

const keyOf = (pod: ApiObject): string => `${pod.metadata.namespace}/${pod.metadata.name}`;

/** Everything a kubelet must read to run a pod. Pure. */
export function referencesOf(pod: ApiObject): Set<string> {
  const namespace = pod.metadata.namespace ?? "";
  const spec = pod["spec"] ?? {};
  const refs = new Set<string>();
  const add = (plural: string, name: unknown) => {
    if (typeof name === "string" && name !== "") refs.add(`${plural}/${namespace}/${name}`);
  };
  add("serviceaccounts", spec.serviceAccountName);
  for (const secret of spec.imagePullSecrets ?? []) add("secrets", secret.name);
  for (const container of [
    ...(spec.containers ?? []),
    ...(spec.initContainers ?? []),
    ...(spec.ephemeralContainers ?? []),
  ]) {
    for (const { valueFrom } of container.env ?? []) {
      add("secrets", valueFrom?.secretKeyRef?.name);
      add("configmaps", valueFrom?.configMapKeyRef?.name);
    }
    for (const source of container.envFrom ?? []) {
      add("secrets", source.secretRef?.name);
      add("configmaps", source.configMapRef?.name);
    }
  }
  for (const volume of spec.volumes ?? []) {
    add("secrets", volume.secret?.secretName);
    add("configmaps", volume.configMap?.name);
    add("persistentvolumeclaims", volume.persistentVolumeClaim?.claimName);
    if (volume.ephemeral) add("persistentvolumeclaims", `${pod.metadata.name}-${volume.name}`);
    for (const source of volume.projected?.sources ?? []) {
      add("secrets", source.secret?.name);
      add("configmaps", source.configMap?.name);
    }
  }
  return refs;
}

/** The node a user is, if it is one. */
export function nodeNameOf(user: UserInfo): string | undefined {
  if (!user.groups.includes("system:nodes") || !user.username.startsWith("system:node:")) return undefined;
  return user.username.slice("system:node:".length);
}

/** May this node do that. */
export function authorizeNode(node: string, asked: RequestAttributes, graph: NodeGraph): Decision {
  const { verb, resource, subresource, namespace, name, group } = asked;
  if (resource === "") return { allowed: false };
  const key = `${group}/${resource}${subresource === "" ? "" : `/${subresource}`}`;
  if (general[key]?.includes(verb)) return { allowed: true };
  const own = (allowed: boolean, what: string): Decision =>
    allowed ? { allowed: true } : { allowed: false, reason: `node '${node}' may only ${what}` };
  switch (key) {
    case "/nodes":
    case "/nodes/status":
      return own(["get", "update", "patch"].includes(verb) && name === node, "change its own Node");
    case "/pods":
      // Mirror pods are created by the kubelet; the node they name is checked when they are admitted.
      if (verb === "create") return { allowed: true };
      return own(verb === "delete" && graph.nodeOf(namespace, name) === node, "delete pods bound to it");
    case "/pods/status":
      return own(
        ["update", "patch"].includes(verb) && graph.nodeOf(namespace, name) === node,
        "change pods bound to it",
      );
    case "coordination.k8s.io/leases":
      return own(
        namespace === "kube-node-lease" && (name === node || verb === "create"),
        "use its own Lease in kube-node-lease",
      );
    case "storage.k8s.io/csinodes":
      return own(
        ["get", "create", "update", "patch", "delete"].includes(verb) && (name === node || verb === "create"),
        "use its own CSINode",
      );
    case "/serviceaccounts/token":
    case "/serviceaccounts":
      return related(verb === "create" || verb === "get", node, `serviceaccounts/${namespace}/${name}`, graph);
    case "/secrets":
    case "/configmaps":
      if (name === "" && verb !== "get")
        return relatedList(read.includes(verb), node, `${resource}/${namespace}/`, graph);
      return related(read.includes(verb), node, `${resource}/${namespace}/${name}`, graph);
    case "/persistentvolumeclaims":
      return related(verb === "get", node, `persistentvolumeclaims/${namespace}/${name}`, graph);
    default:
      return { allowed: false };
  }
}

function related(verbAllowed: boolean, node: string, reference: string, graph: NodeGraph): Decision {
  if (verbAllowed && graph.refers(node, reference)) return { allowed: true };
  return { allowed: false, reason: `no relationship found between node '${node}' and this object` };
}

/** Lists of a namespace's config maps or secrets, for kubelets that keep one watch a namespace instead of one an object. */
function relatedList(verbAllowed: boolean, node: string, prefix: string, graph: NodeGraph): Decision {
  if (verbAllowed && prefix.split("/")[1] !== "" && graph.refersToAny(node, prefix)) return { allowed: true };
  return { allowed: false, reason: `no relationship found between node '${node}' and this namespace` };
}
