/** Defaults of a Service that need no allocation (addresses and node ports: ../service-allocation.ts). */
import type { ApiObject } from "../../api-object.ts";
import { put } from "./pod-spec.ts";

export function defaultService(service: ApiObject): void {
  const spec = (service["spec"] ??= {});
  put(spec, "type", "ClusterIP");
  put(spec, "sessionAffinity", "None");
  if (spec.sessionAffinity === "ClientIP") {
    spec.sessionAffinityConfig ??= {};
    spec.sessionAffinityConfig.clientIP ??= {};
    put(spec.sessionAffinityConfig.clientIP, "timeoutSeconds", 10800);
  } else delete spec.sessionAffinityConfig;
  for (const port of spec.ports ?? []) {
    put(port, "protocol", "TCP");
    if (port.targetPort === undefined || port.targetPort === 0 || port.targetPort === "") port.targetPort = port.port;
  }
  if (spec.type === "ExternalName") return;
  put(spec, "internalTrafficPolicy", "Cluster");
  if (spec.type === "NodePort" || spec.type === "LoadBalancer") put(spec, "externalTrafficPolicy", "Cluster");
  if (spec.type === "LoadBalancer") put(spec, "allocateLoadBalancerNodePorts", true);
}
