/** A cluster whose nodes run Debian's containerd: real images, `/opt/cni/bin/aws-cni` called by containerd, VPC addresses, nothing left. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { findCgroups } from "@underlay/kernel/cgroups";
import { listNetns } from "@underlay/kernel/netns";
import {
  conditionOf,
  eventually,
  instanceIdOf,
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

test(
  "deleting a pod gives its address back; down leaves no cgroup, mount, process or namespace",
  { skip },
  async () => {
    await cluster.kubectlOk("delete", "pod", "one", "two", "--wait");
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
