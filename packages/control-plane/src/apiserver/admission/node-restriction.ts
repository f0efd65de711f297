/** A kubelet writes only its own Node and the pods bound to it, and creates only mirror pods. */
import { forbidden } from "../api-error.ts";
import { nodeNameOf } from "../auth/node-rules.ts";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";

const mirrorAnnotation = "kubernetes.io/config.mirror";

export function checkNodeRestriction(request: AdmissionRequest, objects: Pick<ObjectReader, "get">): void {
  const node = nodeNameOf(request.user);
  if (node === undefined) return;
  const { info, operation, subresource, object, name } = request;
  if (info.storage === "/nodes") {
    const target = operation === "CREATE" ? (object?.metadata.name ?? name) : name;
    if (target !== node) throw forbidden(info, target, `node "${node}" is not allowed to modify node "${target}"`);
    return;
  }
  if (info.storage === "coordination.k8s.io/leases" && operation === "CREATE" && object?.metadata.name !== node) {
    throw forbidden(info, name, `lease name "${object?.metadata.name}" does not match node name "${node}"`);
  }
  if (info.storage === "storage.k8s.io/csinodes" && operation === "CREATE" && object?.metadata.name !== node) {
    throw forbidden(info, name, `can only access CSINode with the same name as the requesting node`);
  }
  if (info.storage !== "/pods") return;
  if (operation === "CREATE" && subresource === "") {
    if (object?.metadata.annotations?.[mirrorAnnotation] === undefined) {
      throw forbidden(
        info,
        name,
        `pod does not have "${mirrorAnnotation}" annotation, node "${node}" can only create mirror pods`,
      );
    }
    if (object["spec"]?.nodeName !== node) {
      throw forbidden(info, name, `node "${node}" can only create pods with spec.nodeName set to itself`);
    }
    return;
  }
  if (operation !== "DELETE" && subresource !== "eviction") return;
  const bound = objects.get("/pods", request.namespace, name)?.["spec"]?.nodeName;
  if (bound !== undefined && bound !== node) {
    throw forbidden(
      info,
      name,
      `node "${node}" can only ${operation === "DELETE" ? "delete" : "evict"} pods with spec.nodeName set to itself`,
    );
  }
}
