/** What every namespace must have before pods are let in: ServiceAccount `default` and ConfigMap `kube-root-ca.crt`. */
import { isAlreadyExists, isNotFound } from "@underlay/kube/client";
import { configMaps, namespaces, serviceAccounts } from "@underlay/kube/resources";
import { WorkQueue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";

const caName = "kube-root-ca.crt";

export async function runServiceAccountController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const all = informers.of(namespaces);
  const accounts = informers.of(serviceAccounts);
  const maps = informers.of(configMaps);
  const queue = new WorkQueue();
  const description =
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

  all.on({ add: (namespace) => queue.add(namespace.metadata.name ?? "") });
  accounts.on({
    delete: (account) => account.metadata.name === "default" && queue.add(account.metadata.namespace ?? ""),
  });
  maps.on({
    update: (_old, map) => map.metadata.name === caName && queue.add(map.metadata.namespace ?? ""),
    delete: (map) => map.metadata.name === caName && queue.add(map.metadata.namespace ?? ""),
  });

  const reconcile = async (namespace: string) => {
    const found = all.get(namespace);
    if (!found || found.metadata.deletionTimestamp !== undefined) return;
    if (!accounts.get(`${namespace}/default`)) {
      await client.create(serviceAccounts, { metadata: { name: "default", namespace } }).catch(tolerateExisting);
    }
    const data = { "ca.crt": context.authority.cert };
    const map = maps.get(`${namespace}/${caName}`);
    if (!map) {
      const metadata = { name: caName, namespace, annotations: { "kubernetes.io/description": description } };
      await client.create(configMaps, { metadata, data }).catch(tolerateExisting);
    } else if (map.data?.["ca.crt"] !== data["ca.crt"]) {
      await client.update(configMaps, { ...map, data });
    }
  };
  await runQueue(context, "serviceaccount", queue, reconcile, 2);
}

function tolerateExisting(err: unknown): void {
  if (!isAlreadyExists(err) && !isNotFound(err)) throw err;
}
