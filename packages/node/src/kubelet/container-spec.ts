/** From a pod's container to what the shim is asked to start: program, user, mounts. Pure. */
import type { Container, Pod } from "@underlay/kube/objects";
import type { Image } from "@underlay/images/registry";
import { join } from "node:path";
import { containerUser, isPrivileged } from "./container-user.ts";
import { expand } from "./env.ts";
import { logFile, podDir, type Places } from "./places.ts";
import type { ShimContainer, ShimMount } from "./shim-client.ts";

export type ContainerInput = {
  readonly pod: Pod;
  readonly container: Container;
  readonly image: Image;
  readonly imageReference: string;
  readonly places: Places;
  readonly id: string;
  readonly attempt: number;
  readonly env: readonly string[];
  /** Volume name → its place on the node. */
  readonly volumes: ReadonlyMap<string, string>;
};

export function shimContainer(input: ContainerInput): ShimContainer {
  const { pod, container, image, places, id, attempt, env } = input;
  const identity = {
    namespace: pod.metadata.namespace ?? "",
    name: pod.metadata.name ?? "",
    uid: pod.metadata.uid ?? "",
  };
  const user = containerUser(pod, container, image.user);
  const share = pod.spec?.shareProcessNamespace === true || pod.spec?.hostPID === true;
  const passwdHome = user.uid === 0 ? "/root" : "/";
  return {
    ...user,
    id,
    name: container.name,
    attempt,
    image: input.imageReference,
    argv: containerArgv(container, image, env),
    env: env.some((e) => e.startsWith("HOME=")) ? env : [...env, `HOME=${passwdHome}`],
    cwd: container.workingDir || image.workingDir || "/",
    dir: containerDir(places, identity.uid, container.name, attempt),
    skeleton: places.skeleton,
    ...(image.usrLayers.length > 0 ? { usrLayers: image.usrLayers } : {}),
    ...(image.directories.length > 0 ? { directories: image.directories } : {}),
    ...(container.securityContext?.readOnlyRootFilesystem ? { readOnlyRoot: true } : {}),
    ...(isPrivileged(container) ? { privileged: true } : {}),
    mounts: containerMounts(input),
    logPath: logFile(places, identity, container.name, attempt),
    ...(container.stdin ? { stdin: true } : {}),
    ...(container.stdinOnce ? { stdinOnce: true } : {}),
    ...(container.tty ? { tty: true } : {}),
    ...(share ? { sharePid: true } : {}),
  };
}

/** The writable layer of one run of a container. */
export const containerDir = (places: Places, uid: string, name: string, attempt: number): string =>
  join(podDir(places, uid), "containers", name, String(attempt));

/** Kubernetes's rule: command replaces entrypoint and cmd, args replaces cmd; $(VAR) is expanded in both. */
export function containerArgv(
  container: Container,
  image: Pick<Image, "entrypoint" | "cmd">,
  env: readonly string[],
): string[] {
  const values = new Map(
    env.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)] as const),
  );
  const fill = (words: readonly string[]) => words.map((word) => expand(word, (name) => values.get(name)));
  const command = container.command ?? [];
  const args = container.args ?? [];
  if (command.length > 0) return [...fill(command), ...fill(args)];
  return [...image.entrypoint, ...(args.length > 0 ? fill(args) : image.cmd)];
}

/** The kubelet's own files first, then volumes, shallow targets before deep ones. */
function containerMounts({ pod, container, places, volumes, env, attempt }: ContainerInput): ShimMount[] {
  const uid = pod.metadata.uid ?? "";
  const dir = podDir(places, uid);
  const values = new Map(
    env.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)] as const),
  );
  const wanted: ShimMount[] = [];
  for (const mount of container.volumeMounts ?? []) {
    const source = volumes.get(mount.name);
    if (source === undefined) continue;
    const sub = mount.subPathExpr ? expand(mount.subPathExpr, (name) => values.get(name)) : mount.subPath;
    wanted.push({
      source: sub ? join(source, sub) : source,
      target: join("/", mount.mountPath),
      ...(mount.readOnly || isAlwaysReadOnly(pod, mount.name) ? { readOnly: true } : {}),
      ...(mount.mountPropagation
        ? { propagation: mount.mountPropagation as NonNullable<ShimMount["propagation"]> }
        : {}),
    });
  }
  const own: ShimMount[] = [
    { source: join(dir, "etc-hosts"), target: "/etc/hosts" },
    { source: join(dir, "resolv.conf"), target: "/etc/resolv.conf" },
    { source: join(dir, "hostname"), target: "/etc/hostname" },
    {
      source: terminationLog(places, uid, container.name, attempt),
      target: container.terminationMessagePath || "/dev/termination-log",
    },
  ];
  const taken = new Set(wanted.map((mount) => mount.target));
  const depth = (mount: ShimMount) => mount.target.split("/").filter(Boolean).length;
  return [...own.filter((mount) => !taken.has(mount.target)), ...wanted].sort((a, b) => depth(a) - depth(b));
}

/** The file on the node behind a container's termination message path. */
export const terminationLog = (places: Places, uid: string, name: string, attempt: number): string =>
  join(podDir(places, uid), "containers", name, `termination-${attempt}`);

function isAlwaysReadOnly(pod: Pod, volume: string): boolean {
  const found = pod.spec?.volumes?.find((v) => v.name === volume);
  return Boolean(found?.configMap ?? found?.secret ?? found?.downwardAPI ?? found?.projected);
}
