/**
 * The floor under a CNI ADD: what the kernel alone charges for a pod's network, and what starting any program charges.
 * 100 pods in namespaces of their own, the messages of a secondary-IP ADD on a secondary ENI, nothing else around them.
 *
 *   node bench/netlink-floor.ts [pods]      (root)      → one JSON line, times in ms
 */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNetns, deleteNetns, openNetns } from "../packages/kernel/src/netns.ts";
import { closeFd } from "../packages/kernel/src/fds.ts";
import { Rtnl } from "../packages/kernel/src/rtnetlink.ts";

const pods = Number(process.argv[2] ?? 100);
const run = `ul-t${randomBytes(3).toString("hex")}`;
const node = `${run}-node`;
const hostMac = (i: number): string => `02:00:00:00:${hex(i >> 8)}:${hex(i & 255)}`;
const podMac = (i: number): string => `02:00:00:01:${hex(i >> 8)}:${hex(i & 255)}`;
const hex = (n: number): string => n.toString(16).padStart(2, "0");

createNetns(node);
try {
  using rtnl = Rtnl.open(node);
  rtnl.apply({ do: "set-link", name: "lo", up: true });
  // Half of the pods are to get used to: the first ones pay for cold code.
  const times: number[] = [];
  for (let i = 0; i < pods * 1.5; i++) {
    const pod = `${run}-p${i}`;
    createNetns(pod);
    const fd = openNetns(pod);
    const began = performance.now();
    add(rtnl, fd, i);
    if (i >= pods / 2) times.push(performance.now() - began);
    closeFd(fd);
  }
  const noop = join(tmpdir(), `${run}-noop`);
  writeFileSync(noop, staticNoop());
  chmodSync(noop, 0o755);
  const spawns = Array.from({ length: pods }, () => {
    const began = performance.now();
    const { status } = spawnSync(noop, { stdio: "ignore" });
    if (status !== 0) throw new Error(`Cannot run the no-op executable: it ended with ${status}`);
    return performance.now() - began;
  });
  rmSync(noop);
  process.stdout.write(`${JSON.stringify({ pods, netlink: summary(times), noopExecutable: summary(spawns) })}\n`);
} finally {
  for (let i = 0; i < pods * 1.5; i++) deleteNetns(`${run}-p${i}`);
  deleteNetns(node);
}

function add(rtnl: Rtnl, pod: number, i: number): void {
  const address = `10.0.${1 + (i >> 8)}.${i & 255}/32`;
  const dev = `eni${i}`;
  rtnl.apply(
    {
      do: "add-veth",
      name: dev,
      mac: hostMac(i),
      mtu: 9001,
      up: true,
      peer: { name: "eth0", mac: podMac(i), mtu: 9001, netns: pod },
    },
    { do: "add-route", to: address, dev, scope: "link" },
    { do: "add-rule", priority: 512, to: address, table: 254 },
    { do: "add-rule", priority: 1536, from: address, table: 2 },
  );
  using inside = Rtnl.open(pod);
  inside.apply(
    { do: "set-link", name: "lo", up: true },
    { do: "set-link", name: "eth0", up: true },
    { do: "add-address", address, dev: "eth0" },
    { do: "add-neighbour", to: "169.254.1.1", mac: hostMac(i), dev: "eth0" },
    { do: "add-route", to: "169.254.1.1/32", dev: "eth0", scope: "link" },
    { do: "add-route", to: "default", via: "169.254.1.1", dev: "eth0" },
  );
}

function summary(times: number[]): { median: number; p99: number } {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number): number =>
    Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(3));
  return { median: at(0.5), p99: at(0.99) };
}

/** An ELF file that is `exit(0)` and nothing else: the least any executable can cost. */
function staticNoop(): Buffer {
  const code =
    process.arch === "arm64"
      ? Buffer.from([0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]) // mov x0,0; mov x8,93; svc 0
      : Buffer.from([0x31, 0xff, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05]); // xor edi,edi; mov eax,60; syscall
  const base = 0x400000n;
  const headers = 64 + 56;
  const elf = Buffer.alloc(headers);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  elf.writeUInt16LE(2, 16); // executable
  elf.writeUInt16LE(process.arch === "arm64" ? 183 : 62, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(base + BigInt(headers), 24); // entry
  elf.writeBigUInt64LE(64n, 32); // program headers
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(5, 68); // read, execute
  elf.writeBigUInt64LE(base, 80);
  elf.writeBigUInt64LE(base, 88);
  elf.writeBigUInt64LE(BigInt(headers + code.length), 96);
  elf.writeBigUInt64LE(BigInt(headers + code.length), 104);
  elf.writeBigUInt64LE(0x10000n, 112);
  return Buffer.concat([elf, code]);
}
