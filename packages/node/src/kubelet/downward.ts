/** The downward API: fields of the pod and resources of its containers as text. Pure. */
import type { Container, Pod } from "@underlay/kube/objects";
import { quantityMilli, quantityValue } from "@underlay/kube/quantity";

export type PodFacts = { readonly podIps: readonly string[]; readonly hostIp: string };

/** The text a `fieldRef` stands for; throws on a path the API does not know. */
export function fieldValue(pod: Pod, path: string, facts: PodFacts): string {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (keyed) return (keyed[1] === "labels" ? metadata.labels : metadata.annotations)?.[keyed[2] ?? ""] ?? "";
  switch (path) {
    case "metadata.name":
      return metadata.name ?? "";
    case "metadata.namespace":
      return metadata.namespace ?? "";
    case "metadata.uid":
      return metadata.uid ?? "";
    case "metadata.labels":
      return keyValueLines(metadata.labels);
    case "metadata.annotations":
      return keyValueLines(metadata.annotations);
    case "spec.nodeName":
      return spec?.nodeName ?? "";
    case "spec.serviceAccountName":
      return spec?.serviceAccountName ?? "";
    case "status.hostIP":
    case "status.hostIPs":
      return facts.hostIp;
    case "status.podIP":
      return facts.podIps[0] ?? "";
    case "status.podIPs":
      return facts.podIps.join(",");
    default:
      throw new Error(`unsupported fieldPath: ${path}`);
  }
}

/** `key="value"` lines sorted by key, as a downward API file has them. */
function keyValueLines(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join("\n");
}

/** `limits.cpu` in units of the divisor, rounded up; a missing limit is the node's allocatable amount. */
export function resourceFieldValue(
  pod: Pod,
  container: Container,
  ref: { resource: string; containerName?: string | undefined; divisor?: string | undefined },
  capacity: { readonly cpu: string; readonly memory: string },
): string {
  const named = ref.containerName
    ? [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].find((c) => c.name === ref.containerName)
    : container;
  const [kind = "", resource = ""] = ref.resource.split(".");
  const amounts = kind === "limits" ? named?.resources?.limits : named?.resources?.requests;
  const fallback = kind === "limits" ? (capacity as Record<string, string>)[resource] : "0";
  const quantity = amounts?.[resource] ?? fallback ?? "0";
  const divisor = !ref.divisor || ref.divisor === "0" ? "1" : ref.divisor;
  return resource === "cpu"
    ? String(Math.ceil(quantityMilli(quantity) / quantityMilli(divisor)))
    : String(Math.ceil(quantityValue(quantity) / quantityValue(divisor)));
}
