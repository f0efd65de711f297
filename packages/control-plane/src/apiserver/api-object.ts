import type { Stored } from "./stored.ts";

/** A JSON value of an object whose kind the reader knows and the type system does not. */
export type AnyJson = Stored;
export type JsonObject = Record<string, AnyJson>;

/** A Kubernetes object as JSON has it. Kinds are many and open, so fields beyond metadata are read by those who know the kind. */
export type ApiObject = { apiVersion: string; kind: string; metadata: ObjectMeta; [field: string]: AnyJson };

export type OwnerReference = {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
};
export type ManagedFieldsEntry = {
  manager?: string;
  operation?: string;
  apiVersion?: string;
  time?: string;
  fieldsType?: string;
  fieldsV1?: JsonObject;
  subresource?: string;
};
export type ObjectMeta = {
  name: string;
  namespace?: string;
  generateName?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
  managedFields?: ManagedFieldsEntry[];
  selfLink?: string;
};

/** Kubernetes time: RFC 3339 in whole seconds, Z. */
export const kubernetesTime = (at: Date | number): string => new Date(at).toISOString().replace(/\.\d{3}Z$/, "Z");
