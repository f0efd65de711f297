/** `kill -9` of every process of a cluster, one after another: it returns to the same state, and what ran keeps running. */
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  conditionOf,
  eventually,
  instanceIdOf,
  run,
  runOk,
  TestCluster,
  type NodeList,
  type PodList,
} from "../support/cluster.ts";

let cluster: TestCluster;
before(async () => {
  cluster = await TestCluster.up();
  await startFlow();
});
after(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

/** Two pods on different nodes with one TCP connection that must never break. */
async function startFlow(): Promise<void> {
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  const [first, second] = items.map(({ metadata }) => metadata.name);
  const pod = (name: string, node: string | undefined, args: string[]): object => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      nodeName: node,
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 1,
      containers: [{ name: "flow", image: "underlay.test/flow", args }],
    },
  });
  await apply(pod("flow-server", first, ["serve", "7000"]));
  const address = await eventually("the flow's server", async () => {
    const seen = await cluster.kubectlJson<PodList["items"][number]>("get", "pod", "flow-server");
    return conditionOf(seen, "Ready") === "True" ? seen.status.podIP : undefined;
  });
  await apply(pod("flow-client", second, ["read", address, "7000"]));
  await eventually("the flow to run", async () =>
    (await cluster.kubectlOk("logs", "flow-client")).includes("without a gap") ? true : undefined,
  );
}

async function apply(object: object): Promise<void> {
  await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: JSON.stringify(object) });
}

type Footprint = {
  readonly addresses: Record<string, string>;
  readonly pids: Record<string, string>;
  readonly restarts: number;
};

/** What must not change: each pod's address, container ids and restart counts. */
async function footprint(): Promise<Footprint> {
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-A");
  const running = items.filter((pod) => pod.status.phase === "Running");
  return {
    addresses: Object.fromEntries(
      running.map((pod) => [`${pod.metadata.namespace}/${pod.metadata.name}`, pod.status.podIP ?? ""]),
    ),
    pids: Object.fromEntries(
      running.map((pod) => [
        pod.metadata.name,
        pod.status.containerStatuses?.map((status) => status.containerID).join() ?? "",
      ]),
    ),
    restarts: running.reduce(
      (sum, pod) => sum + (pod.status.containerStatuses ?? []).reduce((all, status) => all + status.restartCount, 0),
      0,
    ),
  };
}

async function flowIsWhole(): Promise<void> {
  const count = async (): Promise<number> => {
    const lines = (await cluster.kubectlOk("logs", "flow-client", "--tail=3")).trim().split("\n");
    assert.ok(!lines.some((line) => line.startsWith("BROKEN")), lines.join("\n"));
    return Number.parseInt(lines.at(-1) ?? "0", 10);
  };
  const began = await count();
  await eventually("the flow to go on", async () => ((await count()) > began + 50 ? true : undefined), 20_000);
}

async function allReady(): Promise<void> {
  await eventually(
    "the cluster to be Ready again",
    async () => {
      const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
      const pods = await cluster.kubectlJson<PodList>("get", "pods", "-A");
      const ready =
        items.every((node) => conditionOf(node, "Ready") === "True") &&
        pods.items.every((pod) => conditionOf(pod, "Ready") === "True");
      return ready ? true : undefined;
    },
    90_000,
  );
}

/** Pids of a program by a word of its command line, inside this cluster only. */
async function pidsOf(pattern: string): Promise<number[]> {
  const namespaces = (await runOk("ip", ["netns", "list"]))
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name.startsWith(cluster.netns("")));
  const inodes = new Set(namespaces.map((name) => statSync(`/run/netns/${name}`).ino));
  const { stdout } = await run("pgrep", ["-f", pattern]);
  return stdout
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 0 && belongs(pid, inodes));
}

function belongs(pid: number, inodes: ReadonlySet<number>): boolean {
  try {
    return (
      inodes.has(statSync(`/proc/${pid}/ns/net`).ino) ||
      readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(cluster.stateRoot)
    );
  } catch {
    return false;
  }
}

const victims: readonly [what: string, pattern: string][] = [
  ["ipamd on every node", "programs/aws-node.mjs"],
  ["kubelet on every node", "programs/kubelet.mjs"],
  ["kube-proxy on every node", "programs/kube-proxy.mjs"],
  ["the API server", "programs/apiserver.mjs"],
  ["the controller manager", "programs/controller-manager.mjs"],
  ["the network policy controller", "programs/network-policy-controller.mjs"],
  ["the cloud", "programs/cloud.mjs"],
];

for (const [what, pattern] of victims) {
  test(`kill -9 of ${what}: the pods, their addresses and the flow stay`, async () => {
    await allReady();
    const before = await footprint();
    const pids = await pidsOf(pattern);
    assert.ok(pids.length > 0, `nothing matches ${pattern}`);
    for (const pid of pids) process.kill(pid, "SIGKILL");
    await eventually(
      "it to run again",
      async () =>
        (await pidsOf(pattern)).filter((pid) => !pids.includes(pid)).length >= pids.length ? true : undefined,
      60_000,
    );
    await allReady();
    await flowIsWhole();
    const after = await footprint();
    assert.deepEqual(after.addresses, before.addresses);
    for (const name of ["flow-server", "flow-client"]) assert.equal(after.pids[name], before.pids[name]);
  });
}

test("kill -9 of a pod's shim: the kubelet makes the pod anew, the others stay", async () => {
  await runOk("kubectl", ["create", "deployment", "shimmed", "--image=registry.k8s.io/pause"], { env: cluster.env });
  await allReady();
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-l", "app=shimmed");
  const shims = async (): Promise<number[]> =>
    (await run("pgrep", ["-f", `pod-shim.lua .*${items[0]?.metadata.uid}`])).stdout
      .split("\n")
      .filter(Boolean)
      .map(Number);
  const [shim] = await shims(); // it lives in the pod's own namespaces; the pod's uid is name enough
  assert.ok(shim, "the pod has a shim");
  process.kill(shim, "SIGKILL");
  await eventually("the shim's successor", async () => {
    const pids = await shims();
    return pids.length > 0 && !pids.includes(shim) ? true : undefined;
  });
  await allReady();
  await flowIsWhole();
  await cluster.kubectlOk("delete", "deployment", "shimmed");
});

test("kill -9 of a node's first process: the instance boots again and its pods come back", async () => {
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  const pods = await cluster.kubectlJson<PodList>("get", "pods", "-A");
  const busy = new Set(
    ["flow-server", "flow-client"].map(
      (name) => pods.items.find(({ metadata }) => metadata.name === name)?.spec.nodeName,
    ),
  );
  const node = items.find(({ metadata }) => !busy.has(metadata.name));
  assert.ok(node);
  const kubelets = await pidsOf("programs/kubelet.mjs");
  const there = pods.items.filter(({ spec }) => spec.nodeName === node.metadata.name);
  const containersOf = (list: PodList["items"]): string[] =>
    list.flatMap(({ status }) => (status.containerStatuses ?? []).map(({ containerID }) => containerID ?? ""));
  const [init] = await pidsOf(`instance-init.lua .*${instanceIdOf(node)}`);
  assert.ok(init);
  process.kill(init, "SIGKILL");
  await eventually("a new kubelet", async () => {
    const now = await pidsOf("programs/kubelet.mjs");
    return now.length === kubelets.length && now.some((pid) => !kubelets.includes(pid)) ? true : undefined;
  });
  await eventually("every container of the node to be a new one", async () => {
    const { items: now } = await cluster.kubectlJson<PodList>("get", "pods", "-A");
    const running = containersOf(now.filter(({ spec }) => spec.nodeName === node.metadata.name));
    return running.length > 0 && !running.some((id) => containersOf(there).includes(id)) ? true : undefined;
  });
  await allReady();
  await flowIsWhole();
});

test("kill -9 of the supervisor: the next command adopts what runs", async () => {
  const before = await footprint();
  const supervisor = await pidsOf("programs/supervisor.mjs");
  const cloud = await pidsOf("programs/cloud.mjs");
  for (const pid of supervisor) process.kill(pid, "SIGKILL");
  await cluster.underlayOk("up", "--name", cluster.name);
  await allReady();
  await flowIsWhole();
  assert.deepEqual(await pidsOf("programs/cloud.mjs"), cloud);
  assert.deepEqual((await footprint()).addresses, before.addresses);
});

test("down after kill -9 of everything leaves nothing", async () => {
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  assert.ok(items.map(instanceIdOf).every((id) => id.startsWith("i-")));
  const prefix = cluster.netns("");
  const everything = [...(await pidsOf(".")), ...(await pidsOf(cluster.stateRoot))];
  for (const pid of everything) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // a parent took it along
    }
  }
  await cluster.underlayOk("down", "--all");
  const namespaces = await runOk("ip", ["netns", "list"]);
  assert.ok(!namespaces.includes(prefix), namespaces);
  assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(cluster.stateRoot));
  assert.equal((await run("pgrep", ["-f", join(cluster.stateRoot, cluster.name)])).stdout, "");
});
