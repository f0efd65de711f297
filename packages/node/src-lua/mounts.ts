/** Mount calls as an instance or a container root needs them: read-only binds, /proc, /dev with its own pts, entering a root. */
import {
  C,
  check,
  int,
  MNT_DETACH,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REC,
  MS_REMOUNT,
  O_CLOEXEC,
  O_CREAT,
  O_WRONLY,
} from "@underlay/lua/libc";
import { exists, findLink, makeDirectories } from "@underlay/lua/files";

/** `mount --bind source target`; read-only takes the second, remounting call. */
export function bind(source: string, target: string, options: { readOnly?: boolean; recursive?: boolean } = {}): void {
  check(
    `bind ${source} on ${target}`,
    C.mount(source, target, undefined, MS_BIND + (options.recursive === true ? MS_REC : 0), undefined),
  );
  if (options.readOnly === true) makeReadOnly(target);
}

export function makeReadOnly(target: string): void {
  check(`make ${target} read-only`, C.mount(undefined, target, undefined, MS_REMOUNT + MS_BIND + MS_RDONLY, undefined));
}

export function mountType(type: string, target: string, flags: number, data?: string): void {
  check(`mount ${type} on ${target}`, C.mount(type, target, type, flags, data));
}

export function propagation(target: string, flags: number): void {
  check(`change propagation of ${target}`, C.mount(undefined, target, undefined, flags, undefined));
}

/** An empty file (with its parent directories), as a target for a bind mount. */
export function makeFile(path: string): void {
  if (exists(path)) return;
  const [parent] = string.match(path, "^(.+)/[^/]+$");
  if (parent !== undefined) makeDirectories(parent);
  C.close(check(`make ${path}`, C.open(path, O_WRONLY + O_CREAT + O_CLOEXEC, int(0x1a4))));
}

const devices: [string, number, number][] = [
  ["null", 1, 3],
  ["zero", 1, 5],
  ["full", 1, 7],
  ["random", 1, 8],
  ["urandom", 1, 9],
  ["tty", 5, 0],
];

/** A fresh /dev at `dev`: the harmless devices, own pts, shm, and the usual links. */
export function mountDev(dev: string): void {
  mountType("tmpfs", dev, MS_NOSUID, "mode=755,size=65536k");
  const oldMask = C.umask(0);
  for (const [name, major, minor] of devices) {
    const path = `${dev}/${name}`;
    if (C.mknod(path, 0x2000 + 0x1b6 /* S_IFCHR | 0666 */, major * 256 + minor) < 0) {
      makeFile(path);
      bind(`/dev/${name}`, path);
    }
  }
  C.umask(oldMask);
  C.mkdir(`${dev}/pts`, 0x1ed);
  mountType("devpts", `${dev}/pts`, MS_NOSUID + MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  C.symlink("pts/ptmx", `${dev}/ptmx`);
  C.mkdir(`${dev}/shm`, 0x3ff);
  mountType("tmpfs", `${dev}/shm`, MS_NOSUID + MS_NODEV, "mode=1777,size=65536k");
  C.symlink("/proc/self/fd", `${dev}/fd`);
  C.symlink("/proc/self/fd/0", `${dev}/stdin`);
  C.symlink("/proc/self/fd/1", `${dev}/stdout`);
  C.symlink("/proc/self/fd/2", `${dev}/stderr`);
}

export function mountProc(path: string): void {
  mountType("proc", path, MS_NOSUID + MS_NODEV + MS_NOEXEC);
}

export function mountSys(path: string): void {
  mountType("sysfs", path, MS_NOSUID + MS_NODEV + MS_NOEXEC + MS_RDONLY);
}

/** Makes `root` (a mount point) the root of this mount namespace and lets the old one go. */
export function enterRoot(root: string): void {
  check(`enter ${root}`, C.chdir(root));
  // pivot_root(".", "."): the old root ends up stacked on the new one, and "." then names the old.
  check(`pivot into ${root}`, C.pivot_root(".", "."));
  check("let the old root go", C.umount2(".", MNT_DETACH));
  check("change to /", C.chdir("/"));
}

/** The machine's top-level links and folders that lead into /usr, made again under `root` (Debian's merged /usr). */
export function linkUsr(root: string): void {
  for (const name of ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]) {
    const target = findLink(`/${name}`);
    if (target !== undefined) C.symlink(target, `${root}/${name}`);
  }
}
