/** Small files and directories, without a shell: whole reads, atomic writes, mkdir -p, listings. */
import * as ffi from "ffi";
import type { CData } from "ffi";
import {
  C,
  check,
  EEXIST,
  errno,
  F_OK,
  int,
  makeNull,
  newBytes,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  toText,
} from "./libc.ts";
import { readAll, writeAll } from "./unix-socket.ts";

export function exists(path: string): boolean {
  return C.access(path, F_OK) === 0;
}

export function readFile(path: string): string {
  const fd = check(`open ${path}`, C.open(path, O_RDONLY + O_CLOEXEC));
  const text = readAll(fd);
  C.close(fd);
  return text;
}

/** The file's text, or undefined when it cannot be opened. */
export function findFile(path: string): string | undefined {
  return exists(path) ? readFile(path) : undefined;
}

export function writeFile(path: string, text: string, mode = 0x1a4 /* 0644 */): void {
  const fd = check(`write ${path}`, C.open(path, O_WRONLY + O_CREAT + O_TRUNC + O_CLOEXEC, int(mode)));
  writeAll(fd, text);
  C.close(fd);
}

/** Readers see the old text or the new one, never half. */
export function replaceFile(path: string, text: string, mode = 0x1a4): void {
  writeFile(`${path}.new`, text, mode);
  check(`replace ${path}`, C.rename(`${path}.new`, path));
}

export function openAppend(path: string, mode = 0x1a4): number {
  return check(`open ${path}`, C.open(path, O_WRONLY + O_CREAT + O_APPEND + O_CLOEXEC, int(mode)));
}

/** mkdir -p. */
export function makeDirectories(path: string, mode = 0x1ed /* 0755 */): void {
  if (exists(path)) return;
  const [parent] = string.match(path, "^(.+)/[^/]+$");
  if (parent !== undefined) makeDirectories(parent, mode);
  if (C.mkdir(path, mode) < 0 && errno() !== EEXIST) check(`make directory ${path}`, -1);
}

/** The names in a directory, without `.` and `..`; empty when it cannot be read. */
export function listDirectory(path: string): string[] {
  const names: string[] = [];
  const directory = C.opendir(path);
  if (directory === undefined || directory === makeNull()) return names;
  while (true) {
    const entry = C.readdir(directory);
    if (entry === undefined || entry === makeNull()) break;
    const name = ffi.string((entry as CData & { d_name: CData }).d_name);
    if (name !== "." && name !== "..") names[names.length] = name;
  }
  C.closedir(directory);
  return names;
}

/** A symbolic link's target, or undefined. */
export function findLink(path: string): string | undefined {
  const buffer = newBytes(4096);
  const size = tonumber(C.readlink(path, buffer, 4096))!;
  return size < 0 ? undefined : toText(buffer, size);
}
