/** Prefix delegation as a user meets it: 150 pods on three nodes within a minute, and the mode switched under running pods. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { contains } from "@underlay/addr/cidr";
import { eventually, instanceIdOf, repo, runOk, TestCluster, type NodeList, type PodList } from "../support/cluster.ts";

let cluster: TestCluster;
const folder = mkdtempSync(join(tmpdir(), "underlay-file-"));
before(async () => {
  cluster = await TestCluster.up({
    file(name) {
      const text = readFileSync(join(repo, "examples/prefix.yaml"), "utf8");
      const file = join(folder, "prefix.yaml");
      writeFileSync(file, text.replace(/^ {2}name: prefix$/m, `  name: ${name}`));
      return file;
    },
  });
  await apply(deployment("pause"));
});
after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

type Instances = {
  Reservations: {
    Instances: {
      InstanceId: string;
      NetworkInterfaces: { Ipv4Prefixes?: { Ipv4Prefix: string }[]; PrivateIpAddresses: object[] }[];
    }[];
  }[];
};

/** /28 prefixes by instance, as the workshop's page asks for them. */
async function prefixes(): Promise<Map<string, string[]>> {
  const { Reservations } = await cluster.aws<Instances>(
    "ec2",
    "describe-instances",
    "--filters",
    "Name=tag-key,Values=eks:cluster-name",
    `Name=tag-value,Values=${cluster.name}`,
  );
  return new Map(
    Reservations.flatMap(({ Instances: instances }) => instances).map((instance) => [
      instance.InstanceId,
      instance.NetworkInterfaces.flatMap(({ Ipv4Prefixes = [] }) => Ipv4Prefixes.map(({ Ipv4Prefix }) => Ipv4Prefix)),
    ]),
  );
}

async function runningPods(app: string): Promise<PodList["items"]> {
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-l", `app=${app}`);
  return items.filter((pod) => pod.status.phase === "Running");
}

test("every node takes 110 pods and has at least one prefix", async () => {
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  assert.deepEqual(
    items.map((node) => (node.status as { capacity?: Record<string, string> }).capacity?.["pods"]),
    ["110", "110", "110"],
  );
  const held = await prefixes();
  assert.equal(held.size, 3);
  for (const node of items) {
    const own = held.get(instanceIdOf(node)) ?? [];
    assert.ok(own.length >= 1, `${instanceIdOf(node)} has a prefix`);
    for (const prefix of own) assert.match(prefix, /^10\.42\.\d+\.\d+\/28$/);
  }
});

test("150 pods are Available within 60 s, each inside a prefix of its node", async () => {
  const before = [...(await prefixes()).values()].flat().length;
  await cluster.kubectlOk("scale", "deployment/pause", "--replicas=150");
  const began = Date.now();
  await cluster.kubectlOk("wait", "--for=condition=available", "--timeout=60s", "deployment/pause");
  await cluster.kubectlOk("rollout", "status", "deployment/pause", "--timeout=60s");
  const tookMs = Date.now() - began;
  console.log(`150 of 150 pods available after ${(tookMs / 1000).toFixed(1)} s`);
  assert.ok(tookMs < 60_000, `150 pods took ${tookMs} ms`);
  const pods = await runningPods("pause");
  assert.equal(pods.length, 150);
  assert.equal(new Set(pods.map((pod) => pod.status.podIP)).size, 150);
  const held = await prefixes();
  assert.ok([...held.values()].flat().length > before, "more prefixes than before");
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  for (const pod of pods) {
    const node = items.find(({ metadata }) => metadata.name === pod.spec.nodeName);
    assert.ok(node);
    const own = held.get(instanceIdOf(node)) ?? [];
    assert.ok(
      own.some((prefix) => contains(prefix, pod.status.podIP ?? "")),
      `${pod.status.podIP} is in a prefix of ${pod.spec.nodeName}`,
    );
  }
});

test("kubectl set env switches the mode, and no running pod notices", async () => {
  await cluster.kubectlOk("scale", "deployment/pause", "--replicas=6");
  const before = await eventually("150 pods to shrink to 6", async () => {
    const pods = await runningPods("pause");
    return pods.length === 6 ? pods : undefined;
  });
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  const [first, second] = items.map(({ metadata }) => metadata.name);
  await apply(flow("flow-server", first ?? "", ["serve", "7000"]));
  const address = await eventually("the flow's server", async () => {
    const seen = await cluster.kubectlJson<PodList["items"][number]>("get", "pod", "flow-server");
    return seen.status.phase === "Running" ? seen.status.podIP : undefined;
  });
  await apply(flow("flow-client", second ?? "", ["read", address, "7000"]));
  await eventually("the flow to run", flowLength);
  for (const value of ["false", "true"]) {
    const ds = ["-n", "kube-system", "daemonset/aws-node"];
    await cluster.kubectlOk("set", "env", ...ds, `ENABLE_PREFIX_DELEGATION=${value}`);
    await cluster.kubectlOk("rollout", "status", ...ds, "--timeout=120s");
    // New pods come under either setting.
    await cluster.kubectlOk("scale", "deployment/pause", `--replicas=${value === "false" ? 12 : 18}`);
    await cluster.kubectlOk("rollout", "status", "deployment/pause", "--timeout=60s");
  }
  const length = (await flowLength()) ?? 0;
  await eventually("the flow to go on", async () => (((await flowLength()) ?? 0) > length + 100 ? true : undefined));
  // The client ends, and its pod is restarted, at the first missing number or when the connection ends.
  const client = await cluster.kubectlJson<PodList["items"][number]>("get", "pod", "flow-client");
  assert.equal(client.status.phase, "Running");
  const after = await runningPods("pause");
  for (const pod of before) {
    const same = after.find(({ metadata }) => metadata.name === pod.metadata.name);
    assert.equal(same?.status.podIP, pod.status.podIP, `${pod.metadata.name} keeps its address`);
  }
});

/** Numbers received over the one connection; undefined while there are none. */
async function flowLength(): Promise<number | undefined> {
  const log = await cluster.kubectlOk("logs", "flow-client", "--tail=1");
  const whole = /^(\d+) without a gap/m.exec(log)?.[1];
  return whole === undefined ? undefined : Number(whole);
}

function flow(name: string, nodeName: string, args: readonly string[]): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      nodeName,
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 1,
      containers: [{ name: "flow", image: "underlay.test/flow", args }],
    },
  };
}

function deployment(name: string): object {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      replicas: 0,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { terminationGracePeriodSeconds: 1, containers: [{ name, image: "registry.k8s.io/pause" }] },
      },
    },
  };
}

async function apply(object: object): Promise<void> {
  await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: JSON.stringify(object) });
}
