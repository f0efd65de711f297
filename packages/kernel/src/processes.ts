/**
 * Processes that outlive who started them. A pid file holds pid and start time; together they name a process for good,
 * as a pid alone does not (it is used again), so whoever comes next can adopt it, wait for it and end it.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import * as ffi from "./ffi.ts";
import { runIn, type Netns } from "./netns.ts";

export interface ProcessId {
  pid: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since boot. */
  startTime: string;
}

export interface SpawnSpec {
  argv: readonly string[];
  pidFile: string;
  /** Appended to; /dev/null when left out. */
  logFile?: string;
  /** The whole environment; this process's own when left out. */
  env?: Record<string, string>;
  cwd?: string;
  netns?: Netns;
}

/** Starts a process in a session of its own and writes its pid file. */
export function spawnDetached(spec: SpawnSpec, onExit?: (how: string) => void): ProcessId {
  const [command, ...args] = spec.argv;
  if (command === undefined) throw new TypeError("Cannot start a process: argv is empty");
  for (const file of [spec.pidFile, spec.logFile])
    if (file !== undefined) mkdirSync(dirname(file), { recursive: true });
  const log = openSync(spec.logFile ?? "/dev/null", "a");
  try {
    const child = runIn(spec.netns, () =>
      spawn(command, args, {
        detached: true,
        stdio: ["ignore", log, log],
        ...(spec.env === undefined ? {} : { env: spec.env }),
        ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
      }),
    );
    child.on("error", () => {}); // told by the missing pid below
    if (child.pid === undefined)
      throw new Error(
        `Cannot start ${command}: it could not be executed; hint: does it exist, is it executable, does ${spec.cwd ?? "the directory"} exist?`,
      );
    child.on("exit", (code, signal) => onExit?.(signal === null ? `exit code ${code}` : `signal ${signal}`));
    child.unref();
    const started = { pid: child.pid, startTime: startTimeOf(child.pid) ?? "0" };
    writePidFile(spec.pidFile, started);
    return started;
  } finally {
    closeSync(log);
  }
}

/** The process a pid file names, if it still runs. */
export function findAdopted(pidFile: string): ProcessId | undefined {
  let text: string;
  try {
    text = readFileSync(pidFile, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const [pid, startTime] = text.trim().split(" ");
  if (startTime === undefined || !/^\d+$/.test(pid ?? "")) return undefined;
  const process = { pid: Number(pid), startTime };
  return isAlive(process) ? process : undefined;
}

/** It runs (a zombie does not) and is the same process, not a later one with its pid. */
export function isAlive(process: ProcessId): boolean {
  return startTimeOf(process.pid) === process.startTime;
}

/** The process with that pid as a ProcessId, or undefined. */
export function identify(pid: number): ProcessId | undefined {
  const startTime = startTimeOf(pid);
  return startTime === undefined ? undefined : { pid, startTime };
}

/** Waits for the end of any process, child or not. False when time ran out or the signal came first. */
export async function waitExit(
  process: ProcessId,
  o: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<boolean> {
  if (o.signal?.aborted) return false;
  const pidfd = ffi.pidfdOpen(process.pid);
  if (pidfd < 0) {
    if (ffi.errnoName(pidfd) === "ESRCH") return true;
    ffi.check(pidfd, `watch process ${process.pid}`);
  }
  // Checked after the descriptor pins the process: before, its pid could pass to another.
  if (!isAlive(process)) {
    ffi.close(pidfd);
    return true;
  }
  return new Promise((resolve) => {
    const finish = (ended: boolean): void => {
      clearTimeout(timer);
      o.signal?.removeEventListener("abort", onAbort);
      watch.close();
      ffi.close(pidfd);
      resolve(ended);
    };
    const onAbort = (): void => finish(false);
    const timer = o.timeoutMs === undefined ? undefined : setTimeout(() => finish(false), o.timeoutMs);
    o.signal?.addEventListener("abort", onAbort);
    const watch = ffi.poll(pidfd, { readable: true }, () => finish(true));
  });
}

/** SIGTERM to its process group, SIGKILL to what is left after `graceMs`; resolves when the process is gone. */
export async function killTree(process: ProcessId, o: { graceMs?: number } = {}): Promise<void> {
  if (!isAlive(process)) return;
  signalGroup(process, "SIGTERM");
  if (await waitExit(process, { timeoutMs: o.graceMs ?? 2000 })) return;
  signalGroup(process, "SIGKILL");
  await waitExit(process);
}

function signalGroup({ pid }: ProcessId, signal: NodeJS.Signals): void {
  // Negative: the group it leads. A process that leads none is signalled alone.
  if (!signalled(-pid, signal)) signalled(pid, signal);
}

function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** undefined when there is no such process, or only its zombie. */
function startTimeOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The command, in brackets, may hold anything; what follows it begins with field 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
}

/** Whole or not at all, for whoever reads it meanwhile. */
function writePidFile(pidFile: string, { pid, startTime }: ProcessId): void {
  const fresh = `${pidFile}.${process.pid}.new`;
  writeFileSync(fresh, `${pid} ${startTime}\n`);
  renameSync(fresh, pidFile);
}
