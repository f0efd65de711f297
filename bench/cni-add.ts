/**
 * What a pod's network costs: ADD and DEL of the installed plugin (exec to exit, warm pool, ipamd in its own process) beside
 * (a) the same netlink messages in a bare loop plus a static executable that does nothing, and
 * (b) Debian's reference `ptp` with `host-local` (package containernetworking-plugins).
 * All variants are interleaved pod by pod, so that noise meets each alike.
 *
 *   sudo node bench/cni-add.ts [pods, default 60] [--json]
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { createNetns, deleteNetns, netnsPath, openNetns, runIn } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { BareNode } from "../packages/vpc-cni/test/kernel/bare-node.ts";

type Samples = { add: number[]; del: number[] };

if (process.argv[2] === "ipamd") await runIpamd();
else await bench(Number(process.argv[2] ?? 60) || 60, process.argv.includes("--json"));

/** ipamd of a bare node until standard input ends. */
async function runIpamd(): Promise<void> {
  const node = await BareNode.start({ perEni: 120 });
  process.stdout.write(
    `${JSON.stringify({ node: node.node, socket: node.socket, binDir: node.binDir, folder: node.folder })}\n`,
  );
  process.stdin.resume();
  process.stdin.on("end", () => void node.close().then(() => process.exit(0)));
}

async function bench(pods: number, asJson: boolean): Promise<void> {
  const ipamd = spawn(process.execPath, [process.argv[1] ?? "", "ipamd"], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await new Promise<string[]>((resolve) =>
    createInterface(ipamd.stdout).once("line", (text) => resolve([text])),
  );
  const node = JSON.parse(line ?? "{}") as { node: string; socket: string; binDir: string; folder: string };
  const made: string[] = [];
  const newPod = () => {
    const name = `${node.node}-b${made.length}`;
    createNetns(name);
    made.push(name);
    return name;
  };
  const noop = writeNoop(path.join(node.folder, "noop"));
  const ours: Samples = { add: [], del: [] };
  const ptp: Samples = { add: [], del: [] };
  const bare: number[] = [];
  const exec: number[] = [];
  const withReference = existsSync("/usr/lib/cni/ptp");
  try {
    for (let i = -5; i < pods; i++) {
      const warm = i < 0; // the first five fill caches
      const keep = (list: number[], ms: number) => void (warm || list.push(ms));
      const pod = newPod();
      const config = JSON.stringify({
        cniVersion: "0.4.0",
        name: "aws-cni",
        type: "aws-cni",
        vethPrefix: "eni",
        mtu: "9001",
        plumberSocket: node.socket,
      });
      keep(ours.add, call(node.node, path.join(node.binDir, "aws-cni"), environment("ADD", pod, node.binDir), config));
      keep(ours.del, call(node.node, path.join(node.binDir, "aws-cni"), environment("DEL", pod, node.binDir), config));
      keep(exec, call(node.node, noop, {}, ""));
      keep(bare, bareAdd(node.node, newPod(), i + 5));
      if (withReference) {
        const other = newPod();
        const reference = JSON.stringify({
          cniVersion: "0.4.0",
          name: "bench",
          type: "ptp",
          mtu: 9001,
          ipam: {
            type: "host-local",
            subnet: "10.99.0.0/16",
            routes: [{ dst: "0.0.0.0/0" }],
            dataDir: path.join(node.folder, "host-local"),
          },
        });
        keep(ptp.add, call(node.node, "/usr/lib/cni/ptp", environment("ADD", other, "/usr/lib/cni"), reference));
        keep(ptp.del, call(node.node, "/usr/lib/cni/ptp", environment("DEL", other, "/usr/lib/cni"), reference));
      }
    }
  } finally {
    for (const name of made) deleteNetns(name);
    ipamd.stdin.end();
    await new Promise((resolve) => ipamd.on("exit", resolve));
  }
  report({ ours, ptp, bare, exec, withReference, pods, asJson });
}

function environment(command: string, pod: string, binDir: string): Record<string, string> {
  return {
    PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    CNI_COMMAND: command,
    CNI_CONTAINERID: pod,
    CNI_NETNS: netnsPath(pod),
    CNI_IFNAME: "eth0",
    CNI_PATH: binDir,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=${pod}`,
  };
}

/** Milliseconds from exec to exit, in the node's namespace. */
function call(netns: string, program: string, env: Record<string, string>, input: string): number {
  return runIn(netns, () => {
    const started = performance.now();
    const { status, stdout, stderr } = spawnSync(program, { env, input });
    const took = performance.now() - started;
    if (status !== 0)
      throw new Error(
        `${program} ${env["CNI_COMMAND"] ?? ""}: exit ${status}: ${stdout.toString()}${stderr.toString()}`,
      );
    return took;
  });
}

/** The messages of one ADD for a pod on a secondary ENI, nothing else. */
function bareAdd(nodeNetns: string, pod: string, index: number): number {
  const host = Rtnl.open(nodeNetns);
  const hostFd = openNetns(nodeNetns);
  const started = performance.now();
  const inPod = Rtnl.open(pod);
  const name = `bare${index}`;
  const address = `10.98.${Math.floor(index / 250)}.${(index % 250) + 1}`;
  const mac = `0a:01:00:00:${Math.floor(index / 256)
    .toString(16)
    .padStart(2, "0")}:${(index % 256).toString(16).padStart(2, "0")}`;
  inPod.apply({ do: "add-veth", name: "eth0", mtu: 9001, peer: { name, mac, mtu: 9001, netns: hostFd } });
  host.apply(
    { do: "set-link", name, up: true },
    { do: "replace-route", to: `${address}/32`, dev: name, scope: "link" },
  );
  inPod.apply(
    { do: "set-link", name: "eth0", up: true },
    { do: "add-route", to: "169.254.1.1/32", dev: "eth0", scope: "link" },
    { do: "add-route", to: "default", via: "169.254.1.1", dev: "eth0" },
    { do: "add-address", address: `${address}/32`, dev: "eth0" },
    { do: "replace-neighbour", to: "169.254.1.1", mac, dev: "eth0" },
  );
  host.apply(
    { do: "add-rule", priority: 512, to: `${address}/32`, table: 254 },
    { do: "add-rule", priority: 1536, from: `${address}/32`, table: 2 },
  );
  inPod.close();
  const took = performance.now() - started;
  host.close();
  return took;
}

/** A static ELF executable of a few instructions: exit(0). */
function writeNoop(file: string): string {
  const arm = process.arch === "arm64";
  const code = Buffer.from(arm ? "000080d2a80b80d2010000d4" : "31ffb83c0000000f05", "hex");
  const header = Buffer.alloc(120);
  header.write("7f454c46020101", 0, "hex");
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(arm ? 183 : 62, 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(0x400078n, 24);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(1, 64);
  header.writeUInt32LE(5, 68);
  header.writeBigUInt64LE(0x400000n, 80);
  header.writeBigUInt64LE(0x400000n, 88);
  header.writeBigUInt64LE(BigInt(120 + code.length), 96);
  header.writeBigUInt64LE(BigInt(120 + code.length), 104);
  header.writeBigUInt64LE(0x1000n, 112);
  writeFileSync(file, Buffer.concat([header, code]));
  chmodSync(file, 0o755);
  return file;
}

type Figures = {
  ours: Samples;
  ptp: Samples;
  bare: number[];
  exec: number[];
  withReference: boolean;
  pods: number;
  asJson: boolean;
};

function report({ ours, ptp, bare, exec, withReference, pods, asJson }: Figures): void {
  const at = (list: readonly number[], share: number) => {
    const sorted = [...list].sort((a, b) => a - b);
    return (
      Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN) * 100) / 100
    );
  };
  const both = (list: readonly number[]) => ({ median: at(list, 0.5), p99: at(list, 0.99) });
  const floor = at(bare, 0.5) + at(exec, 0.5);
  const round = (value: number) => Math.round(value * 100) / 100;
  const result = {
    pods,
    add: both(ours.add),
    del: both(ours.del),
    bareNetlink: both(bare),
    staticNoop: both(exec),
    addOverFloor: round(at(ours.add, 0.5) / floor),
    ...(withReference
      ? {
          ptpAdd: both(ptp.add),
          ptpDel: both(ptp.del),
          addOverPtp: round(at(ours.add, 0.5) / at(ptp.add, 0.5)),
          delOverPtp: round(at(ours.del, 0.5) / at(ptp.del, 0.5)),
        }
      : {}),
  };
  if (asJson) {
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  const row = (name: string, value: { median: number; p99: number }) =>
    `${name.padEnd(34)} ${String(value.median).padStart(7)} ${String(value.p99).padStart(7)}\n`;
  process.stdout.write(
    `${"ms, pod by pod".padEnd(34)}  median     p99\n` +
      row("aws-cni ADD", result.add) +
      row("aws-cni DEL", result.del) +
      row("bare netlink loop", result.bareNetlink) +
      row("static no-op executable", result.staticNoop) +
      (withReference
        ? row("ptp + host-local ADD", both(ptp.add)) + row("ptp + host-local DEL", both(ptp.del))
        : "(ptp: package containernetworking-plugins is missing)\n") +
      `ADD / (bare netlink + no-op): ${result.addOverFloor}\n` +
      (withReference ? `ADD / ptp ADD: ${result.addOverPtp ?? ""}   DEL / ptp DEL: ${result.delOverPtp ?? ""}\n` : ""),
  );
}
