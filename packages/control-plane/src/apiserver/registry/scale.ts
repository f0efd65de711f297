/** The Scale of an object with replicas: autoscaling/v1 seen through spec.replicas, status.replicas and the selector. */
import type { AnyJson, ApiObject, JsonObject } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";

export function scaleOf(info: ResourceInfo, object: ApiObject): ApiObject {
  const paths = info.custom?.scale;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const replicas = readPath(object, paths?.specReplicasPath ?? ".spec.replicas");
  const selector =
    paths === undefined
      ? selectorText(object["spec"]?.selector, info)
      : paths.labelSelectorPath === undefined
        ? undefined
        : readPath(object, paths.labelSelectorPath);
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    },
    spec: replicas === undefined ? {} : { replicas },
    status: {
      replicas: readPath(object, paths?.statusReplicasPath ?? ".status.replicas") ?? 0,
      ...(selector === undefined ? {} : { selector }),
    },
  };
}

function selectorText(selector: JsonObject | undefined, info: ResourceInfo): string | undefined {
  if (selector === undefined) return undefined;
  if (info.storage === "/replicationcontrollers")
    return Object.entries(selector)
      .map(([key, value]) => `${key}=${value}`)
      .sort()
      .join(",");
  const labels = Object.entries((selector["matchLabels"] ?? {}) as Record<string, string>).map(
    ([key, value]) => `${key}=${value}`,
  );
  const expressions = ((selector["matchExpressions"] ?? []) as AnyJson[]).map(({ key, operator, values = [] }) => {
    const set = `(${[...values].sort().join(",")})`;
    if (operator === "In") return `${key} in ${set}`;
    if (operator === "NotIn") return `${key} notin ${set}`;
    return operator === "Exists" ? key : `!${key}`;
  });
  return [...labels, ...expressions].sort().join(",");
}

/** `.spec.replicas` → value. */
export function readPath(object: ApiObject, path: string): AnyJson {
  return path
    .split(".")
    .filter(Boolean)
    .reduce<AnyJson>((value, step) => value?.[step], object);
}

export function writePath(object: ApiObject, path: string, value: unknown): void {
  const steps = path.split(".").filter(Boolean);
  const last = steps.pop()!;
  steps.reduce<AnyJson>((at, step) => (at[step] ??= {}), object)[last] = value;
}
