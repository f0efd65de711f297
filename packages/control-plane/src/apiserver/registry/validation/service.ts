/** Validation of Services (allocation's own errors: ../service-allocation.ts). */
import type { FieldError } from "../../api-error.ts";
import type { ApiObject, JsonObject } from "../../api-object.ts";
import { Checks } from "./checks.ts";

export function validateService(service: ApiObject, old: ApiObject | undefined): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = service["spec"];
  const { type, clusterIP } = spec;
  checks.oneOf("spec.type", type, ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
  checks.oneOf("spec.sessionAffinity", spec["sessionAffinity"], ["ClientIP", "None"]);
  const timeout = spec["sessionAffinityConfig"]?.clientIP?.timeoutSeconds;
  if (timeout !== undefined && (timeout <= 0 || timeout > 86400))
    checks.invalid(
      "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
      timeout,
      "must be greater than 0 and less than 86400",
    );
  checks.labels("spec.selector", spec["selector"]);
  const ports: JsonObject[] = spec["ports"] ?? [];
  if (type === "ExternalName") {
    if (!spec["externalName"]) checks.required("spec.externalName");
    else checks.subdomain("spec.externalName", String(spec["externalName"]).replace(/\.$/, ""));
    if (clusterIP && clusterIP !== "None")
      checks.forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services");
  } else {
    if (ports.length === 0 && clusterIP !== "None") checks.required("spec.ports");
    if (clusterIP === "None" && type !== "ClusterIP")
      checks.invalid("spec.clusterIPs[0]", "None", `may not be set to 'None' for ${type} services`);
    checks.oneOf("spec.internalTrafficPolicy", spec["internalTrafficPolicy"], ["Cluster", "Local"]);
  }
  validateServicePorts(checks, ports, type);
  const external = type === "NodePort" || type === "LoadBalancer" || (spec["externalIPs"] ?? []).length > 0;
  if (external) checks.oneOf("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], ["Cluster", "Local"]);
  else if (spec["externalTrafficPolicy"])
    checks.invalid(
      "spec.externalTrafficPolicy",
      spec["externalTrafficPolicy"],
      "may only be set for externally-accessible services",
    );
  if (type !== "LoadBalancer") {
    for (const field of ["loadBalancerClass", "allocateLoadBalancerNodePorts"]) {
      if (spec[field] !== undefined)
        checks.forbidden(`spec.${field}`, "may only be used when `type` is 'LoadBalancer'");
    }
  }
  checks.oneOf("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], ["SingleStack", "PreferDualStack", "RequireDualStack"]);
  if (spec["ipFamilyPolicy"] === "RequireDualStack")
    checks.invalid("spec.ipFamilyPolicy", "RequireDualStack", "this cluster is not configured for dual-stack services");
  if ((spec["ipFamilies"] ?? []).includes("IPv6"))
    checks.invalid("spec.ipFamilies[0]", "IPv6", "not configured on this cluster");
  if (old !== undefined) validateServiceUpdate(checks, spec, old["spec"]);
  return checks.errors;
}

function validateServicePorts(checks: Checks, ports: readonly JsonObject[], type: string): void {
  const names = new Set<string>();
  const keys = new Set<string>();
  ports.forEach((port, index) => {
    const at = `spec.ports[${index}]`;
    if (!port["name"]) {
      if (ports.length > 1) checks.required(`${at}.name`);
    } else {
      checks.label(`${at}.name`, port["name"]);
      if (names.has(port["name"])) checks.duplicate(`${at}.name`, port["name"]);
      names.add(port["name"]);
    }
    checks.port(`${at}.port`, port["port"] ?? 0);
    checks.oneOf(`${at}.protocol`, port["protocol"], ["SCTP", "TCP", "UDP"]);
    checks.portOrName(`${at}.targetPort`, port["targetPort"]);
    if (port["nodePort"] && (type === "ClusterIP" || type === "ExternalName"))
      checks.forbidden(`${at}.nodePort`, `may not be used when \`type\` is '${type}'`);
    const key = `${port["protocol"]}/${port["port"]}`;
    if (keys.has(key)) checks.duplicate(at, { protocol: port["protocol"], port: port["port"] });
    keys.add(key);
  });
}

function validateServiceUpdate(checks: Checks, spec: JsonObject, old: JsonObject): void {
  if (spec["type"] === "ExternalName" || old["type"] === "ExternalName") return;
  if (old["clusterIP"] && spec["clusterIP"] !== old["clusterIP"])
    checks.invalid("spec.clusterIPs[0]", spec["clusterIPs"] ?? [spec["clusterIP"]], "may not change once set");
  if (
    old["type"] === "LoadBalancer" &&
    spec["type"] === "LoadBalancer" &&
    old["loadBalancerClass"] !== spec["loadBalancerClass"]
  ) {
    checks.invalid("spec.loadBalancerClass", spec["loadBalancerClass"] ?? null, "may not change once set");
  }
}

/** Values a client may leave out on update come from the old object; those its new type has no use for go. */
export function prepareService(service: ApiObject, old: ApiObject | undefined): void {
  if (old === undefined) {
    service["status"] = { loadBalancer: {} };
    return;
  }
  const spec: JsonObject = service["spec"];
  const before: JsonObject = old["spec"];
  if (spec["type"] === "ExternalName") {
    for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"])
      if (spec[field] === undefined || JSON.stringify(spec[field]) === JSON.stringify(before[field]))
        delete spec[field];
  } else if (!spec["clusterIP"]) {
    if ((spec["clusterIPs"] ?? []).length > 0) spec["clusterIP"] = spec["clusterIPs"][0];
    else if (before["type"] !== "ExternalName")
      for (const field of ["clusterIP", "clusterIPs"]) spec[field] = structuredClone(before[field]);
  }
  const keepsNodePorts = spec["type"] === "NodePort" || spec["type"] === "LoadBalancer";
  for (const port of (spec["ports"] ?? []) as JsonObject[]) {
    if (keepsNodePorts || !port["nodePort"]) continue;
    if (((before["ports"] ?? []) as JsonObject[]).some((p) => p["nodePort"] === port["nodePort"]))
      delete port["nodePort"];
  }
  if (before["type"] !== spec["type"]) {
    if (!keepsNodePorts && spec["externalTrafficPolicy"] === before["externalTrafficPolicy"])
      delete spec["externalTrafficPolicy"];
    if (spec["type"] !== "LoadBalancer")
      for (const field of ["allocateLoadBalancerNodePorts", "loadBalancerClass"])
        if (spec[field] === before[field]) delete spec[field];
  }
}
