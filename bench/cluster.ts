/**
 * A whole cluster: how long `up` takes, how long the store takes to be Ready, what everything costs in memory (PSS), and what a
 * packet pays between pods on two nodes beside one plain veth hop of the same machine (iperf3 and sockperf, both ends on one core).
 *
 *   sudo node bench/cluster.ts [--json]        Debian packages: iperf3 sockperf
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  TestCluster,
  conditionOf,
  eventually,
  instanceIdOf,
  repo,
  runOk,
  workshop,
  type NodeList,
  type PodList,
} from "../test/support/cluster.ts";

const seconds = (ms: number): number => Math.round(ms / 100) / 10;
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

const began = Date.now();
await using cluster = await TestCluster.up();
const upMs = Date.now() - began;

const store = existsSync(join(workshop, "base-application"))
  ? join(workshop, "base-application")
  : join(repo, "examples/retail-store");
const applied = Date.now();
await cluster.kubectlOk("apply", "-k", store);
await eventually("the store", async () => {
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-A");
  return items.length >= 17 && items.every((pod) => conditionOf(pod, "Ready") === "True") ? items : undefined;
});
const storeMs = Date.now() - applied;
await sleep(5000); // start-up garbage
const memory = measureMemory();
const packets = await measurePackets();

const figures = {
  upSeconds: seconds(upMs),
  storeReadySeconds: seconds(storeMs),
  pssMiB: memory.total,
  processes: memory.processes,
  largest: memory.largest,
  ...packets,
};
console.log(process.argv.includes("--json") ? JSON.stringify(figures) : figures);

/** PSS of every process of the cluster: those whose command line names its state, and all they started (pods among them). */
function measureMemory(): { total: number; processes: number; largest: Record<string, number> } {
  const seen = new Map<number, { parent: number; argv: string[] }>();
  for (const directory of globSync("/proc/[0-9]*")) {
    try {
      const stat = readFileSync(join(directory, "stat"), "latin1");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      seen.set(Number(directory.slice(6)), {
        parent,
        argv: readFileSync(join(directory, "cmdline"), "latin1").split("\0"),
      });
    } catch {
      // it ended while we looked
    }
  }
  const isOurs = (pid: number): boolean => {
    const process = seen.get(pid);
    if (!process) return false;
    return process.argv.some((word) => word.includes(cluster.stateRoot)) || isOurs(process.parent);
  };
  const byProgram = new Map<string, number>();
  const ours = [...seen.keys()].filter((pid) => pid !== process.pid && isOurs(pid));
  for (const pid of ours) {
    const argv = seen.get(pid)?.argv ?? [];
    const kib = Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1] ?? 0);
    const program =
      argv
        .find((word) => /\.(mjs|lua)$/.test(word))
        ?.split("/")
        .at(-1) ??
      argv[0]?.split("/").at(-1) ??
      "";
    byProgram.set(program, (byProgram.get(program) ?? 0) + kib / 1024);
  }
  const sorted = [...byProgram].sort((a, b) => b[1] - a[1]);
  const total = sorted.reduce((sum, [, mib]) => sum + mib, 0);
  return {
    total: Math.round(total),
    processes: ours.length,
    largest: Object.fromEntries(sorted.slice(0, 12).map(([name, mib]) => [name, Math.round(mib)])),
  };
}

/** Round trip and throughput, pod to pod across nodes, as ratios of one veth hop, the two measured in turns. */
async function measurePackets(): Promise<Record<string, number>> {
  const { items: nodes } = await cluster.kubectlJson<NodeList>("get", "nodes");
  const pods: { netns: string; address: string }[] = [];
  for (const [index, node] of nodes.slice(0, 2).entries()) {
    const name = `bench-${index}`;
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name },
      spec: { nodeName: node.metadata.name, containers: [{ name: "pause", image: "registry.k8s.io/pause" }] },
    };
    await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: JSON.stringify(pod) });
    const address = await eventually(name, async () => {
      const seen = await cluster.kubectlJson<PodList["items"][number]>("get", "pod", name);
      return conditionOf(seen, "Ready") === "True" ? seen.status.podIP : undefined;
    });
    pods.push({ netns: netnsOfPod(cluster.netns(instanceIdOf(node)), address), address });
  }
  const veth = makeVethHop();
  try {
    const [first, second] = pods;
    if (!first || !second) throw new Error("two nodes are needed");
    const ours = { from: first.netns, to: second.netns, address: second.address };
    const rtt: { ours: number[]; veth: number[] } = { ours: [], veth: [] };
    const rate: { ours: number[]; veth: number[] } = { ours: [], veth: [] };
    for (let round = 0; round < 3; round++) {
      rtt.veth.push(await roundTrip(veth));
      rtt.ours.push(await roundTrip(ours));
      rate.veth.push(await throughput(veth));
      rate.ours.push(await throughput(ours));
    }
    return {
      vethRoundTripMicros: median(rtt.veth),
      podRoundTripMicros: median(rtt.ours),
      roundTripRatio: Math.round((median(rtt.ours) / median(rtt.veth)) * 100) / 100,
      vethGbits: median(rate.veth),
      podGbits: median(rate.ours),
      throughputRatio: Math.round((median(rate.ours) / median(rate.veth)) * 100) / 100,
    };
  } finally {
    for (const name of [veth.from, veth.to]) execFileSync("ip", ["netns", "del", name]);
  }
}

/** A path into the network namespace of the pod with `address`: found by looking into the processes of its node's namespace tree. */
function netnsOfPod(node: string, address: string): string {
  void node;
  for (const directory of globSync("/proc/[0-9]*")) {
    try {
      if (!readFileSync(join(directory, "cmdline"), "latin1").includes("sleep")) continue;
      const addresses = execFileSync("nsenter", [`--net=${directory}/ns/net`, "ip", "-o", "-4", "addr"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      if (addresses.includes(` ${address}/32`)) return `${directory}/ns/net`;
    } catch {
      // it ended while we looked
    }
  }
  throw new Error(`no process has address ${address}`);
}

type Path = { readonly from: string; readonly to: string; readonly address: string };

/** Two namespaces and one veth pair between them, MTU 9001 as everywhere here. */
function makeVethHop(): Path {
  const [from, to] = [`ul-tb${process.pid}-a`, `ul-tb${process.pid}-b`];
  const ip = (...args: string[]): void => void execFileSync("ip", args);
  ip("netns", "add", from);
  ip("netns", "add", to);
  ip("-n", from, "link", "add", "v0", "mtu", "9001", "type", "veth", "peer", "name", "v0", "mtu", "9001", "netns", to);
  ip("-n", from, "addr", "add", "10.99.0.1/24", "dev", "v0");
  ip("-n", to, "addr", "add", "10.99.0.2/24", "dev", "v0");
  for (const name of [from, to]) {
    ip("-n", name, "link", "set", "lo", "up");
    ip("-n", name, "link", "set", "v0", "up");
  }
  return { from, to, address: "10.99.0.2" };
}

function enter(netns: string, ...command: string[]): string[] {
  return [`--net=${netns.startsWith("/") ? netns : `/run/netns/${netns}`}`, "taskset", "-c", "0", ...command];
}

/** Median TCP round trip in microseconds (sockperf reports half of it). */
async function roundTrip({ from, to, address }: Path): Promise<number> {
  const server = spawn("nsenter", enter(to, "sockperf", "server", "--tcp", "-i", address, "-p", "5300"), {
    stdio: "ignore",
  });
  try {
    await sleep(300);
    const report = await runOk(
      "nsenter",
      enter(from, "sockperf", "ping-pong", "--tcp", "-i", address, "-p", "5300", "-t", "2"),
    );
    return Math.round(Number(/percentile 50\.000 =\s+([\d.]+)/.exec(report)?.[1]) * 2 * 10) / 10;
  } finally {
    server.kill("SIGKILL");
  }
}

/** TCP throughput of one stream in Gbit/s. */
async function throughput({ from, to, address }: Path): Promise<number> {
  const server = spawn("nsenter", enter(to, "iperf3", "-s", "-1", "-B", address), { stdio: "ignore" });
  try {
    await sleep(300);
    const report = JSON.parse(await runOk("nsenter", enter(from, "iperf3", "-c", address, "-t", "3", "-J")));
    return Math.round(report.end.sum_received.bits_per_second / 1e8) / 10;
  } finally {
    server.kill("SIGKILL");
  }
}
