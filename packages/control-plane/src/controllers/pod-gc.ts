/** Pod collector: force-deletes pods whose node is gone, which no kubelet will ever finish. */
import { isNotFound } from "@underlay/kube/client";
import { wireTime } from "@underlay/kube/conditions";
import { keyOf, type Node, type Pod } from "@underlay/kube/objects";
import { isPodTerminal, isPodTerminating } from "@underlay/kube/pod";
import { nodes, pods } from "@underlay/kube/resources";
import { every } from "@underlay/kube/workqueue";
import { findCondition } from "@underlay/kube/conditions";
import type { ControllerContext } from "./context.ts";

const periodMs = 20_000;
/** A node may be unknown for a moment (its object is made after its pods); as upstream. */
const quarantineMs = 40_000;
const outOfService = "node.kubernetes.io/out-of-service";

export async function runPodCollector(context: ControllerContext): Promise<void> {
  const { client, informers, signal, log } = context;
  const allPods = informers.of(pods);
  const allNodes = informers.of(nodes);
  const missingSince = new Map<string, number>();

  const collect = async () => {
    const now = performance.now();
    const missing = new Set(
      allPods
        .list()
        .map((pod) => pod.spec?.nodeName ?? "")
        .filter((name) => name !== "" && !allNodes.get(name)),
    );
    for (const name of missingSince.keys()) if (!missing.has(name)) missingSince.delete(name);
    for (const name of missing) {
      const since = missingSince.get(name) ?? now;
      missingSince.set(name, since);
      if (now - since < quarantineMs) continue;
      if (await client.find(nodes, name)) continue;
      for (const pod of allPods.byIndex("node", name)) await remove(pod, "PodGC: node no longer exists");
    }
    for (const node of allNodes.list().filter(isOutOfService)) {
      for (const pod of allPods.byIndex("node", node.metadata.name ?? "").filter(isPodTerminating))
        await remove(pod, "PodGC: node is out of service");
    }
  };

  const remove = async (pod: Pod, message: string) => {
    const { name = "", namespace, uid } = pod.metadata;
    log.info("force deleting pod", { pod: keyOf(pod), node: pod.spec?.nodeName });
    const condition = {
      type: "DisruptionTarget",
      status: "True",
      reason: "DeletionByPodGC",
      message,
      lastTransitionTime: wireTime(new Date()),
    };
    const status = { ...(isPodTerminal(pod) ? {} : { phase: "Failed" }), conditions: [condition] };
    try {
      await client.patch(pods, name, { type: "strategic", body: { status } }, { namespace, subresource: "status" });
      await client.delete(pods, name, { namespace, gracePeriodSeconds: 0, preconditions: { uid } });
    } catch (err) {
      if (!isNotFound(err)) throw err;
    }
  };

  await informers.synced();
  await every(periodMs, signal, () => collect().catch((err: unknown) => log.debug("pod collection failed", { err })));
}

function isOutOfService(node: Node): boolean {
  const tainted = (node.spec?.taints ?? []).some((taint) => taint.key === outOfService);
  return tainted && findCondition(node.status?.conditions, "Ready")?.status !== "True";
}
