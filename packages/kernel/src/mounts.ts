import { readFileSync } from "node:fs";
import * as ffi from "./ffi.ts";

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_PRIVATE = 1 << 18;
export const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;

/** mount(2); `type` is left out for binds and remounts. */
export function mount(o: { source: string; target: string; type?: string; flags?: number; data?: string }): void {
  ffi.check(
    ffi.mount(o.source, o.target, o.type ?? null, o.flags ?? 0, o.data ?? null),
    `mount ${o.type ?? o.source} on ${o.target}`,
  );
}

/** Shows `source`, with what is mounted below it, at `target`, which must exist. */
export function bindMount(source: string, target: string, o: { readOnly?: boolean } = {}): void {
  mount({ source, target, flags: MS_BIND | MS_REC });
  // Read-only takes a second step, and holds for the top mount only.
  if (o.readOnly) mount({ source: "none", target, flags: MS_REMOUNT | MS_BIND | MS_RDONLY });
}

/** Lazy; nothing happens when it is not a mount point or not there. */
export function unmount(target: string): void {
  const result = ffi.umount2(target, MNT_DETACH);
  if (result < 0 && !["EINVAL", "ENOENT"].includes(ffi.errnoName(result))) ffi.check(result, `unmount ${target}`);
}

export function isMountPoint(target: string): boolean {
  return listMounts().includes(target.length > 1 ? target.replace(/\/+$/, "") : target);
}

/** Mount points of this process's mount namespace, in the order they were mounted, those below `prefix` only. */
export function listMounts(prefix = "/"): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) =>
      (line.split(" ")[4] as string).replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .filter((target) => target.startsWith(prefix));
}
