/** A container's environment: image, service links, envFrom, env with $(VAR) expansion, in upstream's order. Pure. */
import type { ConfigMap, Container, Pod, Secret, Service } from "@underlay/kube/objects";
import { fieldValue, resourceFieldValue } from "./downward.ts";

export type EnvSources = {
  readonly pod: Pod;
  readonly container: Container;
  readonly imageEnv: Readonly<Record<string, string>>;
  /** What `status.*` fields resolve to; the pod object may not carry them yet. */
  readonly podIps: readonly string[];
  readonly hostIp: string;
  readonly hostname: string;
  readonly services: readonly Service[];
  readonly configMap: (name: string) => ConfigMap | undefined;
  readonly secret: (name: string) => Secret | undefined;
  readonly capacity: { readonly cpu: string; readonly memory: string };
};

/** A reference that is not there: the container waits with reason CreateContainerConfigError and this message. */
export class ConfigError extends Error {}

const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** `NAME=value` entries, each name once. Throws ConfigError. */
export function containerEnv(sources: EnvSources): string[] {
  const { pod, container } = sources;
  const own = new Map<string, string>();
  const services =
    pod.spec?.enableServiceLinks === false
      ? masterServices(sources.services)
      : visibleServices(sources.services, pod.metadata.namespace ?? "");
  const serviceEnv = serviceLinks(services);
  for (const source of container.envFrom ?? []) addEnvFrom(own, source, sources);
  for (const item of container.env ?? []) {
    if (item.valueFrom) {
      const value = valueFrom(item.valueFrom as ValueFrom, sources);
      if (value !== undefined) own.set(item.name, value);
    } else {
      const known = (name: string) => own.get(name) ?? serviceEnv.get(name);
      own.set(item.name, expand(item.value ?? "", known));
    }
  }
  const all = new Map([
    ["PATH", standardPath],
    ["HOSTNAME", sources.hostname],
    ...Object.entries(sources.imageEnv),
    ...serviceEnv,
    ...own,
  ]);
  return [...all].map(([name, value]) => `${name}=${value}`);
}

/** `$(NAME)` with a known name becomes its value, `$$` one dollar; anything else stays as it is. */
export function expand(text: string, known: (name: string) => string | undefined): string {
  return text.replace(/\$\$|\$\(([^)]*)\)/g, (all: string, name: string | undefined) =>
    all === "$$" ? "$" : (known(name ?? "") ?? all),
  );
}

type ValueFrom = {
  fieldRef?: { fieldPath: string };
  resourceFieldRef?: { resource: string; containerName?: string; divisor?: string };
  configMapKeyRef?: { name?: string; key: string; optional?: boolean };
  secretKeyRef?: { name?: string; key: string; optional?: boolean };
};

function valueFrom(from: ValueFrom, sources: EnvSources): string | undefined {
  if (from.fieldRef) return fieldValue(sources.pod, from.fieldRef.fieldPath, sources);
  if (from.resourceFieldRef)
    return resourceFieldValue(sources.pod, sources.container, from.resourceFieldRef, sources.capacity);
  if (from.configMapKeyRef) {
    const { name = "", key, optional } = from.configMapKeyRef;
    const map = sources.configMap(name);
    if (!map && !optional) throw new ConfigError(`configmap "${name}" not found`);
    const value = map?.data?.[key];
    if (value === undefined && !optional)
      throw new ConfigError(`couldn't find key ${key} in ConfigMap ${sources.pod.metadata.namespace}/${name}`);
    return value;
  }
  if (from.secretKeyRef) {
    const { name = "", key, optional } = from.secretKeyRef;
    const secret = sources.secret(name);
    if (!secret && !optional) throw new ConfigError(`secret "${name}" not found`);
    const value = secret?.data?.[key];
    if (value === undefined && !optional)
      throw new ConfigError(`couldn't find key ${key} in Secret ${sources.pod.metadata.namespace}/${name}`);
    return value === undefined ? undefined : Buffer.from(value, "base64").toString("utf8");
  }
  return undefined;
}

function addEnvFrom(
  env: Map<string, string>,
  source: NonNullable<Container["envFrom"]>[number],
  sources: EnvSources,
): void {
  const prefix = source.prefix ?? "";
  if (source.configMapRef) {
    const name = source.configMapRef.name ?? "";
    const map = sources.configMap(name);
    if (!map && !source.configMapRef.optional) throw new ConfigError(`configmap "${name}" not found`);
    for (const [key, value] of Object.entries(map?.data ?? {})) env.set(prefix + key, value);
  }
  if (source.secretRef) {
    const name = source.secretRef.name ?? "";
    const secret = sources.secret(name);
    if (!secret && !source.secretRef.optional) throw new ConfigError(`secret "${name}" not found`);
    for (const [key, value] of Object.entries(secret?.data ?? {}))
      env.set(prefix + key, Buffer.from(value, "base64").toString("utf8"));
  }
}

function masterServices(services: readonly Service[]): Service[] {
  return services.filter((s) => s.metadata.namespace === "default" && s.metadata.name === "kubernetes");
}

/** Services of the pod's own namespace, and `kubernetes`. */
function visibleServices(services: readonly Service[], namespace: string): Service[] {
  const master = namespace === "default" ? [] : masterServices(services);
  return [...services.filter((s) => s.metadata.namespace === namespace), ...master];
}

/** `REDIS_SERVICE_HOST`, `REDIS_PORT_6379_TCP_ADDR`, … for every service with a cluster address. */
export function serviceLinks(services: readonly Service[]): Map<string, string> {
  const env = new Map<string, string>();
  for (const service of services) {
    const address = service.spec?.clusterIP;
    const ports = service.spec?.ports ?? [];
    const first = ports[0];
    if (!address || address === "None" || !first) continue;
    const name = variableName(service.metadata.name ?? "");
    env.set(`${name}_SERVICE_HOST`, address);
    env.set(`${name}_SERVICE_PORT`, String(first.port));
    for (const port of ports)
      if (port.name) env.set(`${name}_SERVICE_PORT_${variableName(port.name)}`, String(port.port));
    const url = (port: { port: number; protocol?: string | undefined }) =>
      `${(port.protocol ?? "TCP").toLowerCase()}://${host(address)}:${port.port}`;
    env.set(`${name}_PORT`, url(first));
    for (const port of ports) {
      const protocol = port.protocol ?? "TCP";
      const prefix = `${name}_PORT_${port.port}_${protocol}`;
      env.set(prefix, url(port));
      env.set(`${prefix}_PROTO`, protocol.toLowerCase());
      env.set(`${prefix}_PORT`, String(port.port));
      env.set(`${prefix}_ADDR`, address);
    }
  }
  return env;
}

const variableName = (text: string) => text.toUpperCase().replaceAll("-", "_").replaceAll(".", "_");
const host = (address: string) => (address.includes(":") ? `[${address}]` : address);
