/** Small mutations of other kinds: the taint of new nodes, default storage class and ingress class. */
import type { ApiObject } from "../api-object.ts";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";

const notReady = { key: "node.kubernetes.io/not-ready", effect: "NoSchedule" };

/** A new node takes no pods until the node lifecycle controller has seen it Ready. */
export function mutateNode(request: AdmissionRequest, node: ApiObject): void {
  if (request.operation !== "CREATE") return;
  node["spec"] ??= {};
  const taints: { key: string; effect: string }[] = node["spec"].taints ?? [];
  if (taints.some((taint) => taint.key === notReady.key && taint.effect === notReady.effect)) return;
  node["spec"].taints = [...taints, { ...notReady }];
}

export function mutateVolumeClaim(
  request: AdmissionRequest,
  claim: ApiObject,
  objects: Pick<ObjectReader, "list">,
): void {
  if (request.operation !== "CREATE" || claim["spec"]?.storageClassName !== undefined) return;
  const name = defaultClass(
    objects.list("storage.k8s.io/storageclasses"),
    "storageclass.kubernetes.io/is-default-class",
  );
  if (name !== undefined) claim["spec"] = { ...claim["spec"], storageClassName: name };
}

export function mutateIngress(
  request: AdmissionRequest,
  ingress: ApiObject,
  objects: Pick<ObjectReader, "list">,
): void {
  if (request.operation !== "CREATE" || ingress["spec"]?.ingressClassName !== undefined) return;
  if (ingress.metadata.annotations?.["kubernetes.io/ingress.class"] !== undefined) return;
  const name = defaultClass(
    objects.list("networking.k8s.io/ingressclasses"),
    "ingressclass.kubernetes.io/is-default-class",
  );
  if (name !== undefined) ingress["spec"] = { ...ingress["spec"], ingressClassName: name };
}

/** The newest class that says it is the default. */
function defaultClass(classes: readonly ApiObject[], annotation: string): string | undefined {
  return classes
    .filter((candidate) => candidate.metadata.annotations?.[annotation] === "true")
    .sort((a, b) => (b.metadata.creationTimestamp ?? "").localeCompare(a.metadata.creationTimestamp ?? ""))[0]?.metadata
    .name;
}
