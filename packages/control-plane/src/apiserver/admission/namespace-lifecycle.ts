/** Nothing is created in a namespace, or of a kind, that is missing or going; the system's own namespaces cannot be deleted. */
import { ApiError, forbidden, notFound } from "../api-error.ts";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";

const immortal = new Set(["default", "kube-system", "kube-public"]);
const namespaces = { group: "", plural: "namespaces" };

export function checkNamespace(request: AdmissionRequest, objects: Pick<ObjectReader, "get">): void {
  const { info, operation, namespace, name } = request;
  if (info.storage === "/namespaces") {
    if (operation === "DELETE" && immortal.has(name)) throw forbidden(info, name, "this namespace may not be deleted");
    return;
  }
  if (!info.namespaced || operation !== "CREATE" || info.group === "authorization.k8s.io") return;
  // A subresource's parent exists, so its namespace does; evictions and tokens are needed while it is going.
  if (request.subresource !== "") return;
  const found = objects.get("/namespaces", "", namespace);
  if (!found) throw notFound(namespaces, namespace);
  if (found.metadata.deletionTimestamp === undefined && found["status"]?.phase !== "Terminating") return;
  const message = `namespace ${namespace} is being terminated`;
  throw forbidden(info, name, `unable to create new content in namespace ${namespace} because it is being terminated`, [
    { reason: "NamespaceTerminating", message, field: "metadata.namespace" },
  ]);
}

/** A definition that is being deleted would never get rid of its objects if new ones came. */
export function checkDefinition(
  { info, operation, subresource }: AdmissionRequest,
  objects: Pick<ObjectReader, "get">,
): void {
  if (info.custom === undefined || operation !== "CREATE" || subresource !== "") return;
  const definition = objects.get("apiextensions.k8s.io/customresourcedefinitions", "", info.custom.crd);
  if (definition?.metadata.deletionTimestamp === undefined) return;
  throw new ApiError(405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating", {
    group: info.group,
    kind: info.plural,
  });
}
