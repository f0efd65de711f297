/**
 * Takes a cluster away: its processes, namespaces, mounts and state. It trusts nothing that ran before: what belongs to the
 * cluster is found by the cluster's id in namespace names and by its state directory in command lines and mounts, so it works
 * after a crash of everything.
 */
import { readFileSync, readdirSync, readlinkSync, rmSync, statSync } from "node:fs";
import { removeCgroups } from "@underlay/kernel/cgroups";
import { unmount } from "@underlay/kernel/mounts";
import { deleteNetns, listNetns, netnsPath } from "@underlay/kernel/netns";
import type { ClusterRecord, Places } from "./places.ts";
import { releasePorts } from "./ports.ts";
import { waitUntil } from "./wait.ts";

export type DownResult = { readonly processes: number; readonly namespaces: number };

export async function down(places: Places, record: ClusterRecord): Promise<DownResult> {
  const prefix = `ul-${record.clusterId}-`;
  // Keepers first, so that nothing is restarted behind our back; then everything that lives in our namespaces.
  const killed = new Set<number>();
  await waitUntil("the cluster's processes to end", 20_000, () => {
    const left = findProcesses(places.stateDir, prefix);
    for (const pid of left) {
      killed.add(pid);
      kill(pid);
    }
    return left.length === 0 ? true : undefined;
  });
  await removeCgroups(prefix);
  const namespaces = listNetns(prefix);
  for (const name of namespaces) deleteNetns(name);
  for (const target of findMounts(places.stateDir)) unmount(target);
  releasePorts(places.stateDir);
  rmSync(places.stateDir, { recursive: true, force: true });
  return { processes: killed.size, namespaces: namespaces.length };
}

/** Processes whose command line names the state directory or whose network namespace is one of the cluster's. */
function findProcesses(stateDir: string, prefix: string): number[] {
  const ours = new Set(listNetns(prefix).map((name) => statSync(netnsPath(name)).ino));
  const found: number[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    if (isOurs(pid, stateDir, ours)) found.push(pid);
  }
  return found;
}

function isOurs(pid: number, stateDir: string, namespaces: ReadonlySet<number>): boolean {
  try {
    const state = readFileSync(`/proc/${pid}/stat`, "latin1");
    if (state.slice(state.lastIndexOf(")") + 2).startsWith("Z")) return false;
    const inode = Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1]);
    if (namespaces.has(inode)) return true;
    const argv = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
    const isProgram = argv.some((word) => word.includes("/.build/"));
    return isProgram && (isSupervisorOf(argv, stateDir) || argv.some((word) => word.startsWith(`${stateDir}/`)));
  } catch {
    return false; // it ended while we looked
  }
}

function isSupervisorOf(argv: readonly string[], stateDir: string): boolean {
  const program = argv.findIndex((word) => word.endsWith("/.build/programs/supervisor.mjs"));
  return program !== -1 && `${argv[program + 1]}/${argv[program + 2]}` === stateDir;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it ended by itself
  }
}

/** Mount points below the state directory, deepest first. */
function findMounts(stateDir: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((target) => target.startsWith(`${stateDir}/`))
    .sort((a, b) => b.length - a.length);
}
