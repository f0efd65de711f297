/** Processes: pipes, signals through a signalfd, exit statuses, PATH search, credentials and capabilities. */
import * as ffi from "ffi";
import type { Bytes, CData } from "ffi";
import {
  C,
  check,
  makeCData,
  newBytes,
  O_CLOEXEC,
  O_NONBLOCK,
  PR_CAPBSET_DROP,
  PR_SET_NO_NEW_PRIVS,
  WNOHANG,
  X_OK,
} from "./libc.ts";
import { exists } from "./files.ts";

/** A close-on-exec pipe: [read end, write end]. */
export function makePipe(): LuaMultiReturn<[number, number]> {
  const pair = makeCData<CData & { [index: number]: number }>("int[2]");
  check("make a pipe", C.pipe2(pair, O_CLOEXEC));
  return $multi(pair[0]!, pair[1]!);
}

/** What stands for a pair of descriptors that is not wanted. */
export function noPair(): LuaMultiReturn<[number, number]> {
  return $multi(-1, -1);
}

export function setNonBlocking(fd: number): void {
  C.fcntl(fd, 4 /* F_SETFL */, ffi.cast("int", O_NONBLOCK));
}

/** Blocks `signals` for this process and returns a non-blocking signalfd for them. */
export function signalFd(signals: number[]): number {
  const mask = newBytes(128);
  C.sigemptyset(mask);
  for (const signal of signals) C.sigaddset(mask, signal);
  check("block signals", C.sigprocmask(0 /* SIG_BLOCK */, mask, undefined));
  return check("make a signalfd", C.signalfd(-1, mask, O_CLOEXEC + O_NONBLOCK));
}

/** The next pending signal's number, or undefined. */
export function nextSignal(fd: number, buffer: Bytes): number | undefined {
  return tonumber(C.read(fd, buffer, 128))! === 128 ? buffer[0] : undefined;
}

/** Unblocks every signal: what a child does before it runs another program. */
export function unblockSignals(): void {
  const mask = newBytes(128);
  C.sigemptyset(mask);
  C.sigprocmask(2 /* SIG_SETMASK */, mask, undefined);
}

export type Exit = { readonly pid: number; readonly code: number; readonly signal: number };

/** One ended child, or undefined when none has ended (or, with `block`, when there are none). */
export function reap(block = false, pid = -1): Exit | undefined {
  const status = makeCData<CData & { [index: number]: number }>("int[1]");
  const ended = C.waitpid(pid, status, block ? 0 : WNOHANG);
  if (ended <= 0) return undefined;
  const value = status[0]!;
  const signal = value % 128;
  return { pid: ended, code: math.floor(value / 256) % 256, signal };
}

/** The file `name` stands for, looked up in `path` when it has no slash. */
export function findProgram(name: string, path: string): string | undefined {
  const [slash] = string.find(name, "/", 1, true);
  if (slash !== undefined) return exists(name) ? name : undefined;
  for (const [directory] of string.gmatch(path, "[^:]+")) {
    const file = `${directory}/${name}`;
    if (C.access(file, X_OK) === 0) return file;
  }
  return undefined;
}

export type Credentials = {
  readonly uid: number;
  readonly gid: number;
  readonly groups: number[];
  /** Capability numbers kept; undefined keeps all (privileged). */
  readonly capabilities?: number[];
  readonly noNewPrivs?: boolean;
};

const lastCapability = 40;

/** Becomes the user: bounding set, groups, ids, then the permitted and effective sets. Cannot be undone. */
export function become(who: Credentials): void {
  const keep = who.capabilities;
  if (keep !== undefined) {
    for (let cap = 0; cap <= lastCapability; cap++) if (!contains(keep, cap)) C.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
  }
  const groups = makeCData<CData & { [index: number]: number }>("unsigned int[?]", who.groups.length + 1);
  for (let i = 0; i < who.groups.length; i++) groups[i] = who.groups[i]!;
  check("set groups", C.setgroups(who.groups.length, groups));
  check(`become group ${who.gid}`, C.setgid(who.gid));
  check(`become user ${who.uid}`, C.setuid(who.uid));
  if (keep !== undefined && who.uid === 0) setCapabilities(keep);
  if (who.noNewPrivs === true) C.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

function contains(list: number[], wanted: number): boolean {
  for (const item of list) if (item === wanted) return true;
  return false;
}

function setCapabilities(keep: number[]): void {
  const header = makeCData<CData & { version: number; pid: number }>("struct ul_cap_header");
  header.version = 0x20080522; // _LINUX_CAPABILITY_VERSION_3
  header.pid = 0;
  const data = makeCData<CData & { [index: number]: { effective: number; permitted: number; inheritable: number } }>(
    "struct ul_cap_data[2]",
  );
  let low = 0;
  let high = 0;
  for (const cap of keep) {
    if (cap < 32) low += 2 ** cap;
    else high += 2 ** (cap - 32);
  }
  data[0]!.effective = low;
  data[0]!.permitted = low;
  data[1]!.effective = high;
  data[1]!.permitted = high;
  check("set capabilities", C.capset(header, data));
}
