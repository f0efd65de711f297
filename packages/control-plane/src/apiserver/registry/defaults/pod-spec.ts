/** Defaults of pods and of the pod templates inside workloads. */
import type { JsonObject } from "../../api-object.ts";

/** Sets a field that is absent. */
export function put(object: JsonObject, field: string, value: unknown): void {
  object[field] ??= value;
}

/** A pod's own spec: what templates leave open as well. */
export function defaultPod(spec: JsonObject): void {
  put(spec, "enableServiceLinks", true);
  for (const container of [...(spec["containers"] ?? []), ...(spec["initContainers"] ?? [])]) {
    const { resources } = container;
    if (resources?.limits !== undefined) resources.requests = { ...resources.limits, ...resources.requests };
    if (spec["hostNetwork"] !== true) continue;
    for (const port of container.ports ?? []) port.hostPort ||= port.containerPort;
  }
  defaultPodSpec(spec);
}

export function defaultPodTemplate(template: JsonObject | undefined): void {
  if (template === undefined) return;
  template["spec"] ??= {};
  defaultPodSpec(template["spec"]);
}

/** The same for pods and templates (a pod's account, priority and tolerations are admission's). */
export function defaultPodSpec(spec: JsonObject): void {
  put(spec, "restartPolicy", "Always");
  put(spec, "dnsPolicy", "ClusterFirst");
  put(spec, "schedulerName", "default-scheduler");
  put(spec, "terminationGracePeriodSeconds", 30);
  put(spec, "securityContext", {});
  if (spec["serviceAccountName"] !== undefined) spec["serviceAccount"] = spec["serviceAccountName"];
  else if (spec["serviceAccount"] !== undefined) spec["serviceAccountName"] = spec["serviceAccount"];
  for (const flag of ["hostNetwork", "hostPID", "hostIPC"]) if (spec[flag] === false) delete spec[flag];
  for (const container of spec["containers"] ?? []) defaultContainer(container);
  for (const container of spec["initContainers"] ?? []) defaultContainer(container);
  for (const container of spec["ephemeralContainers"] ?? []) defaultContainer(container);
  for (const volume of spec["volumes"] ?? []) defaultVolume(volume);
}

function defaultContainer(container: JsonObject): void {
  put(container, "imagePullPolicy", pullPolicy(container["image"] ?? ""));
  put(container, "terminationMessagePath", "/dev/termination-log");
  put(container, "terminationMessagePolicy", "File");
  put(container, "resources", {});
  for (const port of container["ports"] ?? []) put(port, "protocol", "TCP");
  for (const env of container["env"] ?? []) {
    if (env.valueFrom?.fieldRef !== undefined) put(env.valueFrom.fieldRef, "apiVersion", "v1");
    if (env.valueFrom?.resourceFieldRef !== undefined) put(env.valueFrom.resourceFieldRef, "divisor", "0");
  }
  for (const name of ["livenessProbe", "readinessProbe", "startupProbe"])
    if (container[name] !== undefined) defaultProbe(container[name]);
  for (const hook of [container["lifecycle"]?.postStart, container["lifecycle"]?.preStop]) {
    if (hook?.httpGet !== undefined) defaultHttpGet(hook.httpGet);
  }
}

function pullPolicy(image: string): string {
  if (image.includes("@")) return "IfNotPresent";
  const tag = /:([^/:]+)$/.exec(image)?.[1];
  return tag === undefined || tag === "latest" ? "Always" : "IfNotPresent";
}

function defaultProbe(probe: JsonObject): void {
  probe["timeoutSeconds"] ||= 1;
  probe["periodSeconds"] ||= 10;
  probe["successThreshold"] ||= 1;
  probe["failureThreshold"] ||= 3;
  if (probe["httpGet"] !== undefined) defaultHttpGet(probe["httpGet"]);
  if (probe["grpc"] !== undefined) put(probe["grpc"], "service", "");
}

function defaultHttpGet(get: JsonObject): void {
  get["path"] ||= "/";
  get["scheme"] ||= "HTTP";
}

const sources = ["configMap", "secret", "downwardAPI", "projected"];

function defaultVolume(volume: JsonObject): void {
  if (Object.keys(volume).length === 1) volume["emptyDir"] = {};
  for (const source of sources) if (volume[source] !== undefined) put(volume[source], "defaultMode", 420);
  if (volume["hostPath"] !== undefined) put(volume["hostPath"], "type", "");
  for (const item of volume["downwardAPI"]?.items ?? [])
    if (item.fieldRef !== undefined) put(item.fieldRef, "apiVersion", "v1");
  for (const source of volume["projected"]?.sources ?? []) {
    if (source.serviceAccountToken !== undefined) put(source.serviceAccountToken, "expirationSeconds", 3600);
    for (const item of source.downwardAPI?.items ?? [])
      if (item.fieldRef !== undefined) put(item.fieldRef, "apiVersion", "v1");
  }
  if (volume["ephemeral"]?.volumeClaimTemplate !== undefined)
    put((volume["ephemeral"].volumeClaimTemplate.spec ??= {}), "volumeMode", "Filesystem");
}
