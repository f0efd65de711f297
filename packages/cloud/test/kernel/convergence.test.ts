/** The fabric against a kernel that is not as it left it: restarts, drift, leftovers. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { listNetns } from "@underlay/kernel/netns";
import { openFabric, removeNamespaces } from "../../src/fabric/fabric.ts";
import { internetNetns, natNetns, routerNetns } from "../../src/fabric/places.ts";
import {
  addInstance,
  addInternet,
  addVpc,
  connect,
  copy,
  echoServer,
  emptyState,
  exchange,
  newClusterId,
  reaches,
  run,
  withFabric,
  type State,
} from "./world.ts";

function world(clusterId: string): { state: State; a: string; b: string } {
  const state = emptyState(clusterId);
  addVpc(state, "vpc-1", "10.7.0.0/16");
  const { publicSubnet, privateSubnet } = addInternet(state, "vpc-1", "10.7.1.0/24", "10.7.2.0/24", "203.0.113.9");
  const a = addInstance(state, "i-a", publicSubnet, { host: 20, publicAddress: "203.0.113.20" });
  const b = addInstance(state, "i-b", privateSubnet, { host: 20, secondary: [30], prefixes: ["10.7.2.48/28"] });
  return { state, a, b };
}

/** Everything the kernel holds for a cluster as sorted lines, without counters, handles and carrier states. */
function picture(clusterId: string): string[] {
  return listNetns(`ul-${clusterId}-`).flatMap((netns) =>
    [
      run(netns, "ip", "-o", "link").replace(
        /@if\d+|link-netns \S+|link-netnsid \d+|^\d+: |state \S+|,LOWER_UP|NO-CARRIER,/gm,
        "",
      ),
      run(netns, "ip", "-o", "-4", "addr").replace(/^\d+: /gm, ""),
      run(netns, "ip", "-4", "route", "show", "table", "all"),
      run(netns, "ip", "rule"),
      run(netns, "ip", "neigh", "show", "nud", "permanent"),
      run(netns, "nft", "-s", "list", "ruleset"),
    ]
      .flatMap((text) => text.split(/[\n,]/))
      .map((line) => `${netns} ${line.replace(/elements = |[{}]/g, "").trim()}`)
      .filter((line) => line.trim() !== netns)
      .sort(),
  );
}

/** Compares pictures so that a failure shows only what differs. */
function assertSame(actual: readonly string[], expected: readonly string[]): void {
  assert.deepEqual(
    {
      strange: actual.filter((line) => !expected.includes(line)),
      missing: expected.filter((line) => !actual.includes(line)),
    },
    { strange: [], missing: [] },
  );
  assert.equal(actual.length, expected.length);
}

test("a fabric that starts again adopts what is there: nothing changes and flows go on", async () => {
  const clusterId = newClusterId();
  const first = await openFabric({ clusterId, stateDir: "", auditMs: 0 });
  try {
    const { state, a, b } = world(clusterId);
    await first.apply(state, "everything");
    const server = await echoServer(b, "10.7.2.20", 80);
    const flow = await connect(a, "10.7.2.20", 80);
    assert.ok(flow);
    const before = picture(clusterId);
    const index = run(a, "ip", "-o", "link", "show", "eth0").split(":")[0];
    await first.close();

    const second = await openFabric({ clusterId, stateDir: "", auditMs: 0 });
    await second.apply(copy(state), "everything");
    assertSame(picture(clusterId), before);
    assert.equal(run(a, "ip", "-o", "link", "show", "eth0").split(":")[0], index, "the same link");
    assert.equal(await exchange(flow, "still here"), "still here");
    await second.apply(copy(state), "everything");
    assertSame(picture(clusterId), before);
    flow.destroy();
    await server.close();
    await second.close();
  } finally {
    removeNamespaces(clusterId);
  }
  assert.deepEqual(listNetns(`ul-${clusterId}-`), []);
});

test("what somebody broke is repaired", async (t) => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = world(clusterId);
    await fabric.apply(state, "everything");
    const router = routerNetns(clusterId, "vpc-1");
    const whole = picture(clusterId);
    const internet = internetNetns(clusterId);
    const breaks: [string, string, string[]][] = [
      ["a route of an ENI", router, ["ip", "route", "del", "10.7.2.20"]],
      ["a subnet's default route", router, ["ip", "route", "flush", "table", "1002"]],
      ["a policy rule", router, ["ip", "rule", "del", "priority", "100"]],
      ["a neighbour", router, ["ip", "neigh", "del", "10.7.2.20", "dev", "eni3"]],
      ["a link", router, ["ip", "link", "del", "eni3"]],
      ["a link taken down", router, ["ip", "link", "set", "eni2", "down"]],
      ["the guest's end", a, ["ip", "link", "del", "eth0"]],
      ["the lease", a, ["ip", "addr", "flush", "dev", "eth0"]],
      ["a wire to the internet", router, ["ip", "link", "del", "igw"]],
      ["an element", router, ["nft", "flush", "map", "ip", "fabric", "ingress_of"]],
      ["a chain's rules", router, ["nft", "flush", "chain", "ip", "fabric", "source_check"]],
      ["the whole table", router, ["nft", "delete", "table", "ip", "fabric"]],
      ["a strange route", router, ["ip", "route", "add", "10.7.9.0/24", "dev", "lo"]],
      ["a strange rule of a chain", router, ["nft", "insert", "rule", "ip", "fabric", "egress", "drop"]],
      ["a gateway's NAT", natNetns(clusterId, "nat-vpc-1"), ["nft", "flush", "ruleset"]],
      ["a namespace", internet, ["ip", "netns", "del", natNetns(clusterId, "nat-vpc-1")]],
      ["the router itself", internet, ["ip", "netns", "del", router]],
      ["a leftover namespace", internet, ["ip", "netns", "add", `ul-${clusterId}-i-forgotten`]],
    ];
    for (const [what, netns, command] of breaks) {
      await t.test(what, async () => {
        run(netns, ...command);
        await fabric.audit();
        assertSame(picture(clusterId), whole);
      });
    }
    const server = await echoServer(internet, "192.0.2.10", 80);
    assert.equal(await reaches(b, "192.0.2.10", 80), true);
    await server.close();
  });
});

test("a fabric killed at any moment of its work leaves nothing the next one cannot put right", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state } = world(clusterId);
    await fabric.apply(state, "everything");
    const whole = picture(clusterId);
    const directory = mkdtempSync(join(tmpdir(), "underlay-killed-"));
    const file = join(directory, "state.json");
    writeFileSync(file, JSON.stringify(state));
    try {
      for (const afterMs of [1, 3, 6, 11, 17, 23, 29, 41, 53, 67, 83, 97]) {
        const child = spawn(process.execPath, [join(import.meta.dirname, "killed-fabric.ts"), clusterId, file], {
          stdio: ["ignore", "pipe", "inherit"],
        });
        await once(child.stdout, "data");
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        child.kill("SIGKILL");
        await once(child, "exit");
        await fabric.apply(state, "everything");
        assertSame(picture(clusterId), whole);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

test("what a guest does with its devices is its business", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a } = world(clusterId);
    await fabric.apply(state, "everything");
    run(a, "ip", "link", "set", "eth0", "down");
    run(a, "ip", "link", "set", "eth0", "name", "ens5");
    run(a, "ip", "rule", "add", "from", "10.7.1.20", "table", "7");
    run(a, "ip", "addr", "add", "10.7.1.21/32", "dev", "lo");
    const changed = picture(clusterId);
    await fabric.audit();
    assertSame(picture(clusterId), changed);
  });
});

test("everything is removed with the state", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state } = world(clusterId);
    await fabric.apply(state, "everything");
    await fabric.apply(emptyState(clusterId), { kinds: ["vpcs"], ids: [] });
    assert.deepEqual(listNetns(`ul-${clusterId}-`), [internetNetns(clusterId)]);
    assert.doesNotMatch(run(internetNetns(clusterId), "ip", "-o", "link"), /vpc-/);
  });
});

test("an instance that boots again has a bare network", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a } = world(clusterId);
    await fabric.apply(state, "everything");
    const whole = picture(clusterId);
    run(a, "ip", "rule", "add", "from", "10.7.1.20", "table", "7");
    run(a, "sysctl", "-qw", "net.ipv4.ip_forward=1");
    await fabric.resetInstance("i-a");
    assertSame(picture(clusterId), whole);
    assert.match(run(a, "sysctl", "net.ipv4.ip_forward"), /= 0/);
  });
});
