/** What a person meets around a cluster: wrong user, wrong file, ports in use, half-dead clusters, two clusters at once. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { conditionOf, eventually, repo, run, runOk, TestCluster, type NodeList } from "../support/cluster.ts";

const folder = mkdtempSync(join(tmpdir(), "underlay-launcher-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A one-node cluster file: the smallest thing that is a whole cluster. */
function clusterFile(name: string, more = ""): string {
  const path = join(folder, `${name}.yaml`);
  const text = `apiVersion: eksctl.io/v1alpha5
kind: ClusterConfig
metadata: { name: ${name}, region: us-west-2 }
managedNodeGroups: [{ name: one, instanceType: m5.large, desiredCapacity: 1, privateNetworking: true }]
${more}`;
  writeFileSync(path, text);
  return path;
}

function underlay(...args: string[]) {
  return run(join(repo, "underlay"), args, { env: { ...process.env, UNDERLAY_STATE: join(folder, "state") } });
}

test("without root the launcher says what needs it", async () => {
  const outcome = await run("setpriv", ["--reuid", "65534", "--clear-groups", join(repo, "underlay"), "up"]);
  assert.equal(outcome.code, 1);
  assert.match(outcome.stderr, /Cannot run 'up' as nobody: network namespaces need root\.\n\s+Try: sudo/);
});

test("a cluster file with an unknown field, a VPC that is too small, a file that is not there: each refused by name", async () => {
  const unknown = await underlay("up", "-f", clusterFile("unknown", "fargateProfiles: []\n"));
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /fargateProfiles is not supported/);
  const small = await underlay("up", "-f", clusterFile("small", "vpc: { cidr: 10.9.0.0/27 }\n"));
  assert.equal(small.code, 1);
  assert.match(small.stderr, /Cannot cut 10\.9\.0\.0\/27 into 6 subnets/);
  const absent = await underlay("up", "-f", join(folder, "absent.yaml"));
  assert.equal(absent.code, 1);
  assert.match(absent.stderr, /absent\.yaml: it does not exist/);
  const nowhere = await underlay("status", "-c", "nobody");
  assert.equal(nowhere.code, 1);
  assert.match(nowhere.stderr, /Cannot find cluster nobody[\s\S]*\.\/underlay up/);
  assert.match((await underlay("down", "--all")).stdout, /^$/, "none of them left a cluster behind");
});

function occupy(port: number): Promise<Server | undefined> {
  return new Promise((settle) => {
    const server = createServer();
    server.once("error", () => settle(undefined)); // someone else has it: just as occupied
    server.listen(port, "127.0.0.1", () => settle(server));
  });
}

let first: TestCluster;
let second: TestCluster;
before(async () => {
  const taken = [await occupy(4566), await occupy(6443)];
  first = await TestCluster.up({ file: (name) => clusterFile(name) });
  for (const server of taken) server?.close();
  second = await TestCluster.up({ file: (name) => clusterFile(name) });
});
after(async () => {
  await first?.[Symbol.asyncDispose]();
  await second?.[Symbol.asyncDispose]();
});

async function readyNodes(cluster: TestCluster): Promise<string[]> {
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes");
  return items.filter((node) => conditionOf(node, "Ready") === "True").map(({ metadata }) => metadata.name);
}

test("a port in use is passed over, and two clusters with the same addresses live side by side", async () => {
  assert.notEqual(first.record.apiPort, 4566);
  assert.notEqual(first.record.kubePort, 6443);
  assert.notEqual(first.record.clusterId, second.record.clusterId);
  assert.equal((await readyNodes(first)).length, 1);
  assert.deepEqual(await readyNodes(first), await readyNodes(second), "the same VPC, so the same node name");
  for (const cluster of [first, second]) {
    const answer = await cluster.kubectlOk(
      "exec",
      "-n",
      "kube-system",
      "ds/aws-node",
      "--",
      "curl",
      "-s",
      "http://echo.underlay.test/",
    );
    assert.equal(JSON.parse(answer).client.address, "203.0.113.10");
  }
});

test("up with another file for the same cluster is refused, and changes nothing", async () => {
  const outcome = await first.underlay("up", "-f", clusterFile(first.name, "vpc: { cidr: 10.77.0.0/16 }\n"));
  assert.equal(outcome.code, 1);
  assert.match(outcome.stderr, /Cannot change cluster .*: it was made from a different cluster file/);
  assert.equal((await readyNodes(first)).length, 1);
});

test("in the operator's shell update-kubeconfig and get-token of the stock CLI open the real endpoint", async () => {
  const script =
    "aws eks update-kubeconfig --name $EKS_CLUSTER_NAME --kubeconfig $HOME/kc >/dev/null && KUBECONFIG=$HOME/kc kubectl get nodes -o name && curl -s http://echo.underlay.test/";
  const outcome = await first.underlay("shell", "--", "sh", "-c", script);
  assert.equal(outcome.code, 0, outcome.stderr);
  assert.match(outcome.stdout, /^node\/ip-10-42-/m);
});

test("up repairs a half-dead cluster: no supervisor, no cloud, no API server, no pid 1 of a node", async () => {
  const { processes } = JSON.parse(await first.underlayOk("status", "--json")) as {
    processes: { name: string; pid?: number }[];
  };
  assert.ok(processes.length >= 5);
  for (const { pid } of processes) if (pid) process.kill(pid, "SIGKILL");
  const again = JSON.parse(await first.underlayOk("up", "--json", "-f", clusterFile(first.name)));
  assert.equal(again.cluster, first.name);
  await eventually("the node to be Ready again", async () =>
    (await readyNodes(first)).length === 1 ? true : undefined,
  );
  const pods = await eventually("kube-system to run", async () => {
    const out = await first.kubectlOk("get", "pods", "-A", "--no-headers");
    return out
      .split("\n")
      .filter(Boolean)
      .every((line) => /\s(\d+)\/\1\s+Running/.test(line))
      ? out
      : undefined;
  });
  assert.match(pods, /aws-node/);
});

test("our own store manifests are accepted whole by the API server", async () => {
  const out = await second.kubectlOk("kustomize", join(repo, "examples/retail-store"));
  const objects = join(folder, "store.yaml");
  writeFileSync(objects, out);
  for (const name of ["ui", "catalog", "carts", "checkout", "orders"])
    await second.kubectlOk("create", "namespace", name);
  const applied = await second.kubectlOk("apply", "--dry-run=server", "-f", objects);
  assert.equal(applied.trim().split("\n").length, 35);
});

test("down of one cluster leaves the other alone", async () => {
  await first.underlayOk("down");
  assert.ok(!(await runOk("ip", ["netns", "list"])).includes(first.name));
  assert.equal((await readyNodes(second)).length, 1);
});
