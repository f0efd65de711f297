/**
 * One instance with its kubelet under a real API server, in a throw-away network namespace: what the kernel tests of this room run on.
 * The API server moves into the namespace (port 443 there, a host door for the test); the CNI is Debian's ptp with host-local.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { removeCgroups } from "@underlay/kernel/cgroups";
import { createNetns, deleteNetns } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { KubeClient } from "@underlay/kube/client";
import { loadKubeConfig, type KubeConfig } from "@underlay/kube/config";
import { issueLeaf } from "@underlay/pki/authority";
import { WebSocket } from "ws";

const repo = resolve(import.meta.dirname, "../../../..");
export const nodeName = "ip-10-42-0-5.us-west-2.compute.internal";
export const nodeIp = "10.42.0.5";

/** Why this machine cannot run the fixture, or undefined. */
export function missingForInstance(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync("/usr/lib/cni/ptp")) return "needs Debian's containernetworking-plugins";
  if (!existsSync("/usr/bin/luajit")) return "needs luajit";
  return undefined;
}

export type Instance = {
  readonly client: KubeClient;
  readonly netns: string;
  /** The instance's file system, as it sees it itself. */
  path(inside: string): string;
  writeCniConfig(): void;
  kubeletPid(): number | undefined;
  /** Runs a command in a container through the API server; the status object tells the exit code. */
  exec(
    pod: string,
    command: readonly string[],
  ): Promise<{
    output: string;
    status: { status: string; message?: string; details?: { causes?: { message: string }[] } };
  }>;
  /** A stream of the API server (`exec`, `attach`, `portforward`) with the wire's raw messages. */
  open(pod: string, what: string, query: URLSearchParams, protocol?: string): Promise<Stream>;
  log(pod: string, query?: string): Promise<string>;
  stop(): Promise<void>;
};

/** One WebSocket; `text(n)` is what came on channel n so far. */
export type Stream = {
  send(channel: number, data: string | Buffer): void;
  text(channel: number): string;
  readonly closed: Promise<void>;
  close(): void;
};

/** Waits for a condition; fails with what it waited for. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 20_000,
): Promise<T> {
  const giveUpAt = Date.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > giveUpAt) throw new Error(`Gave up waiting for ${what} after ${timeoutMs} ms`);
    await sleep(50);
  }
}

export async function bootInstance(options: { containerRuntime?: "containerd" } = {}): Promise<Instance> {
  const netns = `ul-t${randomBytes(3).toString("hex")}-node`;
  const dir = mkdtempSync(join(tmpdir(), `${netns}-`));
  const children: ChildProcess[] = [];
  const start = (argv: readonly string[]) => {
    const log = openSync(join(dir, "programs.log"), "a");
    const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: ["ignore", log, log] });
    children.push(child);
    return child;
  };
  const stop = async () => {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(
      children.map((c) => until("a process to end", () => c.exitCode !== null || c.signalCode !== null)),
    );
    await removeCgroups(netns);
    deleteNetns(netns);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await run([process.execPath, join(repo, "packages/lua/build.ts"), repo]);
    makeNetwork(netns);
    const api = join(dir, "api");
    mkdirSync(api);
    writeFileSync(join(api, "settings.json"), JSON.stringify({ stateDir: api, kubePort: 0, netns }));
    start([process.execPath, join(repo, "packages/control-plane/src/apiserver/main.ts"), join(api, "settings.json")]);
    const config = await until("the API server", () => findConfig(join(api, "admin.kubeconfig")));
    const client = new KubeClient(config);
    await until("the API server's answer", () =>
      client.request("GET", "/readyz", { retryForMs: 0 }).then(
        () => true,
        () => false,
      ),
    );
    const root = join(dir, "root");
    await writeNodeFiles(root, api, options);
    const boot = {
      instanceId: "i-0123456789abcdef0",
      hostname: nodeName,
      rootDir: root,
      repoDir: repo,
      caCertFile: join(api, "pki/ca.crt"),
      nodeBinary: process.execPath,
      kubelet: {
        argv: [
          process.execPath,
          join(repo, "packages/node/src/kubelet/main.ts"),
          "--settings",
          "/etc/kubernetes/settings.json",
          "--kubeconfig",
          "/etc/kubernetes/kubeconfig",
        ],
      },
      resolvConf: "nameserver 10.42.0.2\n",
      cgroup: netns,
    };
    writeFileSync(join(dir, "boot.json"), JSON.stringify(boot));
    const init = start([
      "nsenter",
      `--net=/run/netns/${netns}`,
      "luajit",
      join(repo, ".build/lua/instance-init.lua"),
      join(dir, "boot.json"),
    ]);
    const inner = await until("the instance's pid 1", () => childrenOf(init.pid ?? 0)[0]);
    const kubeletPid = () =>
      childrenOf(inner).find((pid) => readText(`/proc/${pid}/cmdline`).includes("kubelet/main.ts"));
    // Before that, the process still has the machine's root.
    await until("the kubelet's start", () => kubeletPid());
    return {
      client,
      netns,
      path: (inside) => join(`/proc/${inner}/root`, inside),
      writeCniConfig: () => writeFileSync(join(`/proc/${inner}/root`, "etc/cni/net.d/10-test.conflist"), cniConfig),
      kubeletPid,
      exec: (pod, command) => exec(config, pod, command),
      open: (pod, what, query, protocol) => openStream(config, pod, what, query, protocol),
      log: (pod, query = "") =>
        client.request<string>("GET", `/api/v1/namespaces/default/pods/${pod}/log${query}`, { accept: "text/plain" }),
      stop: async () => {
        client.close();
        await stop();
      },
    };
  } catch (err) {
    process.stderr.write(readText(join(dir, "programs.log")));
    await stop();
    throw err;
  }
}

const cniConfig = JSON.stringify({
  cniVersion: "1.0.0",
  name: "test",
  plugins: [
    {
      type: "ptp",
      ipam: { type: "host-local", ranges: [[{ subnet: "10.99.0.0/24" }]], routes: [{ dst: "0.0.0.0/0" }] },
    },
  ],
});

function makeNetwork(netns: string): void {
  createNetns(netns);
  const links = Rtnl.open(netns);
  links.apply(
    { do: "set-link", name: "lo", up: true },
    { do: "add-veth", name: "eth0", peer: { name: "eth0-peer" } },
    { do: "set-link", name: "eth0-peer", up: true },
    { do: "set-link", name: "eth0", up: true },
    { do: "add-address", address: `${nodeIp}/24`, dev: "eth0" },
  );
  links.close();
}

async function findConfig(file: string): Promise<KubeConfig | undefined> {
  return existsSync(file) ? loadKubeConfig(file).catch(() => undefined) : undefined;
}

async function writeNodeFiles(root: string, api: string, options: object): Promise<void> {
  const ca = {
    cert: readFileSync(join(api, "pki/ca.crt"), "utf8"),
    key: readFileSync(join(api, "pki/ca.key"), "utf8"),
  };
  const subject = { commonName: `system:node:${nodeName}`, organizations: ["system:nodes"] };
  const user = await issueLeaf(ca, { ...subject, usage: "client" });
  const serving = await issueLeaf(ca, { ...subject, names: [nodeIp, nodeName], usage: "server" });
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  mkdirSync(join(root, "etc/kubernetes"), { recursive: true });
  mkdirSync(join(root, "var/lib/kubelet/pki"), { recursive: true });
  writeFileSync(
    join(root, "etc/kubernetes/settings.json"),
    JSON.stringify({
      nodeName,
      nodeIp,
      clusterDns: ["172.20.0.10"],
      backOff: { initialMs: 300, maxMs: 1000 },
      ...options,
    }),
  );
  writeFileSync(
    join(root, "etc/kubernetes/kubeconfig"),
    JSON.stringify({
      "current-context": "x",
      contexts: [{ name: "x", context: { cluster: "x", user: "x" } }],
      clusters: [
        { name: "x", cluster: { server: "https://127.0.0.1:443", "certificate-authority-data": base64(ca.cert) } },
      ],
      users: [
        { name: "x", user: { "client-certificate-data": base64(user.cert), "client-key-data": base64(user.key) } },
      ],
    }),
  );
  writeFileSync(join(root, "var/lib/kubelet/pki/kubelet-server-current.pem"), serving.cert + serving.key);
}

async function exec(config: KubeConfig, pod: string, command: readonly string[]) {
  const words = command.map((word): [string, string] => ["command", word]);
  const stream = await openStream(
    config,
    pod,
    "exec",
    new URLSearchParams([["stdout", "true"], ["stderr", "true"], ...words]),
  );
  await stream.closed;
  const status = JSON.parse(stream.text(3) || '{"status":"none"}') as Awaited<ReturnType<Instance["exec"]>>["status"];
  return { output: stream.text(1) + stream.text(2), status };
}

async function openStream(
  config: KubeConfig,
  pod: string,
  what: string,
  query: URLSearchParams,
  protocol = "v5.channel.k8s.io",
): Promise<Stream> {
  const credentials = await config.credentials?.(false);
  const { ca } = config.tls;
  const { cert, key } = { ...config.tls, ...credentials };
  const url = `${config.server.replace("https", "wss")}/api/v1/namespaces/default/pods/${pod}/${what}?${query.toString()}`;
  const socket = new WebSocket(url, [protocol], { ca, cert, key });
  const channels = new Map<number, Buffer[]>();
  socket.on("message", (data: Buffer) => {
    const channel = data[0] ?? 0;
    channels.set(channel, [...(channels.get(channel) ?? []), data.subarray(1)]);
  });
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  return {
    send: (channel, data) => socket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(data)])),
    text: (channel) => Buffer.concat(channels.get(channel) ?? []).toString("utf8"),
    closed,
    close: () => socket.close(),
  };
}

function childrenOf(pid: number): number[] {
  return readText(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
}

export function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

export function listFolder(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

async function run(argv: readonly string[]): Promise<void> {
  const child = spawn(argv[0] ?? "", argv.slice(1), { stdio: "inherit" });
  await until("a program to end", () => child.exitCode !== null);
  if (child.exitCode !== 0) throw new Error(`${argv.join(" ")} failed`);
}
