/** How many pods a node takes, where their addresses come from, and that they go back. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  conditionOf,
  eventually,
  instanceIdOf,
  runOk,
  TestCluster,
  type NodeList,
  type PodList,
} from "../support/cluster.ts";

let cluster: TestCluster;
let node: NodeList["items"][number];
before(async () => {
  cluster = await TestCluster.up();
  const coredns = await cluster.kubectlJson<PodList>("get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns");
  const taken = new Set(coredns.items.map((pod) => pod.spec.nodeName));
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  const free = items.find(({ metadata }) => !taken.has(metadata.name));
  assert.ok(free, "a node without coredns");
  node = free;
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "fill" },
    spec: {
      replicas: 0,
      selector: { matchLabels: { app: "fill" } },
      template: {
        metadata: { labels: { app: "fill" } },
        spec: {
          nodeSelector: { "kubernetes.io/hostname": node.metadata.labels["kubernetes.io/hostname"] },
          terminationGracePeriodSeconds: 1,
          containers: [{ name: "pause", image: "registry.k8s.io/pause" }],
        },
      },
    },
  };
  await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: JSON.stringify(deployment) });
});
after(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

type Eni = {
  NetworkInterfaceId: string;
  Attachment: { DeviceIndex: number };
  PrivateIpAddresses: { PrivateIpAddress: string; Primary: boolean }[];
};

/** The node's ENIs by device index, with their secondary addresses. */
async function enis(): Promise<Map<number, string[]>> {
  const { NetworkInterfaces } = await cluster.aws<{ NetworkInterfaces: Eni[] }>(
    "ec2",
    "describe-network-interfaces",
    "--filters",
    `Name=attachment.instance-id,Values=${instanceIdOf(node)}`,
  );
  return new Map(
    NetworkInterfaces.map((eni) => [
      eni.Attachment.DeviceIndex,
      eni.PrivateIpAddresses.filter(({ Primary }) => !Primary).map(({ PrivateIpAddress }) => PrivateIpAddress),
    ]),
  );
}

async function scale(replicas: number): Promise<PodList["items"]> {
  await cluster.kubectlOk("scale", "deployment/fill", `--replicas=${replicas}`);
  return eventually(
    `${replicas} pods`,
    async () => {
      const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-l", "app=fill");
      const ready = items.filter((pod) => conditionOf(pod, "Ready") === "True");
      return items.length === replicas && ready.length === Math.min(replicas, 27) ? items : undefined;
    },
    90_000,
  );
}

async function devicesOf(pods: PodList["items"]): Promise<number[]> {
  const all = await enis();
  return pods
    .filter((pod) => pod.status.podIP)
    .map((pod) => [...all].find(([, addresses]) => addresses.includes(pod.status.podIP ?? ""))?.[0] ?? -1)
    .toSorted((a, b) => a - b);
}

test("the first pods use the oldest ENI while the next ENI stands ready ahead of need", async () => {
  assert.deepEqual(await devicesOf(await scale(5)), [0, 0, 0, 0, 0]);
  const warm = await eventually("a warm second ENI", async () => ((await enis()).size >= 2 ? enis() : undefined));
  assert.equal(warm.get(1)?.length, 9);
});

test("27 VPC pods and 2 host-network pods make 29; the next is Pending with the scheduler's words", async () => {
  const pods = await scale(28);
  assert.deepEqual(await devicesOf(pods), [...Array(9).fill(0), ...Array(9).fill(1), ...Array(9).fill(2)]);
  const pending = pods.find((pod) => pod.status.phase === "Pending");
  assert.ok(pending);
  const reason = pending.status.conditions?.find(({ type }) => type === "PodScheduled");
  assert.equal(reason?.reason, "Unschedulable");
  assert.match(
    reason?.message ?? "",
    /^0\/3 nodes are available: 1 Too many pods, 2 node\(s\) didn't match Pod's node affinity\/selector\./,
  );
});

test("scaling down returns ENIs after their cooldowns", async () => {
  await scale(0);
  const left = await eventually(
    "the third ENI to go",
    async () => ((await enis()).size < 3 ? enis() : undefined),
    180_000,
  );
  assert.ok(left.has(0));
});
