/**
 * A container's file system, built by its first process in a mount namespace of its own:
 *
 *   overlay(skeleton below, the container's writable folder above)   /
 *   the machine's /usr, read-only, with the image's layers over it   /usr
 *   fresh                                                            /proc /dev /sys
 *   the repository, read-only                                        /opt/underlay
 *   volumes, /etc/hosts, /etc/resolv.conf, … in the order given      wherever the pod says
 */
import { C, check, CLONE_NEWNS, MS_PRIVATE, MS_RDONLY, MS_REC, MS_SHARED, MS_SLAVE } from "@underlay/lua/libc";
import { exists, makeDirectories } from "@underlay/lua/files";
import {
  bind,
  enterRoot,
  makeFile,
  makeReadOnly,
  mountDev,
  mountProc,
  mountSys,
  mountType,
  propagation,
} from "./mounts.ts";

export type Mount = {
  source: string;
  target: string;
  readOnly?: boolean;
  propagation?: "None" | "HostToContainer" | "Bidirectional";
};

export type RootSpec = {
  /** The container's own folder on the node: `upper`, `work` and `root` are made in it. */
  dir: string;
  skeleton: string;
  usrLayers?: string[];
  readOnlyRoot?: boolean;
  privileged?: boolean;
  mounts: Mount[];
  /** Folders the image wants, owned by the user it runs as. */
  directories?: string[];
  cwd: string;
  uid: number;
  gid: number;
};

/** Leaves the caller inside the finished root. */
export function enterContainerRoot(spec: RootSpec): void {
  const root = `${spec.dir}/root`;
  const bidirectional = hasBidirectional(spec.mounts);
  check("make a mount namespace", C.unshare(CLONE_NEWNS));
  propagation("/", MS_REC + (bidirectional ? MS_SHARED : MS_SLAVE));
  for (const name of ["upper", "work", "root"]) makeDirectories(`${spec.dir}/${name}`);
  mountOverlay(spec, root);
  propagation(root, MS_PRIVATE);
  mountUsr(root, spec.usrLayers);
  bind("/opt/underlay", `${root}/opt/underlay`, { readOnly: true });
  if (spec.privileged === true) bind("/dev", `${root}/dev`, { recursive: true });
  else mountDev(`${root}/dev`);
  mountProc(`${root}/proc`);
  mountSys(`${root}/sys`);
  for (const mount of spec.mounts) mountVolume(root, mount);
  if (spec.privileged !== true) protectProc(root);
  for (const folder of spec.directories ?? []) {
    makeDirectories(root + folder);
    C.chown(root + folder, spec.uid, spec.gid);
  }
  makeDirectories(root + spec.cwd);
  enterRoot(root);
  if (spec.readOnlyRoot === true) makeReadOnly("/");
}

/** Where the node's own disk is an overlay (a machine that is a container), the writable layer lives in memory instead. */
function mountOverlay(spec: RootSpec, root: string): void {
  const layers = `lowerdir=${spec.skeleton},upperdir=${spec.dir}/upper,workdir=${spec.dir}/work`;
  // "volatile": without it the end of every container would flush the whole disk (seconds, with many pods). Nobody mounts an upper folder twice.
  if (C.mount("overlay", root, "overlay", 0, `${layers},volatile`) === 0) return;
  if (C.mount("overlay", root, "overlay", 0, layers) === 0) return;
  mountType("tmpfs", spec.dir, 0, "mode=755");
  for (const name of ["upper", "work", "root"]) makeDirectories(`${spec.dir}/${name}`);
  mountType("overlay", root, 0, layers);
}

function mountUsr(root: string, layers: string[] | undefined): void {
  if (layers === undefined || layers.length === 0) {
    bind("/usr", `${root}/usr`, { readOnly: true });
    return;
  }
  mountType("overlay", `${root}/usr`, MS_RDONLY, `lowerdir=${table.concat(layers as never, ":")}:/usr`);
}

function mountVolume(root: string, mount: Mount): void {
  const target = root + mount.target;
  if (exists(`${mount.source}/.`)) makeDirectories(target);
  else makeFile(target);
  bind(mount.source, target, { recursive: true });
  if (mount.propagation === "HostToContainer") propagation(target, MS_REC + MS_SLAVE);
  else if (mount.propagation !== "Bidirectional") propagation(target, MS_REC + MS_PRIVATE);
  if (mount.readOnly === true) makeReadOnly(target);
}

/** Kernel switches of the machine that a container must not reach although it may be root. */
function protectProc(root: string): void {
  for (const name of ["sys", "sysrq-trigger", "irq", "bus"]) {
    const path = `${root}/proc/${name}`;
    if (exists(path)) bind(path, path, { readOnly: true, recursive: true });
  }
  for (const name of ["kcore", "keys", "timer_list"])
    if (exists(`${root}/proc/${name}`)) bind("/dev/null", `${root}/proc/${name}`);
}

function hasBidirectional(mounts: Mount[]): boolean {
  for (const mount of mounts) if (mount.propagation === "Bidirectional") return true;
  return false;
}
