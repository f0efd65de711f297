/** What schemas are called in OpenAPI documents. */
import type { ResourceInfo } from "../resource-info.ts";
import type { Stored } from "../stored.ts";

export type Schema = Record<string, Stored>;
export type Schemas = Record<string, Schema>;

/** Component name of a resource's own kind: `io.k8s.api.core.v1.Pod`, `com.example.v1.Widget`. */
export function componentName(info: ResourceInfo): string {
  if (info.schema !== undefined) return info.schema;
  return `${info.group.split(".").reverse().join(".")}.${info.version}.${info.kind}`;
}
