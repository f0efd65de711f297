/** Starts one container: image, environment, files, then the shim; every failure becomes the waiting reason upstream would give. */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ConfigMap, Container, Pod, Secret } from "@underlay/kube/objects";
import type { ResolvedImage } from "@underlay/images/registry";
import type { ContainerRecord } from "./container-record.ts";
import { containerDir, shimContainer, terminationLog } from "./container-spec.ts";
import { nonRootViolation } from "./container-user.ts";
import { ConfigError, containerEnv } from "./env.ts";
import type { KubeletContext } from "./kubelet-context.ts";
import type { ObjectCache } from "./object-cache.ts";
import { podDir } from "./places.ts";
import { hostsFile, podHostname, resolvConf } from "./resolver-files.ts";
import type { PodProcesses } from "./runtime.ts";

export type StartInput = {
  readonly context: KubeletContext;
  readonly cache: ObjectCache;
  readonly pod: Pod;
  readonly container: Container;
  readonly record: ContainerRecord;
  readonly shim: PodProcesses;
  readonly volumes: ReadonlyMap<string, string>;
  readonly podIps: readonly string[];
  readonly event: (type: "Normal" | "Warning", reason: string, message: string) => void;
};

export type StartResult = { readonly ok: true } | { readonly ok: false; readonly retryAfterMs: number };

export async function startContainer(input: StartInput): Promise<StartResult> {
  const { context, pod, container, record, shim, event } = input;
  const image = await findImage(input);
  if (!image.ok) return image;
  const uid = pod.metadata.uid ?? "";
  let env: string[];
  try {
    env = await environment(input, image.image.env);
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err;
    return refuse(input, "CreateContainerConfigError", err.message);
  }
  const hasRun = record.ended !== undefined || record.previous !== undefined;
  const attempt = hasRun ? record.restarts + 1 : record.restarts;
  const id = randomBytes(32).toString("hex");
  const spec = shimContainer({
    pod,
    container,
    image: image.image,
    imageReference: image.reference,
    places: context.places,
    id,
    attempt,
    env,
    volumes: input.volumes,
  });
  const violation = nonRootViolation(pod, container, spec.uid);
  if (violation) return refuse(input, "CreateContainerConfigError", violation);
  await prepareFiles(input, attempt, uid);
  if (record.ended) context.backOff.next(`${uid}/${container.name}`, Date.parse(record.ended.finishedAt), Date.now());
  event("Normal", "Created", `Created container: ${container.name}`);
  const started = await shim.start(spec);
  record.restarts = attempt;
  record.previous = record.ended ?? record.previous;
  record.waiting = undefined;
  record.forgotten = false;
  record.imageId = image.imageId;
  record.image = container.image;
  if (!started.ok) {
    const now = new Date().toISOString();
    event("Warning", "Failed", `Error: ${started.error}`);
    record.ended = {
      containerId: id,
      exitCode: 128,
      reason: "StartError",
      message: `failed to start container "${id}": ${started.error}`,
      startedAt: now,
      finishedAt: now,
    };
    record.running = undefined;
    return { ok: false, retryAfterMs: 10 };
  }
  record.ended = undefined;
  record.running = {
    ...started.state,
    ...(image.image.user ? { imageUser: image.image.user } : {}),
    imageWorkingDir: image.image.workingDir,
  };
  event("Normal", "Started", `Started container ${container.name}`);
  return { ok: true };
}

type FoundImage = Extract<ResolvedImage, { ok: true }>;

async function findImage(input: StartInput): Promise<FoundImage | { ok: false; retryAfterMs: number }> {
  const { context, pod, container, record, event } = input;
  const reference = container.image ?? "";
  const key = `${pod.metadata.uid}/${container.name}/${reference}`;
  const now = Date.now();
  const left = context.imageBackOff.remaining(key, context.imageBackOff.lastAt(key), now);
  if (left > 0) {
    if (record.waiting?.reason !== "ImagePullBackOff") {
      event("Normal", "BackOff", `Back-off pulling image "${reference}"`);
      event("Warning", "Failed", "Error: ImagePullBackOff");
    }
    record.waiting = {
      reason: "ImagePullBackOff",
      message: `Back-off pulling image "${reference}": ErrImagePull: ${await imageMessage(context, reference)}`,
    };
    return { ok: false, retryAfterMs: left };
  }
  const found = await context.runtime.findImage(reference);
  if (found.ok) {
    event("Normal", "Pulled", `Container image "${reference}" already present on machine`);
    return found;
  }
  if (container.imagePullPolicy === "Never") {
    event("Warning", "ErrImageNeverPull", `Container image "${reference}" is not present with pull policy of Never`);
    record.waiting = {
      reason: "ErrImageNeverPull",
      message: `Container image "${reference}" is not present with pull policy of Never`,
    };
    return { ok: false, retryAfterMs: 10_000 };
  }
  context.imageBackOff.next(key, now, now);
  event("Normal", "Pulling", `Pulling image "${reference}"`);
  event("Warning", "Failed", `Failed to pull image "${reference}": ${found.message}`);
  event("Warning", "Failed", "Error: ErrImagePull");
  record.waiting = { reason: "ErrImagePull", message: found.message };
  return { ok: false, retryAfterMs: 500 };
}

async function imageMessage(context: KubeletContext, reference: string): Promise<string> {
  const found = await context.runtime.findImage(reference);
  return found.ok ? "" : found.message;
}

function refuse(input: StartInput, reason: string, message: string): StartResult {
  if (input.record.waiting?.message !== message) input.event("Warning", "Failed", `Error: ${message}`);
  input.record.waiting = { reason, message };
  return { ok: false, retryAfterMs: 5000 };
}

async function environment(input: StartInput, imageEnv: Readonly<Record<string, string>>): Promise<string[]> {
  const { context, cache, pod, container, podIps } = input;
  const namespace = pod.metadata.namespace ?? "";
  const configMaps = new Map<string, ConfigMap | undefined>();
  const secrets = new Map<string, Secret | undefined>();
  for (const source of container.envFrom ?? []) {
    if (source.configMapRef?.name) configMaps.set(source.configMapRef.name, undefined);
    if (source.secretRef?.name) secrets.set(source.secretRef.name, undefined);
  }
  for (const item of container.env ?? []) {
    if (item.valueFrom?.configMapKeyRef?.name) configMaps.set(item.valueFrom.configMapKeyRef.name, undefined);
    if (item.valueFrom?.secretKeyRef?.name) secrets.set(item.valueFrom.secretKeyRef.name, undefined);
  }
  for (const name of configMaps.keys()) configMaps.set(name, await cache.configMap(namespace, name, true));
  for (const name of secrets.keys()) secrets.set(name, await cache.secret(namespace, name, true));
  return containerEnv({
    pod,
    container,
    imageEnv,
    podIps,
    hostIp: context.settings.nodeIp,
    hostname: pod.spec?.hostNetwork ? context.settings.privateDnsName : podHostname(pod),
    services: context.services.list(),
    configMap: (name) => configMaps.get(name),
    secret: (name) => secrets.get(name),
    capacity: context.settings,
  });
}

/** The termination message file, sub-paths of volumes that do not exist yet, and no leftovers of older runs. */
async function prepareFiles(input: StartInput, attempt: number, uid: string): Promise<void> {
  const { context, pod, container, volumes } = input;
  const { places } = context;
  const log = terminationLog(places, uid, container.name, attempt);
  await mkdir(dirname(log), { recursive: true });
  await writeFile(log, "", { mode: 0o666 });
  await chmod(log, 0o666);
  if (attempt >= 2) await rm(containerDir(places, uid, container.name, attempt - 2), { recursive: true, force: true });
  for (const mount of container.volumeMounts ?? []) {
    const source = volumes.get(mount.name);
    if (source === undefined || !mount.subPath) continue;
    const path = join(source, mount.subPath);
    const exists = await stat(path).then(
      () => true,
      () => false,
    );
    if (!exists) {
      await mkdir(path, { recursive: true });
      if (pod.spec?.securityContext?.fsGroup !== undefined) await chmod(path, 0o2777);
    }
  }
}

/** The files every container of the pod shares: hosts, resolv.conf, hostname. */
export async function writePodFiles(pod: Pod, context: KubeletContext, podIps: readonly string[]): Promise<void> {
  const dir = podDir(context.places, pod.metadata.uid ?? "");
  const { settings } = context;
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, "etc-hosts"), hostsFile(pod, podIps, settings.clusterDomain, context.nodeHosts));
  await writeFile(
    join(dir, "resolv.conf"),
    resolvConf(pod, {
      clusterDns: settings.clusterDns,
      clusterDomain: settings.clusterDomain,
      nodeResolvConf: context.nodeResolvConf,
    }),
  );
  await writeFile(join(dir, "hostname"), `${pod.spec?.hostNetwork ? settings.privateDnsName : podHostname(pod)}\n`);
}
