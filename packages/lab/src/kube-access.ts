/** The operator's way to the cluster's Kubernetes API, through the host door. */
import { KubeClient } from "@underlay/kube/client";
import { loadKubeConfig } from "@underlay/kube/config";
import { findCondition } from "@underlay/kube/conditions";
import { deployments, nodes } from "@underlay/kube/resources";
import type { Places } from "./places.ts";

export async function kubeClient(places: Places): Promise<KubeClient> {
  return new KubeClient(await loadKubeConfig(places.adminKubeconfig), { userAgent: "underlay" });
}

export type Readiness = {
  readonly readyNodes: number;
  readonly coredns: { readonly ready: number; readonly wanted: number };
};

export async function readinessOf(places: Places): Promise<Readiness> {
  const client = await kubeClient(places);
  try {
    const all = await client.listAll(nodes);
    const readyNodes = all.filter(
      (node) => findCondition(node.status?.conditions ?? [], "Ready")?.status === "True",
    ).length;
    const coredns = await client.find(deployments, "coredns", { namespace: "kube-system" });
    return {
      readyNodes,
      coredns: { ready: coredns?.status?.readyReplicas ?? 0, wanted: coredns?.spec?.replicas ?? 1 },
    };
  } finally {
    client.close();
  }
}
