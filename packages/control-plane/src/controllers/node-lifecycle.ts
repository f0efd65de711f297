/**
 * Node lifecycle: judges nodes by their leases, keeps the taints their conditions call for, marks pods of silent nodes.
 * Pods are evicted by taint-eviction.ts, pods of nodes that are gone by pod-gc.ts.
 */
import { isConflict, isNotFound } from "@underlay/kube/client";
import { findCondition, wireTime } from "@underlay/kube/conditions";
import type { Node } from "@underlay/kube/objects";
import { isPodReady } from "@underlay/kube/pod";
import { leases, nodes, pods } from "@underlay/kube/resources";
import { every, WorkQueue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";
import { planTaints, silentConditions } from "./node-lifecycle-plan.ts";

const monitorPeriodMs = 5_000;
/** Upstream's node-monitor-grace-period. */
const gracePeriodMs = 50_000;
const startGraceMs = 60_000;

export async function runNodeLifecycleController(context: ControllerContext): Promise<void> {
  const { client, informers, signal, log } = context;
  const allNodes = informers.of(nodes);
  const allLeases = informers.of(leases);
  const allPods = informers.of(pods);
  const recorder = context.recorder("node-controller");
  const queue = new WorkQueue();
  /** When, by our clock, a node last showed life; another machine's clock is not trusted. */
  const heard = new Map<string, { sign: string; at: number }>();

  allNodes.on({
    add: (node) => queue.add(node.metadata.name ?? ""),
    update: (_old, node) => queue.add(node.metadata.name ?? ""),
  });

  /** Taints follow conditions at once. */
  const reconcile = async (name: string) => {
    const node = allNodes.get(name);
    if (!node) return;
    const taints = planTaints(node, new Date(), true);
    if (taints)
      await client.update(nodes, { ...node, spec: { ...node.spec, taints: taints.length > 0 ? taints : undefined } });
  };

  const monitor = async () => {
    try {
      await client.request("GET", "/readyz", { retryForMs: 0, timeoutMs: 2_000 });
    } catch {
      // While the API server is away nobody can renew a lease; silence then means nothing.
      heard.clear();
      return;
    }
    for (const node of allNodes.list()) {
      await judge(node).catch((err: unknown) => {
        if (!isConflict(err) && !isNotFound(err)) log.warn("cannot judge node", { node: node.metadata.name, err });
      });
    }
    for (const name of heard.keys()) if (!allNodes.get(name)) heard.delete(name);
  };

  const judge = async (node: Node) => {
    const { name = "" } = node.metadata;
    const renewed = allLeases.get(`kube-node-lease/${name}`)?.spec?.renewTime ?? "";
    const ready = findCondition(node.status?.conditions, "Ready");
    const sign = `${renewed} ${ready?.status === "Unknown" ? "" : (ready?.lastHeartbeatTime ?? "")}`;
    const last = heard.get(name);
    const now = performance.now();
    if (!last || last.sign !== sign) {
      heard.set(name, { sign, at: now });
      return;
    }
    if (now - last.at < (ready ? gracePeriodMs : startGraceMs)) return;
    const time = new Date();
    const conditions = silentConditions(node, time);
    if (!conditions) return;
    const wasReady = ready?.status === "True";
    await client.updateStatus(nodes, { ...node, status: { ...node.status, conditions } });
    // Our own write must not look like a sign of life.
    heard.set(name, { sign: `${renewed} `, at: last.at });
    if (!wasReady) return;
    recorder.event(node, "Normal", "NodeNotReady", `Node ${name} status is now: NodeNotReady`);
    await markPodsNotReady(name, time);
  };

  const markPodsNotReady = async (node: string, now: Date) => {
    for (const pod of allPods.byIndex("node", node)) {
      if (!isPodReady(pod)) continue;
      const condition = { type: "Ready", status: "False", lastTransitionTime: wireTime(now) };
      const { name = "", namespace } = pod.metadata;
      recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready");
      await client
        .patch(
          pods,
          name,
          { type: "strategic", body: { status: { conditions: [condition] } } },
          { namespace, subresource: "status" },
        )
        .catch((err: unknown) => {
          if (!isNotFound(err)) throw err;
        });
    }
  };

  const monitoring = informers.synced().then(() => every(monitorPeriodMs, signal, monitor));
  await Promise.all([monitoring, runQueue(context, "node-lifecycle", queue, reconcile, 4)]);
}
