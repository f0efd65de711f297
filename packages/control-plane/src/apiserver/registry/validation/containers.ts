/** Validation of containers: names, images, ports, environment, mounts, resources, probes. */
import type { JsonObject } from "../../api-object.ts";
import { parseQuantity } from "@underlay/kube/quantity";
import type { Checks } from "./checks.ts";
import { portNameProblems } from "./checks.ts";

export type ContainerRules = {
  readonly volumes: ReadonlySet<string>;
  readonly hostNetwork: boolean;
  readonly kind: "containers" | "initContainers" | "ephemeralContainers";
};

export function validateContainers(
  checks: Checks,
  containers: readonly JsonObject[],
  at: string,
  names: Set<string>,
  rules: ContainerRules,
): void {
  containers.forEach((container, index) => validateContainer(checks, container, `${at}[${index}]`, names, rules));
}

function validateContainer(
  checks: Checks,
  container: JsonObject,
  at: string,
  names: Set<string>,
  rules: ContainerRules,
): void {
  const { name, image } = container;
  if (!name) checks.required(`${at}.name`);
  else {
    checks.label(`${at}.name`, name);
    if (names.has(name)) checks.duplicate(`${at}.name`, name);
    names.add(name);
  }
  if (!image) checks.required(`${at}.image`);
  else if (image !== image.trim()) checks.invalid(`${at}.image`, image, "must not have leading or trailing whitespace");
  checks.oneOf(`${at}.imagePullPolicy`, container["imagePullPolicy"], ["Always", "IfNotPresent", "Never"]);
  checks.oneOf(`${at}.terminationMessagePolicy`, container["terminationMessagePolicy"], [
    "FallbackToLogsOnError",
    "File",
  ]);
  validatePorts(checks, container["ports"] ?? [], `${at}.ports`, rules.hostNetwork);
  validateEnvironment(checks, container["env"] ?? [], `${at}.env`);
  validateMounts(checks, container["volumeMounts"] ?? [], `${at}.volumeMounts`, rules.volumes);
  validateResources(checks, container["resources"] ?? {}, `${at}.resources`);
  const sidecar = rules.kind === "initContainers" && container["restartPolicy"] === "Always";
  if (rules.kind === "initContainers") checks.oneOf(`${at}.restartPolicy`, container["restartPolicy"], ["Always"]);
  for (const probe of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (container[probe] === undefined) continue;
    if (rules.kind === "initContainers" && !sidecar)
      checks.forbidden(`${at}.${probe}`, "may not be set for init containers without restartPolicy=Always");
    validateProbe(checks, container[probe], `${at}.${probe}`, probe !== "readinessProbe");
  }
  for (const hook of ["postStart", "preStop"]) {
    if (container["lifecycle"]?.[hook] !== undefined)
      validateHandler(checks, container["lifecycle"][hook], `${at}.lifecycle.${hook}`, [
        "exec",
        "httpGet",
        "tcpSocket",
        "sleep",
      ]);
  }
}

function validatePorts(checks: Checks, ports: readonly JsonObject[], at: string, hostNetwork: boolean): void {
  const names = new Set<string>();
  ports.forEach((port, index) => {
    const { name, containerPort, hostPort, protocol } = port;
    if (name) {
      const problems = portNameProblems(name);
      for (const text of problems) checks.invalid(`${at}[${index}].name`, name, text);
      if (problems.length === 0 && names.has(name)) checks.duplicate(`${at}[${index}].name`, name);
      names.add(name);
    }
    if (!containerPort) checks.required(`${at}[${index}].containerPort`);
    else checks.port(`${at}[${index}].containerPort`, containerPort);
    if (hostPort) checks.port(`${at}[${index}].hostPort`, hostPort);
    if (hostNetwork && hostPort && hostPort !== containerPort)
      checks.invalid(`${at}[${index}].hostPort`, hostPort, "must match `containerPort` when `hostNetwork` is true");
    checks.oneOf(`${at}[${index}].protocol`, protocol, ["SCTP", "TCP", "UDP"]);
  });
}

const envSources = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];

function validateEnvironment(checks: Checks, env: readonly JsonObject[], at: string): void {
  env.forEach(({ name, value, valueFrom }, index) => {
    const field = `${at}[${index}]`;
    if (!name) checks.required(`${field}.name`);
    else if (!/^[ -<>-~]+$/.test(name))
      checks.invalid(
        `${field}.name`,
        name,
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
      );
    if (valueFrom === undefined) return;
    const sources = envSources.filter((source) => valueFrom[source] !== undefined);
    if (sources.length === 0)
      checks.invalid(
        `${field}.valueFrom`,
        "",
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
      );
    if (sources.length > 1)
      checks.invalid(`${field}.valueFrom`, "", "may not have more than one field specified at a time");
    if (value) checks.invalid(`${field}.valueFrom`, "", "may not be specified when `value` is not empty");
    for (const source of ["configMapKeyRef", "secretKeyRef"]) {
      if (valueFrom[source] !== undefined && !valueFrom[source].key)
        checks.required(`${field}.valueFrom.${source}.key`);
    }
  });
}

function validateMounts(checks: Checks, mounts: readonly JsonObject[], at: string, volumes: ReadonlySet<string>): void {
  const paths = new Set<string>();
  mounts.forEach(({ name, mountPath, subPath, subPathExpr }, index) => {
    if (!name) checks.required(`${at}[${index}].name`);
    else if (!volumes.has(name)) checks.notFound(`${at}[${index}].name`, name);
    if (!mountPath) checks.required(`${at}[${index}].mountPath`);
    else if (paths.has(mountPath)) checks.invalid(`${at}[${index}].mountPath`, mountPath, "must be unique");
    paths.add(mountPath);
    if (subPath && subPathExpr)
      checks.invalid(`${at}[${index}].subPathExpr`, subPathExpr, "subPathExpr and subPath are mutually exclusive");
    if (subPath?.startsWith("/") || subPath?.split("/").includes(".."))
      checks.invalid(
        `${at}[${index}].subPath`,
        subPath,
        subPath.startsWith("/") ? "must be a relative path" : "must not contain '..'",
      );
  });
}

const standard = new Set(["cpu", "memory", "ephemeral-storage"]);

function validateResources(checks: Checks, resources: JsonObject, at: string): void {
  const { limits = {}, requests = {} } = resources as {
    limits?: Record<string, string>;
    requests?: Record<string, string>;
  };
  for (const [group, values] of [
    ["limits", limits],
    ["requests", requests],
  ] as const) {
    for (const [name, quantity] of Object.entries(values)) {
      const field = `${at}.${group}[${name}]`;
      if (!standard.has(name) && !name.startsWith("hugepages-")) {
        if (!name.includes("/")) checks.invalid(field, name, "must be a standard resource type or fully qualified");
        else if (!Number.isInteger(parseQuantity(quantity))) checks.invalid(field, quantity, "must be an integer");
      }
      if (parseQuantity(quantity) < 0) checks.invalid(field, quantity, "must be greater than or equal to 0");
    }
  }
  for (const [name, request] of Object.entries(requests)) {
    const limit = limits[name];
    if (limit === undefined) {
      if (name.includes("/")) checks.required(`${at}.limits`, "Limit must be set for non overcommitable resources");
      continue;
    }
    if (name.includes("/") && limit !== request)
      checks.invalid(`${at}.requests`, request, `must be equal to ${name} limit of ${limit}`);
    else if (parseQuantity(request) > parseQuantity(limit))
      checks.invalid(`${at}.requests`, request, `must be less than or equal to ${name} limit of ${limit}`);
  }
}

function validateProbe(checks: Checks, probe: JsonObject, at: string, onlyOneSuccess: boolean): void {
  validateHandler(checks, probe, at, ["exec", "httpGet", "tcpSocket", "grpc"]);
  for (const field of [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
  ])
    checks.notNegative(`${at}.${field}`, probe[field]);
  if (onlyOneSuccess && (probe["successThreshold"] ?? 1) !== 1)
    checks.invalid(`${at}.successThreshold`, probe["successThreshold"], "must be 1");
}

function validateHandler(checks: Checks, handler: JsonObject, at: string, kinds: readonly string[]): void {
  const given = kinds.filter((kind) => handler[kind] !== undefined);
  if (given.length === 0) checks.required(at, "must specify a handler type");
  for (const extra of given.slice(1)) checks.forbidden(`${at}.${extra}`, "may not specify more than 1 handler type");
  if (handler["exec"] !== undefined && (handler["exec"].command ?? []).length === 0)
    checks.required(`${at}.exec.command`);
  for (const kind of ["httpGet", "tcpSocket"])
    if (handler[kind] !== undefined) checks.portOrName(`${at}.${kind}.port`, handler[kind].port ?? 0);
  checks.oneOf(`${at}.httpGet.scheme`, handler["httpGet"]?.scheme, ["HTTP", "HTTPS"]);
}
