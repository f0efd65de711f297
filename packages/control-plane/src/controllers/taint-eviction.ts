/** Taint eviction: deletes pods from nodes with NoExecute taints when their tolerations end. */
import { isNotFound } from "@underlay/kube/client";
import { wireTime } from "@underlay/kube/conditions";
import { keyOf, splitKey, type Node, type Pod } from "@underlay/kube/objects";
import { isPodTerminating } from "@underlay/kube/pod";
import { nodes, pods } from "@underlay/kube/resources";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { tolerates } from "../scheduler/taints.ts";
import { runQueue, type ControllerContext } from "./context.ts";

/** When a pod has to leave: 0 at once, Infinity never, else the time left for it on this node in milliseconds. Pure. */
export function leavesInMs(pod: Pod, node: Node, now: Date): number {
  let leaveAt = Number.POSITIVE_INFINITY;
  for (const taint of (node.spec?.taints ?? []).filter((one) => one.effect === "NoExecute")) {
    const tolerating = (pod.spec?.tolerations ?? []).filter((toleration) => tolerates(toleration, taint));
    if (tolerating.length === 0) return 0;
    const limits = tolerating.flatMap(({ tolerationSeconds }) =>
      tolerationSeconds === undefined ? [] : [tolerationSeconds],
    );
    if (limits.length === 0) continue;
    const since = taint.timeAdded ? Date.parse(taint.timeAdded) : now.getTime();
    leaveAt = Math.min(leaveAt, since + Math.max(0, Math.min(...limits)) * 1000);
  }
  return Math.max(0, leaveAt - now.getTime());
}

export async function runTaintEvictionController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const allPods = informers.of(pods);
  const allNodes = informers.of(nodes);
  const recorder = context.recorder("taint-eviction-controller");
  const queue = new WorkQueue();
  /** Pods that were told to leave later. */
  const waiting = new Set<string>();
  const evicting = (node: Node | undefined) => (node?.spec?.taints ?? []).some((taint) => taint.effect === "NoExecute");
  const onPod = (pod: Pod) => {
    if (evicting(allNodes.get(pod.spec?.nodeName ?? ""))) queue.add(keyOf(pod));
  };
  const onNode = (node: Node, old?: Node) => {
    if (!evicting(node) && !evicting(old)) return;
    for (const pod of allPods.byIndex("node", node.metadata.name ?? "")) queue.add(keyOf(pod));
  };
  allPods.on({ add: onPod, update: (_old, pod) => onPod(pod), delete: (pod) => void waiting.delete(keyOf(pod)) });
  allNodes.on({
    add: (node) => onNode(node),
    update: (old, node) => {
      if (JSON.stringify(old.spec?.taints) !== JSON.stringify(node.spec?.taints)) onNode(node, old);
    },
  });

  const reconcile = async (key: string): Promise<Requeue> => {
    const pod = allPods.get(key);
    const node = allNodes.get(pod?.spec?.nodeName ?? "");
    if (!pod || !node || isPodTerminating(pod)) return;
    const leaves = leavesInMs(pod, node, new Date());
    const { namespace, name } = splitKey(key);
    if (leaves === Number.POSITIVE_INFINITY) {
      if (waiting.delete(key))
        recorder.event(pod, "Normal", "TaintManagerEviction", `Cancelling deletion of Pod ${namespace}/${name}`);
      return;
    }
    if (leaves > 0) {
      waiting.add(key);
      return { requeueAfterMs: leaves + 10 };
    }
    waiting.delete(key);
    recorder.event(pod, "Normal", "TaintManagerEviction", `Marking for deletion Pod ${namespace}/${name}`);
    const condition = {
      type: "DisruptionTarget",
      status: "True",
      reason: "DeletionByTaintManager",
      message: "Taint manager: deleting due to NoExecute taint",
      lastTransitionTime: wireTime(new Date()),
    };
    try {
      await client.patch(
        pods,
        name,
        { type: "strategic", body: { status: { conditions: [condition] } } },
        { namespace, subresource: "status" },
      );
      await client.delete(pods, name, { namespace, preconditions: { uid: pod.metadata.uid } });
    } catch (err) {
      if (!isNotFound(err)) throw err;
    }
  };
  await runQueue(context, "taint-eviction", queue, reconcile, 8);
}
