/** PartialObjectMetadata: what metadata-only informers read. */
import type { ApiObject } from "../api-object.ts";

export const partialMetadata = (object: ApiObject, version: string): object => ({
  kind: "PartialObjectMetadata",
  apiVersion: `meta.k8s.io/${version}`,
  metadata: object.metadata,
});

export const partialMetadataList = (objects: readonly ApiObject[], metadata: object, version: string): object => ({
  kind: "PartialObjectMetadataList",
  apiVersion: `meta.k8s.io/${version}`,
  metadata,
  items: objects.map((object) => partialMetadata(object, version)),
});
