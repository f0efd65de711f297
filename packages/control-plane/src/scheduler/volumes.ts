/** Whether a pod's volume claims allow it to be placed at all. Pure. */
import type { PersistentVolumeClaim, Pod } from "@underlay/kube/objects";

/** Upstream's words for what is wrong with a pod's claims; undefined when nothing is. */
export function volumeProblem(
  pod: Pod,
  claimOf: (key: string) => PersistentVolumeClaim | undefined,
): string | undefined {
  for (const volume of pod.spec?.volumes ?? []) {
    const name =
      volume.persistentVolumeClaim?.claimName ?? (volume.ephemeral ? `${pod.metadata.name}-${volume.name}` : undefined);
    if (name === undefined) continue;
    const claim = claimOf(`${pod.metadata.namespace}/${name}`);
    if (!claim) return `persistentvolumeclaim "${name}" not found`;
    if (claim.metadata.deletionTimestamp !== undefined) return `persistentvolumeclaim "${name}" is being deleted`;
    if (claim.status?.phase !== "Bound") return "pod has unbound immediate PersistentVolumeClaims";
  }
  return undefined;
}
