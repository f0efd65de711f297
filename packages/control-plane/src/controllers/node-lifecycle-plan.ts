/** Which taints a node's conditions call for, and when silence makes its conditions unknown. Pure. */
import { findCondition, wireTime } from "@underlay/kube/conditions";
import type { Node, NodeCondition, Taint } from "@underlay/kube/objects";

export const notReady = "node.kubernetes.io/not-ready";
export const unreachable = "node.kubernetes.io/unreachable";

/** Condition type and the status at which its taint is due. */
const conditionTaints: { type: string; when: string; key: string; effects: ("NoSchedule" | "NoExecute")[] }[] = [
  { type: "Ready", when: "False", key: notReady, effects: ["NoSchedule", "NoExecute"] },
  { type: "Ready", when: "Unknown", key: unreachable, effects: ["NoSchedule", "NoExecute"] },
  { type: "MemoryPressure", when: "True", key: "node.kubernetes.io/memory-pressure", effects: ["NoSchedule"] },
  { type: "DiskPressure", when: "True", key: "node.kubernetes.io/disk-pressure", effects: ["NoSchedule"] },
  { type: "PIDPressure", when: "True", key: "node.kubernetes.io/pid-pressure", effects: ["NoSchedule"] },
  { type: "NetworkUnavailable", when: "True", key: "node.kubernetes.io/network-unavailable", effects: ["NoSchedule"] },
];
const unschedulable = "node.kubernetes.io/unschedulable";
const heartbeats = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/** The node's taints with ours put right; undefined when nothing changes. `evict` allows new NoExecute taints. */
export function planTaints(node: Node, now: Date, evict: boolean): Taint[] | undefined {
  const old = node.spec?.taints ?? [];
  const wanted: Taint[] = [];
  for (const { type, when, key, effects } of conditionTaints) {
    if (findCondition(node.status?.conditions, type)?.status !== when) continue;
    for (const effect of effects) {
      const had = old.find((taint) => taint.key === key && taint.effect === effect);
      if (had) wanted.push(had);
      else if (effect === "NoSchedule" || evict) wanted.push({ key, effect, timeAdded: wireTime(now) });
    }
  }
  if (node.spec?.unschedulable) {
    wanted.push(
      old.find((taint) => taint.key === unschedulable) ?? {
        key: unschedulable,
        effect: "NoSchedule",
        timeAdded: wireTime(now),
      },
    );
  }
  // A node that never reported keeps the taint admission gave it.
  const unreported = findCondition(node.status?.conditions, "Ready") === undefined;
  const ours = new Set([...conditionTaints.map(({ key }) => key), unschedulable]);
  const foreign = old.filter((taint) => !ours.has(taint.key) || (unreported && taint.key === notReady));
  const next = [
    ...foreign,
    ...wanted.filter((taint) => !foreign.some((one) => one.key === taint.key && one.effect === taint.effect)),
  ];
  const text = (taints: readonly Taint[]) =>
    taints
      .map(({ key, effect, value }) => `${key}=${value ?? ""}:${effect}`)
      .sort()
      .join();
  return text(next) === text(old) ? undefined : next;
}

/** The conditions of a node that has gone silent; undefined when they are unknown already. */
export function silentConditions(node: Node, now: Date): NodeCondition[] | undefined {
  const conditions = [...(node.status?.conditions ?? [])];
  let changed = false;
  for (const type of heartbeats) {
    const at = conditions.findIndex((condition) => condition.type === type);
    const old = conditions[at];
    const time = wireTime(now);
    if (!old) {
      const made = {
        type,
        status: "Unknown",
        reason: "NodeStatusNeverUpdated",
        message: "Kubelet never posted node status.",
      };
      conditions.push({ ...made, lastHeartbeatTime: node.metadata.creationTimestamp, lastTransitionTime: time });
      changed = true;
    } else if (old.status !== "Unknown") {
      const message = "Kubelet stopped posting node status.";
      conditions[at] = { ...old, status: "Unknown", reason: "NodeStatusUnknown", message, lastTransitionTime: time };
      changed = true;
    }
  }
  return changed ? conditions : undefined;
}
