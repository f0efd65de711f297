/** The quality-of-service class of a pod spec: Guaranteed, Burstable or BestEffort. */
import type { JsonObject } from "../api-object.ts";

export function podQosClass(spec: JsonObject): string {
  const containers = [...(spec["containers"] ?? []), ...(spec["initContainers"] ?? [])];
  let any = false;
  let guaranteed = containers.length > 0;
  for (const { resources = {} } of containers) {
    for (const resource of ["cpu", "memory"]) {
      const request = resources.requests?.[resource];
      const limit = resources.limits?.[resource];
      if (given(request) || given(limit)) any = true;
      if (!given(limit) || (request ?? limit) !== limit) guaranteed = false;
    }
  }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}

const given = (quantity: string | undefined): boolean => quantity !== undefined && quantity !== "0";
