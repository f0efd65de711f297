/** Instances as processes: boot, adoption, death, termination. `sleep` and `sh` stand in for the init program. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bindMount } from "@underlay/kernel/mounts";
import { netnsPath } from "@underlay/kernel/netns";
import { openInstanceHost } from "../../src/instances/host.ts";
import type { FabricInstance, InstanceHost } from "../../src/fabric/seam.ts";
import { addInstance, addSubnet, addVpc, emptyState, run, withFabric } from "./world.ts";

type Place = {
  host(): Promise<InstanceHost>;
  instance: FabricInstance;
  netns: string;
  stateDir: string;
  pid(): number | undefined;
  exits: string[];
};

async function withInstance(work: (place: Place) => Promise<void>): Promise<void> {
  const stateDir = mkdtempSync(join(tmpdir(), "underlay-host-"));
  const hosts: InstanceHost[] = [];
  const exits: string[] = [];
  try {
    await withFabric(async (fabric, clusterId) => {
      const state = emptyState(clusterId);
      addVpc(state, "vpc-1", "10.7.0.0/16");
      const netns = addInstance(state, "i-a", addSubnet(state, "vpc-1", "10.7.1.0/24"), { host: 10 });
      await fabric.apply(state, "everything");
      const host = async (): Promise<InstanceHost> => {
        const opened = await openInstanceHost({
          clusterId,
          stateDir,
          repoDir: "/repo",
          nodeBinary: "/node",
          caCertFile: "/ca",
          region: "us-west-2",
          argv: ["sh", "-c", "exec sleep 1000"],
          resolverOf: () => "10.7.0.2",
          resetInstance: (instanceId) => fabric.resetInstance(instanceId),
          onExit: (instanceId) => exits.push(instanceId),
        });
        hosts.push(opened);
        return opened;
      };
      const pid = (): number | undefined => {
        const file = join(stateDir, "pids/i-a.pid");
        return existsSync(file) ? Number(/\d+/.exec(readFileSync(file, "utf8"))?.[0]) : undefined;
      };
      try {
        await work({ host, instance: state.instances[0]!, netns, stateDir, pid, exits });
      } finally {
        await hosts.at(-1)?.terminate("i-a");
        await hosts.at(-1)?.close();
      }
    });
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("an instance boots in its namespace, is adopted by the next host, and is gone after termination", async () => {
  await withInstance(async ({ host, instance, netns, stateDir, pid }) => {
    const first = await host();
    await first.ensureRunning(instance);
    const init = pid()!;
    await until("init runs in the instance's namespace", () =>
      readlinkSync(`/proc/${init}/ns/net`).includes(`${statSync(netnsPath(netns)).ino}`),
    );
    const boot = JSON.parse(readFileSync(join(stateDir, "instances/i-a/boot.json"), "utf8"));
    assert.equal(boot.instanceId, "i-a");
    assert.equal(boot.hostname, "ip-10-7-1-10.us-west-2.compute.internal");
    assert.match(boot.resolvConf, /^nameserver 10\.7\.0\.2\nsearch us-west-2\.compute\.internal\n/);
    await first.close();
    const second = await host();
    await second.ensureRunning(instance);
    assert.equal(pid(), init, "adopted, not booted again");
    await second.terminate("i-a");
    await until("init is gone (reaped by this process, its parent)", () => !existsSync(`/proc/${init}`));
    assert.equal(existsSync(join(stateDir, "instances/i-a")), false);
  });
});

test("an instance whose init died boots again", async () => {
  await withInstance(async ({ host, instance, pid, exits }) => {
    await (await host()).ensureRunning(instance);
    const init = pid()!;
    process.kill(init, "SIGKILL");
    await until("another init runs", () => pid() !== undefined && pid() !== init && existsSync(`/proc/${pid()}`));
    assert.deepEqual(exits, ["i-a"]);
  });
});

test("an instance that died while no host ran boots with a bare network", async () => {
  await withInstance(async ({ host, instance, netns, pid }) => {
    const first = await host();
    await first.ensureRunning(instance);
    await first.close();
    const init = pid()!;
    run(netns, "ip", "rule", "add", "from", "10.7.1.10", "table", "7");
    process.kill(init, "SIGKILL");
    await until("init is gone", () => !existsSync(`/proc/${init}`));
    await (await host()).ensureRunning(instance);
    assert.notEqual(pid(), init);
    assert.doesNotMatch(run(netns, "ip", "rule"), /10\.7\.1\.10/);
    assert.match(run(netns, "ip", "-o", "addr", "show", "eth0"), /10\.7\.1\.10\/24/);
  });
});

test("termination removes mounts of the instance's directory, not what they show", async () => {
  await withInstance(async ({ host, instance, stateDir }) => {
    const opened = await host();
    await opened.ensureRunning(instance);
    const precious = join(stateDir, "precious");
    mkdirSync(precious);
    writeFileSync(join(precious, "file"), "keep me");
    const target = join(stateDir, "instances/i-a/root/opt");
    mkdirSync(target, { recursive: true });
    bindMount(precious, target);
    await opened.terminate("i-a");
    assert.equal(readFileSync(join(precious, "file"), "utf8"), "keep me");
    assert.equal(existsSync(join(stateDir, "instances/i-a")), false);
  });
});
