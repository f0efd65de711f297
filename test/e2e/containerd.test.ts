/** A cluster whose nodes run Debian's containerd: real images, `/opt/cni/bin/aws-cni` called by containerd, VPC addresses, nothing left. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findCgroups } from "@underlay/kernel/cgroups";
import { listNetns } from "@underlay/kernel/netns";
import {
  conditionOf,
  eventually,
  instanceIdOf,
  repo,
  runOk,
  TestCluster,
  type NodeList,
  type PodList,
} from "../support/cluster.ts";

const missing = Object.entries({
  containerd: "/usr/bin/containerd",
  runc: "/usr/sbin/runc",
  "busybox-static": "/usr/bin/busybox",
}).filter(([, file]) => !existsSync(file));
const skip =
  missing.length > 0
    ? `not installed: ${missing.map(([name]) => name).join(", ")} (./underlay test installs them)`
    : false;

let cluster: TestCluster;
before(async () => {
  if (skip) return;
  cluster = await TestCluster.up({ args: ["--runtime", "containerd"] });
});
after(async () => {
  await cluster?.[Symbol.asyncDispose]();
});

const pod = (name: string, node: string) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: {
    nodeName: node,
    terminationGracePeriodSeconds: 1,
    containers: [
      {
        name: "c",
        image: "busybox",
        command: [
          "sh",
          "-c",
          `echo ${name} is here; mkdir /www; echo from ${name} > /www/index.html; exec httpd -f -p 80 -h /www`,
        ],
      },
    ],
  },
});

test(
  "pods in containerd have VPC addresses of their node's ENIs, and reach each other, Services and the internet",
  { skip },
  async () => {
    const { items: nodes } = await cluster.kubectlJson<NodeList>("get", "nodes");
    assert.equal(nodes.length, 3);
    for (const node of nodes) assert.match(node.status.nodeInfo.containerRuntimeVersion, /^containerd:\/\//);
    const names = nodes.map(({ metadata }) => metadata.name);
    const list = { apiVersion: "v1", kind: "List", items: [pod("one", names[0] ?? ""), pod("two", names[1] ?? "")] };
    await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: JSON.stringify(list) });
    const pods = await eventually("both pods", async () => {
      const { items } = await cluster.kubectlJson<PodList>("get", "pods");
      return items.length === 2 && items.every((item) => conditionOf(item, "Ready") === "True") ? items : undefined;
    });
    for (const [index, item] of pods.entries()) {
      const node = nodes[index];
      assert.ok(node);
      const { NetworkInterfaces } = await cluster.aws<{
        NetworkInterfaces: { PrivateIpAddresses: { PrivateIpAddress: string; Primary: boolean }[] }[];
      }>("ec2", "describe-network-interfaces", "--filters", `Name=attachment.instance-id,Values=${instanceIdOf(node)}`);
      const secondary = NetworkInterfaces.flatMap((eni) => eni.PrivateIpAddresses).filter(({ Primary }) => !Primary);
      assert.ok(
        secondary.some(({ PrivateIpAddress }) => PrivateIpAddress === item.status.podIP),
        `${item.status.podIP} is of ${instanceIdOf(node)}`,
      );
    }
    const other = pods[1]?.status.podIP ?? "";
    assert.equal(await cluster.kubectlOk("exec", "one", "--", "wget", "-qO-", `http://${other}/`), "from two\n");
    assert.match(
      await cluster.kubectlOk("exec", "one", "--", "nslookup", "kubernetes.default.svc.cluster.local"),
      /172\.20\.0\.1/,
    );
    assert.match(await cluster.kubectlOk("exec", "two", "--", "wget", "-qO-", "http://echo.underlay.test/"), /"/);
    assert.equal(await cluster.kubectlOk("logs", "one"), "one is here\n");
  },
);

/** The shipped image in place of the built-in one; its CA is the node's, as any image's would be on a node behind a private CA. */
const caMount = { name: "ca", mountPath: "/etc/ssl/certs/underlay-ca.crt" };
const shipped = {
  spec: {
    template: {
      spec: {
        volumes: [{ name: "ca", hostPath: { path: "/etc/ssl/certs/underlay-ca.crt", type: "File" } }],
        initContainers: [
          {
            name: "aws-vpc-cni-init",
            image: "underlay.test/aws-node:dist",
            args: ["aws-node-init"],
            volumeMounts: [caMount],
          },
        ],
        containers: [{ name: "aws-node", image: "underlay.test/aws-node:dist", volumeMounts: [caMount] }],
      },
    },
    updateStrategy: { rollingUpdate: { maxUnavailable: "100%" } },
  },
};

test("aws-node from dist/ runs as its own image, and pods get their addresses from it", { skip }, async () => {
  const dist = mkdtempSync(join(tmpdir(), "underlay-dist-"));
  try {
    await runOk(join(repo, "tools/make-dist"), [dist]);
    const sockets = containerdsOf(cluster.netns("")).map((pid) => `/proc/${pid}/root/run/containerd/containerd.sock`);
    assert.equal(sockets.length, 3);
    const archive = join(dist, "aws-node/image.tar");
    for (const socket of sockets)
      await runOk("ctr", ["--address", socket, "--namespace", "k8s.io", "images", "import", archive]);
  } finally {
    rmSync(dist, { recursive: true });
  }
  await cluster.kubectlOk("patch", "daemonset", "aws-node", "-n", "kube-system", "-p", JSON.stringify(shipped));
  await cluster.kubectlOk("rollout", "status", "daemonset/aws-node", "-n", "kube-system", "--timeout=90s");
  // Its own files, not the machine's.
  const inAwsNode = ["exec", "-n", "kube-system", "ds/aws-node", "-c", "aws-node", "--"];
  const programs = await cluster.kubectlOk(...inAwsNode, "/usr/bin/busybox", "ls", "/usr/bin");
  assert.deepEqual(programs.split("\n").filter(Boolean).sort(), ["busybox", "luajit", "sh"]);
  const { items: nodes } = await cluster.kubectlJson<NodeList>("get", "nodes");
  const third = JSON.stringify(pod("three", nodes[2]?.metadata.name ?? ""));
  await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: third });
  const three = await eventually("a pod's address", async () => {
    const { items } = await cluster.kubectlJson<PodList>("get", "pods", "--field-selector=metadata.name=three");
    return items[0] && conditionOf(items[0], "Ready") === "True" ? items[0] : undefined;
  });
  assert.match(three.status.podIP ?? "", /^10\.42\./);
  const fetched = await cluster.kubectlOk("exec", "one", "--", "wget", "-qO-", `http://${three.status.podIP}/`);
  assert.equal(fetched, "from three\n");
});

test(
  "deleting a pod gives its address back; down leaves no cgroup, mount, process or namespace",
  { skip },
  async () => {
    await cluster.kubectlOk("delete", "pod", "one", "two", "three", "--wait");
    const prefix = `ul-${cluster.record.clusterId}-`;
    assert.notEqual(findCgroups(prefix).length, 0);
    const { stateDir } = cluster;
    await cluster.underlayOk("down", "-c", cluster.name);
    // A cgroup that is gone had no process left.
    assert.deepEqual(findCgroups(prefix), []);
    assert.deepEqual(listNetns(prefix), []);
    assert.equal(readFileSync("/proc/self/mountinfo", "utf8").includes(stateDir), false);
    assert.equal(existsSync(stateDir), false);
  },
);

/** Process ids of the containerds whose cgroup's name begins so. */
function containerdsOf(prefix: string): string[] {
  const text = (file: string) => readFileSync(file, "utf8");
  return readdirSync("/proc").filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) &&
        text(`/proc/${pid}/cmdline`).startsWith("containerd\0") &&
        text(`/proc/${pid}/cgroup`).includes(`/${prefix}`)
      );
    } catch {
      return false; // it ended while we looked
    }
  });
}
