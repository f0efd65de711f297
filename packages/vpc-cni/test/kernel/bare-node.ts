/**
 * A node without a cloud: a namespace with eth0 (primary) and eth1 (a secondary ENI) towards a router namespace, ipamd's
 * plumber with a pool of given addresses behind a real socket, and the real plugin executable called by the CNI spec.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { createNetns, deleteNetns, netnsPath } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { serveUnixFd } from "@underlay/kernel/unix-fd";
import type { Log } from "@underlay/log/log";
import { checkpointFile } from "../../src/checkpoint.ts";
import { createClock } from "../../src/clock.ts";
import { Datastore } from "../../src/datastore.ts";
import { HostNetwork } from "../../src/host-network.ts";
import { installPlugin } from "../../src/install.ts";
import { createMetrics } from "../../src/metrics.ts";
import { Plumber } from "../../src/plumber.ts";

export const quiet: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => quiet };
const repo = fileURLToPath(new URL("../../../..", import.meta.url));
const macs = ["0a:00:00:00:00:10", "0a:00:00:00:00:11"];

export type PluginAnswer = { code: number; text: string; json: Record<string, unknown> };

export class BareNode {
  readonly name = `ul-t${Math.random().toString(16).slice(2, 8)}`;
  readonly node = `${this.name}-node`;
  readonly router = `${this.name}-router`;
  readonly folder = mkdtempSync(path.join(tmpdir(), "ul-cni-"));
  readonly socket = path.join(this.folder, "plumber.sock");
  readonly checkpoint = path.join(this.folder, "ipam.json");
  readonly binDir = path.join(this.folder, "bin");
  readonly clock = createClock();
  host!: HostNetwork;
  datastore!: Datastore;
  #server: { close(): Promise<void> } | undefined;
  #pods: string[] = [];

  static async start(options: { perEni?: number } = {}): Promise<BareNode> {
    const node = new BareNode();
    execFileSync(process.execPath, [path.join(repo, "packages/lua/build.ts"), repo]);
    installPlugin(node.binDir, path.join(repo, ".build/lua/aws-cni.lua"));
    createNetns(node.node);
    createNetns(node.router);
    const inRouter = Rtnl.open(node.router);
    const inNode = Rtnl.open(node.node);
    inRouter.apply({ do: "set-link", name: "lo", up: true });
    inNode.apply({ do: "set-link", name: "lo", up: true });
    for (const [index, mac] of macs.entries()) {
      inRouter.apply({
        do: "add-veth",
        name: `eni${index}`,
        mtu: 9001,
        peer: { name: `eth${index}`, mac, mtu: 9001, netns: node.node },
      });
      inRouter.apply(
        { do: "set-link", name: `eni${index}`, up: true },
        { do: "add-address", address: "10.42.0.1/32", dev: `eni${index}` },
      );
      inNode.apply({ do: "set-link", name: `eth${index}`, up: true });
    }
    inNode.apply(
      { do: "add-address", address: "10.42.0.10/24", dev: "eth0" },
      { do: "add-route", to: "default", via: "10.42.0.1", dev: "eth0" },
    );
    inRouter.close();
    inNode.close();
    execFileSync("ip", ["netns", "exec", node.node, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    await node.startIpamd(options);
    return node;
  }

  /** Plumber, store and socket as ipamd has them; a second call is a restart with the checkpoint. */
  async startIpamd(options: { perEni?: number } = {}): Promise<ReturnType<Datastore["restore"]>> {
    const { perEni = 5 } = options;
    this.host = new HostNetwork({ netns: this.node, clock: this.clock, log: quiet });
    this.datastore = new Datastore(checkpointFile(this.checkpoint), 30_000);
    for (const [deviceNumber, mac] of macs.entries()) {
      const eniId = `eni-${deviceNumber}`;
      this.datastore.addEni({
        eniId,
        mac,
        deviceNumber,
        subnetId: "subnet-1",
        primary: deviceNumber === 0,
        trunk: false,
        efa: false,
        excluded: false,
        createdAt: deviceNumber,
      });
      for (let i = 0; i < perEni; i++) this.datastore.addCidr(eniId, `10.42.0.${20 + deviceNumber * 20 + i}/32`);
    }
    await this.host.setUpEni(
      { eniId: "eni-1", mac: macs[1]!, deviceNumber: 1, primaryAddress: "10.42.0.11", subnetCidr: "10.42.0.0/24" },
      9001,
    );
    const links = [...this.host.linkNames()];
    const { podSuffix } = await import("../../src/names.ts");
    const outcome = this.datastore.restore((pod) =>
      links.some((link) => link.endsWith(podSuffix(pod.namespace, pod.name))),
    );
    this.host.setRules(
      { connmark: 0x80, nodePortSupport: true, externalSnat: false, externalServiceCidrs: [] },
      this.datastore.assignments(),
    );
    const plumber = new Plumber({
      datastore: this.datastore,
      host: this.host,
      clock: this.clock,
      log: quiet,
      metrics: createMetrics(),
      whyEmpty: () => "10 addresses, all assigned",
    });
    this.#server = await serveUnixFd({
      path: this.socket,
      handle: (request, fd) => plumber.answer(request.toString("utf8"), fd),
    });
    return outcome;
  }

  async stopIpamd(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
    this.host.close();
  }

  newPod(): string {
    const name = `${this.name}-p${this.#pods.length}`;
    createNetns(name);
    this.#pods.push(name);
    return name;
  }

  environment(command: string, pod: string, more: Record<string, string> = {}): Record<string, string> {
    return {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod,
      CNI_NETNS: netnsPath(pod),
      CNI_IFNAME: "eth0",
      CNI_PATH: this.binDir,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${pod};K8S_POD_INFRA_CONTAINER_ID=${pod}`,
      ...more,
    };
  }

  config(version = "1.0.0", more: object = {}): string {
    return JSON.stringify({
      cniVersion: version,
      name: "aws-cni",
      type: "aws-cni",
      vethPrefix: "eni",
      mtu: "9001",
      plumberSocket: this.socket,
      ...more,
    });
  }

  /** Execs the installed plugin, as a runtime does. */
  call(
    command: string,
    pod: string,
    config = this.config(),
    environment: Record<string, string> = {},
  ): Promise<PluginAnswer> {
    return new Promise((resolve, reject) => {
      const child = spawn(path.join(this.binDir, "aws-cni"), {
        env: this.environment(command, pod, environment),
        stdio: ["pipe", "pipe", "inherit"],
      });
      let text = "";
      child.stdout.on("data", (part: Buffer) => (text += part.toString()));
      child.on("error", reject);
      child.on("close", (code) =>
        resolve({
          code: code ?? -1,
          text,
          json: text.trim() === "" ? {} : (JSON.parse(text) as Record<string, unknown>),
        }),
      );
      child.stdin.on("error", () => {}); // VERSION does not read it
      child.stdin.end(config);
    });
  }

  /** `ip`, `nft`, … inside a namespace; its text. */
  run(netns: string, ...argv: readonly string[]): string {
    const { stdout, stderr, status } = spawnSync("nsenter", [`--net=${netnsPath(netns)}`, ...argv], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`${argv.join(" ")} in ${netns}: ${stderr}`);
    return stdout.replace(/[ \t]+$/gm, "").trim();
  }

  savedAddresses(): string[] {
    const data = JSON.parse(readFileSync(this.checkpoint, "utf8")) as { allocations: { ipv4: string }[] };
    return data.allocations.map((one) => one.ipv4);
  }

  async close(): Promise<void> {
    if (this.#server) await this.stopIpamd();
    for (const name of [...this.#pods, this.node, this.router]) deleteNetns(name);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
