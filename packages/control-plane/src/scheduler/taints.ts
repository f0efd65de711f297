/** Taints and tolerations. Pure. */
import type { Node, PodSpec, Taint, Toleration } from "@underlay/kube/objects";

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  const operator = toleration.operator || "Equal";
  // An empty key means every key, and only together with Exists.
  if (!toleration.key && operator !== "Exists") return false;
  return operator === "Exists" || (toleration.value ?? "") === (taint.value ?? "");
}

/** The first taint of these effects that nothing tolerates. */
export function untoleratedTaint(
  node: Node,
  tolerations: PodSpec["tolerations"],
  effects: readonly string[] = ["NoSchedule", "NoExecute"],
): Taint | undefined {
  return (node.spec?.taints ?? []).find(
    (taint) =>
      effects.includes(taint.effect) && !(tolerations ?? []).some((toleration) => tolerates(toleration, taint)),
  );
}
