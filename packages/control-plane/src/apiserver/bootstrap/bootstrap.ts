/**
 * Objects every cluster has before anyone asks: namespaces, the `kubernetes` Service and its endpoints, priority
 * classes, RBAC, the CA for extension servers. Written through the registry; what exists is left alone, except
 * endpoints, which follow the server's addresses, and the system's own roles, which gain rules they lack.
 */
import type { ApiObject, JsonObject, ObjectMeta } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";
import type { ServerContext } from "../seams.ts";
import { bootstrapRbac } from "./rbac.ts";

export async function bootstrap(context: ServerContext, service: { address: string; port: number }): Promise<void> {
  for (const name of ["kube-system", "default", "kube-public", "kube-node-lease"])
    await ensure(context, "/namespaces", { metadata: { name } });
  for (const [name, value, description] of priorityClasses) {
    await ensure(context, "scheduling.k8s.io/priorityclasses", { metadata: { name }, value, description });
  }
  for (const [storage, objects] of Object.entries(bootstrapRbac))
    for (const object of objects) await ensure(context, storage, structuredClone(object));
  await ensureConfigMaps(context);
  await ensureServiceRange(context);
  await ensureKubernetesService(context, service);
  keepNamespaceDefaults(context);
}

const priorityClasses: [string, number, string][] = [
  [
    "system-cluster-critical",
    2000000000,
    "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
  ],
  ["system-node-critical", 2000001000, "Used for system critical pods that must not be moved from their current node."],
];

function infoOf(context: ServerContext, storage: string): ResourceInfo {
  const info = context.resources.findStorage(storage);
  if (info === undefined) throw new Error(`Cannot bootstrap ${storage}: it is not served`);
  return info;
}

type Wanted = JsonObject & { metadata: Pick<ObjectMeta, "name" | "namespace" | "labels" | "annotations"> };

/** Creates an object that does not exist. */
async function ensure(context: ServerContext, storage: string, object: Wanted): Promise<void> {
  if (context.objects.get(storage, object.metadata.namespace ?? "", object.metadata.name) !== undefined) return;
  await context.writer.create(infoOf(context, storage), object as ApiObject).catch(ignoreExisting);
}

/** Creates an object, or makes the given fields of an existing one so. */
async function enforce(context: ServerContext, storage: string, object: Wanted): Promise<void> {
  const { name, namespace = "" } = object.metadata;
  if (context.objects.get(storage, namespace, name) === undefined) return ensure(context, storage, object);
  const { metadata, ...fields } = object;
  await context.writer.update(
    infoOf(context, storage),
    namespace,
    name,
    (current) => ({ ...current, ...fields, metadata: { ...current.metadata, ...metadata } }) as ApiObject,
  );
}

function ignoreExisting(error: { status?: { reason?: string } }): void {
  if (error.status?.reason !== "AlreadyExists") throw error;
}

async function ensureConfigMaps(context: ServerContext): Promise<void> {
  const ca = context.authority.cert;
  await enforce(context, "/configmaps", {
    metadata: { name: "extension-apiserver-authentication", namespace: "kube-system" },
    data: {
      "client-ca-file": ca,
      "requestheader-client-ca-file": ca,
      "requestheader-allowed-names": '["front-proxy-client"]',
      "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
      "requestheader-group-headers": '["X-Remote-Group"]',
      "requestheader-username-headers": '["X-Remote-User"]',
    },
  });
}

/** The ServiceCIDR object that tells proxies which addresses can only be Services. */
async function ensureServiceRange(context: ServerContext): Promise<void> {
  const cidrs = [context.settings.serviceCidr];
  await ensure(context, "networking.k8s.io/servicecidrs", { metadata: { name: "kubernetes" }, spec: { cidrs } });
}

async function ensureKubernetesService(
  context: ServerContext,
  { address, port }: { address: string; port: number },
): Promise<void> {
  const { settings } = context;
  const labels = { component: "apiserver", provider: "kubernetes" };
  await ensure(context, "/services", {
    metadata: { name: "kubernetes", namespace: "default", labels },
    spec: {
      clusterIP: address,
      ports: [{ name: "https", port: 443, protocol: "TCP", targetPort: port }],
      type: "ClusterIP",
    },
  });
  const addresses = settings.xenis.length > 0 ? settings.xenis.map((xeni) => xeni.address) : ["127.0.0.1"];
  await enforce(context, "/endpoints", {
    metadata: {
      name: "kubernetes",
      namespace: "default",
      labels: { "endpointslice.kubernetes.io/skip-mirror": "true" },
    },
    subsets: [{ addresses: addresses.map((ip) => ({ ip })), ports: [{ name: "https", port, protocol: "TCP" }] }],
  });
  await enforce(context, "discovery.k8s.io/endpointslices", {
    metadata: { name: "kubernetes", namespace: "default", labels: { "kubernetes.io/service-name": "kubernetes" } },
    addressType: "IPv4",
    endpoints: addresses.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
    ports: [{ name: "https", port, protocol: "TCP" }],
  });
}

/**
 * ServiceAccount `default` and ConfigMap `kube-root-ca.crt` in every namespace. The controllers keep them too; here they
 * exist in the same moment as the namespace, so that a pod created right after it is not refused.
 */
function keepNamespaceDefaults(context: ServerContext): void {
  const fill = (namespace: string): void => {
    const write = async (): Promise<void> => {
      await ensure(context, "/serviceaccounts", { metadata: { name: "default", namespace } });
      await ensure(context, "/configmaps", {
        metadata: {
          name: "kube-root-ca.crt",
          namespace,
          annotations: {
            "kubernetes.io/description":
              "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
          },
        },
        data: { "ca.crt": context.authority.cert },
      });
    };
    write().catch((err: unknown) => context.log.warn("could not fill namespace", { namespace, err }));
  };
  for (const namespace of context.objects.list("/namespaces")) fill(namespace.metadata.name);
  context.objects.subscribe("/namespaces", ({ type, object }) => {
    if (type === "ADDED") fill(object.metadata.name);
  });
}
