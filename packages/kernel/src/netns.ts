/**
 * Network namespaces, and the one place that knows what follows a thread into one and what does not.
 *
 * Follows setns: sockets made by ./sockets.ts, /proc/sys/net files read or written synchronously, spawned children.
 * Does not: listen, connect, bind and fetch of Node under a short wrapper (Node defers them past it), and all thread-pool
 * work (fs.promises, dns.lookup): pool threads keep the namespace they were born in, so the pool is made to exist before
 * the first wrapper runs. An open descriptor, or a socket, keeps a namespace alive without any file.
 */
import {
  access,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
} from "node:fs";
import * as ffi from "./ffi.ts";
import { KernelError } from "./errors.ts";

/** A name (`/run/netns/<name>`), an absolute path, or an open descriptor. */
export type Netns = string | number;

const DIR = "/run/netns";
const SELF = "/proc/thread-self/ns/net";
const CLONE_NEWNET = 0x40000000;
const MS_BIND = 4096;
const MS_REC = 16384;
const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;
const LOCK_EX = 2;

export function netnsPath(name: string): string {
  return `${DIR}/${name}`;
}

/** Makes a named namespace that `ip netns` and `ip -n` see, with everything in it down and empty. */
export function createNetns(name: string): void {
  const path = netnsPath(name);
  ensureSharedDir();
  try {
    closeSync(openSync(path, "ax", 0o444));
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === "EEXIST"
      ? new KernelError({ operation: `ip netns add ${name}`, errno: "EEXIST" })
      : error;
  }
  bornBeforeFirstMove();
  const home = openSync(SELF, "r");
  try {
    ffi.check(ffi.unshare(CLONE_NEWNET), `ip netns add ${name}`);
    try {
      ffi.check(ffi.mount(SELF, path, "none", MS_BIND, null), `mount the new namespace on ${path}`);
    } finally {
      returnTo(home);
    }
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(home);
  }
}

/** createNetns unless it exists; true when it was made. A leftover file without a namespace behind it is replaced. */
export function ensureNetns(name: string): boolean {
  if (netnsExists(name)) return false;
  rmSync(netnsPath(name), { force: true });
  createNetns(name);
  return true;
}

/** Removes the name. What is in it goes with its last process, socket or descriptor. Absent: nothing happens. */
export function deleteNetns(name: string): void {
  const path = netnsPath(name);
  // Lazy: it works while another mount namespace still shows the mount. EINVAL: a plain file, no namespace on it.
  const result = ffi.umount2(path, MNT_DETACH);
  if (result < 0 && !["ENOENT", "EINVAL"].includes(ffi.errnoName(result))) ffi.check(result, `ip netns delete ${name}`);
  rmSync(path, { force: true });
}

/** Names that begin with `prefix`, sorted. */
export function listNetns(prefix = ""): string[] {
  try {
    return readdirSync(DIR)
      .filter((name) => name.startsWith(prefix))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** A namespace by that name is there (not only a leftover file). */
export function netnsExists(name: string): boolean {
  try {
    return statSync(netnsPath(name)).dev === statSync(SELF).dev;
  } catch {
    return false;
  }
}

/** A descriptor of the namespace; close it with closeFd. */
export function openNetns(netns: Netns): number {
  if (typeof netns === "number") return openSync(`/proc/self/fd/${netns}`, "r");
  const path = netns.startsWith("/") ? netns : netnsPath(netns);
  try {
    return openSync(path, "r");
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? "EIO";
    throw new KernelError({ operation: `open network namespace ${netns}`, errno });
  }
}

/** How a namespace is named in errors. */
export function describeNetns(netns: Netns | undefined): string | undefined {
  return typeof netns === "number" ? `fd ${netns}` : netns?.startsWith(`${DIR}/`) ? netns.slice(DIR.length + 1) : netns;
}

/** Runs synchronous work in a namespace and always comes back; costs about 15 µs. */
export function runIn<T>(netns: Netns | undefined, work: () => T): T {
  if (netns === undefined) return work();
  bornBeforeFirstMove();
  const there = typeof netns === "number" ? netns : openNetns(netns);
  const home = openSync(SELF, "r");
  try {
    ffi.check(ffi.setns(there, CLONE_NEWNET), "enter the network namespace", describeNetns(netns));
    let result: T;
    try {
      result = work();
    } finally {
      returnTo(home);
    }
    if (result instanceof Promise)
      throw new TypeError("runIn takes synchronous work: a promise would go on in the wrong namespace");
    return result;
  } finally {
    closeSync(home);
    if (there !== netns) closeSync(there);
  }
}

/** Moves the calling thread for good, at once; then, awaited, every pool thread that exists already. */
export async function enterNetns(netns: Netns): Promise<void> {
  const there = openNetns(netns);
  try {
    ffi.check(ffi.setns(there, CLONE_NEWNET), "enter the network namespace", describeNetns(netns));
    await movePool(there);
  } finally {
    closeSync(there);
  }
}

function returnTo(home: number): void {
  const result = ffi.setns(home, CLONE_NEWNET);
  if (result >= 0) return;
  // Going on in a foreign namespace would configure the wrong machine.
  process.stderr.write(`Cannot return to the network namespace: ${ffi.errnoName(result)}\n`);
  process.abort();
}

let poolIsBorn = false;

/** libuv makes all its pool threads at the first request; make that happen while this thread is at home. */
function bornBeforeFirstMove(): void {
  if (poolIsBorn) return;
  poolIsBorn = true;
  access("/", () => {});
}

/** Pool threads cannot be addressed: send moves in until each has taken one. */
async function movePool(there: number): Promise<void> {
  for (let round = 0; round < 100; round++) {
    if (!poolThreads().some((thread) => thread.netns !== currentNetns())) return;
    const moves = await Promise.all(Array.from({ length: 16 }, () => ffi.setnsInPool(there, CLONE_NEWNET)));
    for (const result of moves) ffi.check(result, "move a pool thread into the network namespace");
  }
  throw new Error(
    "Cannot move all thread-pool threads into the network namespace: some stayed busy; hint: enter it before starting work",
  );
}

const currentNetns = (): string => readlinkSync(SELF);

function poolThreads(): { netns: string }[] {
  const threads: { netns: string }[] = [];
  for (const task of readdirSync("/proc/self/task")) {
    try {
      if (readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim() !== "libuv-worker") continue;
      threads.push({ netns: readlinkSync(`/proc/self/task/${task}/ns/net`) });
    } catch {
      // the thread ended meanwhile
    }
  }
  return threads;
}

let dirIsShared = false;

/** As `ip netns add` does it: /run/netns is a shared mount, so that mounts made in it show in every mount namespace. */
function ensureSharedDir(): void {
  if (dirIsShared) return;
  mkdirSync(DIR, { recursive: true, mode: 0o755 });
  const lock = openSync(DIR, "r");
  try {
    ffi.flock(lock, LOCK_EX);
    if (ffi.mount("", DIR, "none", MS_SHARED | MS_REC, null) < 0) {
      ffi.check(ffi.mount(DIR, DIR, "none", MS_BIND | MS_REC, null), `bind-mount ${DIR} on itself`);
      ffi.check(ffi.mount("", DIR, "none", MS_SHARED | MS_REC, null), `share the mount ${DIR}`);
    }
  } finally {
    closeSync(lock);
  }
  dirIsShared = true;
}
