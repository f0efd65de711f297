/**
 * A pod's volumes on its node: made before the first container starts, refreshed while the pod runs, removed after it.
 * Files of ConfigMap, Secret, downward API and projected volumes are swapped all at once through `..data`, as upstream's atomic writer
 * does, so that a reader never sees half an update.
 */
import {
  chmod,
  chown,
  lchown,
  mkdir,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ConfigMap, Pod, Secret, Volume } from "@underlay/kube/objects";
import { fieldValue, resourceFieldValue } from "./downward.ts";
import { podDir, volumeDir, type Places } from "./places.ts";
import { run } from "./shim-client.ts";

export type VolumeSources = {
  readonly configMap: (name: string) => Promise<ConfigMap | undefined>;
  readonly secret: (name: string) => Promise<Secret | undefined>;
  readonly token: (request: { audience?: string | undefined; expirationSeconds: number }) => Promise<string>;
  readonly hostIp: string;
  readonly podIps: () => readonly string[];
  readonly capacity: { readonly cpu: string; readonly memory: string };
};

/** A volume that cannot be made now: event FailedMount, tried again. */
export class MountError extends Error {}

type File = { readonly data: Buffer; readonly mode: number };

/** Makes (or refreshes) all volumes; the result maps a volume's name to its place on the node. */
export async function prepareVolumes(pod: Pod, places: Places, sources: VolumeSources): Promise<Map<string, string>> {
  const made = new Map<string, string>();
  for (const volume of pod.spec?.volumes ?? [])
    made.set(volume.name, await prepareVolume(pod, volume, places, sources));
  return made;
}

/** Only the volumes whose contents can change while the pod runs. */
export async function refreshVolumes(pod: Pod, places: Places, sources: VolumeSources): Promise<void> {
  for (const volume of pod.spec?.volumes ?? []) {
    if (volume.configMap || volume.secret || volume.downwardAPI || volume.projected)
      await prepareVolume(pod, volume, places, sources);
  }
}

async function prepareVolume(pod: Pod, volume: Volume, places: Places, sources: VolumeSources): Promise<string> {
  const uid = pod.metadata.uid ?? "";
  const fsGroup = pod.spec?.securityContext?.fsGroup;
  if (volume.hostPath) return prepareHostPath(volume.hostPath.path, volume.hostPath.type ?? "");
  if (volume.emptyDir) {
    const dir = volumeDir(places, uid, "empty-dir", volume.name);
    await prepareEmptyDir(dir, volume.emptyDir.medium === "Memory", volume.emptyDir.sizeLimit, fsGroup);
    return dir;
  }
  const kind = volume.configMap
    ? "configmap"
    : volume.secret
      ? "secret"
      : volume.downwardAPI
        ? "downward-api"
        : volume.projected
          ? "projected"
          : undefined;
  if (!kind) {
    const type =
      Object.keys(volume).find((key) => key !== "name" && volume[key as keyof Volume] !== undefined) ?? "unknown";
    throw new MountError(
      `MountVolume.SetUp failed for volume "${volume.name}" : volumes of type ${type} are not supported on this node`,
    );
  }
  const dir = volumeDir(places, uid, kind, volume.name);
  const files = await volumeFiles(pod, volume, sources);
  await writeAtomically(dir, files, fsGroup);
  return dir;
}

async function prepareEmptyDir(
  dir: string,
  inMemory: boolean,
  sizeLimit: string | undefined,
  fsGroup: number | undefined,
): Promise<void> {
  const exists = await stat(dir).then(
    () => true,
    () => false,
  );
  if (exists) return;
  await mkdir(dir, { recursive: true });
  if (inMemory) {
    const { quantityValue } = await import("@underlay/kube/quantity");
    const size = sizeLimit ? `,size=${quantityValue(sizeLimit)}` : "";
    await run("mount", ["-t", "tmpfs", "-o", `nosuid,nodev,mode=777${size}`, "tmpfs", dir]);
  }
  await chmod(dir, 0o777);
  if (fsGroup !== undefined) {
    await chown(dir, 0, fsGroup);
    await chmod(dir, 0o2777);
  }
}

async function prepareHostPath(path: string, type: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  const wrong = (what: string) =>
    new MountError(`MountVolume.SetUp failed for hostPath type check: ${path} is not a ${what}`);
  switch (type) {
    case "DirectoryOrCreate":
      if (!found) await mkdir(path, { recursive: true });
      else if (!found.isDirectory()) throw wrong("directory");
      return path;
    case "FileOrCreate":
      if (!found) {
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, "");
      } else if (!found.isFile()) throw wrong("file");
      return path;
    case "Directory":
      if (!found?.isDirectory()) throw wrong("directory");
      return path;
    case "File":
      if (!found?.isFile()) throw wrong("file");
      return path;
    case "Socket":
      if (!found?.isSocket()) throw wrong("socket file");
      return path;
    case "CharDevice":
    case "BlockDevice":
      if (!found || !(type === "CharDevice" ? found.isCharacterDevice() : found.isBlockDevice()))
        throw wrong(`${type}`);
      return path;
    default:
      // No type: nothing is checked, and what does not exist is made as a directory, as container runtimes do.
      if (!found) await mkdir(path, { recursive: true });
      return path;
  }
}

type Items = { readonly key: string; readonly path: string; readonly mode?: number | undefined }[] | undefined;
type DownwardItem = {
  path: string;
  mode?: number | undefined;
  fieldRef?: { fieldPath: string } | undefined;
  resourceFieldRef?: { resource: string; containerName?: string | undefined; divisor?: string | undefined } | undefined;
};

async function volumeFiles(pod: Pod, volume: Volume, sources: VolumeSources): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  const where = { pod, volume: volume.name, sources, files };
  if (volume.configMap)
    await addConfigMap(
      where,
      volume.configMap.name ?? "",
      volume.configMap.items as Items,
      volume.configMap.optional,
      volume.configMap.defaultMode ?? 0o644,
    );
  if (volume.secret)
    await addSecret(
      where,
      volume.secret.secretName ?? "",
      volume.secret.items as Items,
      volume.secret.optional,
      volume.secret.defaultMode ?? 0o644,
    );
  if (volume.downwardAPI)
    addDownward(where, (volume.downwardAPI.items ?? []) as DownwardItem[], volume.downwardAPI.defaultMode ?? 0o644);
  const mode = volume.projected?.defaultMode ?? 0o644;
  for (const source of volume.projected?.sources ?? []) {
    if (source.configMap)
      await addConfigMap(
        where,
        source.configMap.name ?? "",
        source.configMap.items as Items,
        source.configMap.optional,
        mode,
      );
    if (source.secret)
      await addSecret(where, source.secret.name ?? "", source.secret.items as Items, source.secret.optional, mode);
    if (source.downwardAPI) addDownward(where, (source.downwardAPI.items ?? []) as DownwardItem[], mode);
    if (source.serviceAccountToken) {
      const { audience, expirationSeconds = 3600, path } = source.serviceAccountToken;
      files.set(path, { data: Buffer.from(await sources.token({ audience, expirationSeconds })), mode });
    }
  }
  return files;
}

type Where = { pod: Pod; volume: string; sources: VolumeSources; files: Map<string, File> };

async function addConfigMap(
  where: Where,
  name: string,
  items: Items,
  optional: boolean | undefined,
  mode: number,
): Promise<void> {
  const map = await where.sources.configMap(name);
  if (!map && !optional)
    throw new MountError(`MountVolume.SetUp failed for volume "${where.volume}" : configmap "${name}" not found`);
  const data = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(map?.data ?? {})) data.set(key, Buffer.from(value));
  for (const [key, value] of Object.entries(map?.binaryData ?? {})) data.set(key, Buffer.from(value, "base64"));
  pick(where, data, items, optional, mode, "configmap");
}

async function addSecret(
  where: Where,
  name: string,
  items: Items,
  optional: boolean | undefined,
  mode: number,
): Promise<void> {
  const secret = await where.sources.secret(name);
  if (!secret && !optional)
    throw new MountError(`MountVolume.SetUp failed for volume "${where.volume}" : secret "${name}" not found`);
  const data = new Map(
    Object.entries(secret?.data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64")] as const),
  );
  pick(where, data, items, optional, mode, "secret");
}

function pick(
  where: Where,
  data: Map<string, Buffer>,
  items: Items,
  optional: boolean | undefined,
  mode: number,
  kind: string,
): void {
  for (const item of items ?? [...data.keys()].map((key) => ({ key, path: key, mode: undefined }))) {
    const value = data.get(item.key);
    if (value === undefined) {
      if (optional) continue;
      throw new MountError(
        `MountVolume.SetUp failed for volume "${where.volume}" : references non-existent ${kind} key: ${item.key}`,
      );
    }
    where.files.set(item.path, { data: value, mode: item.mode ?? mode });
  }
}

function addDownward(where: Where, items: readonly DownwardItem[], mode: number): void {
  const { pod, sources } = where;
  const facts = { podIps: sources.podIps(), hostIp: sources.hostIp };
  for (const item of items) {
    const container = pod.spec?.containers[0];
    const text = item.fieldRef
      ? fieldValue(pod, item.fieldRef.fieldPath, facts)
      : container && item.resourceFieldRef
        ? resourceFieldValue(pod, container, item.resourceFieldRef, sources.capacity)
        : "";
    where.files.set(item.path, { data: Buffer.from(text), mode: item.mode ?? mode });
  }
}

/** Last written contents by folder, so that an unchanged volume is left alone. */
const written = new Map<string, string>();

async function writeAtomically(dir: string, files: Map<string, File>, fsGroup: number | undefined): Promise<void> {
  const print = JSON.stringify([...files].map(([path, file]) => [path, file.mode, file.data.toString("base64")]));
  if (written.get(dir) === print) return;
  const version = `..${new Date().toISOString().replace(/[-:T]/g, "_").replace("Z", "")}`;
  const target = join(dir, version);
  await mkdir(target, { recursive: true });
  for (const [path, file] of files) {
    const full = join(target, path);
    await mkdir(dirname(full), { recursive: true });
    const mode = fsGroup === undefined ? file.mode : file.mode | 0o440;
    await writeFile(full, file.data, { mode });
    await chmod(full, mode);
    if (fsGroup !== undefined) await lchown(full, 0, fsGroup);
  }
  const old = await readlink(join(dir, "..data")).catch(() => undefined);
  await symlink(version, join(dir, "..data_tmp"));
  await rename(join(dir, "..data_tmp"), join(dir, "..data"));
  const tops = new Set([...files.keys()].map((path) => path.split("/")[0] ?? path));
  for (const name of tops) await symlink(join("..data", name), join(dir, name)).catch(() => {});
  for (const name of await readdir(dir))
    if (!name.startsWith("..") && !tops.has(name)) await rm(join(dir, name), { force: true });
  if (old && old !== version) await rm(join(dir, old), { recursive: true, force: true });
  written.set(dir, print);
}

/** Removes everything of a pod from the node's disk; what is mounted there (memory volumes) is unmounted first. */
export async function removePodFolder(uid: string, places: Places): Promise<void> {
  const folder = `${podDir(places, uid)}/`;
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n").map((line) => line.split(" ")[1] ?? "");
  for (const mount of mounts.filter((path) => path.startsWith(folder)).reverse())
    await run("umount", ["-l", mount]).catch(() => {});
  for (const key of written.keys()) if (key.startsWith(folder)) written.delete(key);
  await rm(folder, { recursive: true, force: true });
}
