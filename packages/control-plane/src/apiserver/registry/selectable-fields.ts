/** Which fields each kind can be selected by, and their values as text (a missing value is ""). */
import { badRequest } from "../api-error.ts";
import type { AnyJson, ApiObject } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";

/** Paths whose value is not simply found at the path. */
const computed: Record<string, (object: ApiObject) => unknown> = {
  "spec.hostNetwork": (o) => o["spec"]?.hostNetwork ?? false,
  "spec.unschedulable": (o) => o["spec"]?.unschedulable ?? false,
  "status.replicas": (o) => o["status"]?.replicas ?? 0,
  "status.successful": (o) => o["status"]?.succeeded ?? 0,
  source: (o) => o["source"]?.component ?? o["reportingComponent"],
  reportingComponent: (o) => o["reportingComponent"] ?? o["source"]?.component,
};

const byStorage: Record<string, readonly string[]> = {
  "/pods": [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
  ],
  "/events": [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  "/nodes": ["spec.unschedulable"],
  "/secrets": ["type"],
  "/namespaces": ["status.phase"],
  "/services": ["spec.clusterIP", "spec.type"],
  "/replicationcontrollers": ["status.replicas"],
  "apps/replicasets": ["status.replicas"],
  "batch/jobs": ["status.successful"],
  "certificates.k8s.io/certificatesigningrequests": ["spec.signerName"],
};

/** events.k8s.io names of the same fields. */
const eventAliases: Record<string, string> = {
  "regarding.kind": "involvedObject.kind",
  "regarding.namespace": "involvedObject.namespace",
  "regarding.name": "involvedObject.name",
  "regarding.uid": "involvedObject.uid",
  "regarding.apiVersion": "involvedObject.apiVersion",
  "regarding.resourceVersion": "involvedObject.resourceVersion",
  "regarding.fieldPath": "involvedObject.fieldPath",
  reportingController: "reportingComponent",
};

/** Values for the selectors of a storage; `custom` are the CRD's selectableFields as paths without the leading dot. */
export function fieldsOf(storage: string, object: ApiObject, custom: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const path of byStorage[storage] ?? custom) {
    const value = computed[path] === undefined ? valueAt(object, path) : computed[path](object);
    fields[path] = value === undefined || value === null ? "" : String(value);
  }
  return fields;
}

/** The stored name of a selectable field; throws 400 when the kind has no such field. */
export function fieldName(info: ResourceInfo, field: string): string {
  if (field === "metadata.name" || field === "metadata.namespace") return field;
  const name = info.storage === "/events" ? (eventAliases[field] ?? field) : field;
  const known = byStorage[info.storage] ?? info.custom?.selectableFields.map((path) => path.replace(/^\./, "")) ?? [];
  if (!known.includes(name)) throw badRequest(`field label not supported: ${field}`);
  return name;
}

function valueAt(object: ApiObject, path: string): unknown {
  let value: AnyJson = object;
  for (const step of path.split(".")) value = value?.[step];
  return value;
}
