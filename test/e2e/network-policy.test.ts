/** The workshop's network policies, in its order, on a cluster whose vpc-cni add-on has them on; every failure is a time-out. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  eventually,
  instanceIdOf,
  repo,
  TestCluster,
  workshop,
  conditionOf,
  type NodeList,
  type Outcome,
  type PodList,
} from "../support/cluster.ts";

/** curl's exit code when the connection or the name took too long. */
const TIMED_OUT = 28;
/** The workshop waits this long after an apply; policies are in force well before. */
const IN_FORCE_MS = 10_000;

const store = existsSync(join(workshop, "base-application"))
  ? join(workshop, "base-application")
  : join(repo, "examples/retail-store");
const printed = join(workshop, "modules/networking/network-policies/apply-network-policies");
const policies = existsSync(printed) ? printed : join(repo, "examples/network-policies");

let cluster: TestCluster;
before(async () => {
  cluster = await TestCluster.up({
    file: (name) => {
      const file = join(tmpdir(), `${name}.yaml`);
      writeFileSync(file, clusterFile(name));
      return file;
    },
  });
  await cluster.kubectlOk("apply", "-k", store);
  await eventually(
    "every pod of the store to be Ready",
    async () => {
      const { items } = await cluster.kubectlJson<PodList>(
        "get",
        "pods",
        "-A",
        "-l",
        "app.kubernetes.io/created-by=eks-workshop",
      );
      return items.length >= 9 && items.every((pod) => conditionOf(pod, "Ready") === "True") ? items : undefined;
    },
    120_000,
  );
});
after(() => cluster?.[Symbol.asyncDispose]());

function curl(deployment: string, ...args: string[]): Promise<Outcome> {
  return cluster.kubectl(
    "exec",
    `deployment/${deployment}`,
    "-n",
    deployment,
    "--",
    "curl",
    "-sv",
    ...args,
    "--connect-timeout",
    "5",
  );
}

async function apply(file: string, ...more: string[]): Promise<void> {
  await cluster.kubectlOk("apply", ...more, "-f", join(policies, file));
}

/** Asks until it is as it should be: a policy is in force some time after its apply. */
async function becomes(
  what: string,
  ask: () => Promise<Outcome>,
  isRight: (outcome: Outcome) => boolean,
): Promise<Outcome> {
  let last: Outcome | undefined;
  try {
    return await eventually(what, async () => ((last = await ask()), isRight(last) ? last : undefined), IN_FORCE_MS);
  } catch (error) {
    throw new Error(`${(error as Error).message}: exit ${last?.code}\n${last?.stdout}\n${last?.stderr}`);
  }
}
const timesOut = (what: string, deployment: string, ...args: string[]) =>
  becomes(
    what,
    () => curl(deployment, ...args),
    ({ code }) => code === TIMED_OUT,
  );
const isOk = ({ code, stderr }: Outcome): boolean => code === 0 && stderr.includes("HTTP/1.1 200 OK");
const answers = (what: string, deployment: string, ...args: string[]) =>
  becomes(what, () => curl(deployment, ...args), isOk);

test("without policies pods talk", async () => {
  const { stdout } = await answers("checkout's health", "catalog", "http://checkout.checkout/health");
  assert.equal(JSON.parse(stdout).status, "ok");
});

test("default-deny for egress silences the ui, DNS as well", async () => {
  await apply("default-deny.yaml", "-n", "ui");
  const { stderr } = await timesOut("ui to fall silent", "ui", "http://catalog.catalog/health");
  assert.match(stderr, /Resolving timed out/);
});

test("allow-ui-egress lets it reach services by name, and neither databases nor the internet", async () => {
  await apply("allow-ui-egress.yaml");
  const { stdout } = await answers("ui to reach catalog", "ui", "http://catalog.catalog/health");
  assert.equal(stdout, "OK");
  assert.equal((await curl("ui", "telnet://catalog-mysql.catalog:3306")).code, TIMED_OUT);
  const { code, stderr } = await curl("ui", "www.google.com");
  assert.equal(code, TIMED_OUT);
  assert.match(stderr, /Trying \d/, "the name was answered");
});

test("allow-catalog-ingress-webservice admits the ui only", async () => {
  await answers("ui before", "ui", "catalog.catalog/health");
  await answers("orders before", "orders", "catalog.catalog/health");
  await apply("allow-catalog-ingress-webservice.yaml");
  await timesOut("orders to be shut out", "orders", "catalog.catalog/health");
  assert.ok(isOk(await curl("ui", "catalog.catalog/health")));
});

test("allow-catalog-ingress-db admits catalog only, and a new catalog pod gets through and becomes Ready", async () => {
  await apply("allow-catalog-ingress-db.yaml");
  await timesOut("orders to be shut out of mysql", "orders", "telnet://catalog-mysql.catalog:3306");
  await cluster.kubectlOk("rollout", "restart", "deployment/catalog", "-n", "catalog");
  await cluster.kubectlOk("rollout", "status", "deployment/catalog", "-n", "catalog", "--timeout=2m");
  await answers("ui to reach the new catalog pod", "ui", "catalog.catalog/health");
});

test("a bare podSelector means the same namespace; the node's log tells the denial, and namespaceSelector repairs it", async () => {
  await apply("allow-order-ingress-fail-debug.yaml");
  await timesOut("ui to be shut out of orders", "ui", "orders.orders/orders");
  const { items } = await cluster.kubectlJson<PodList>(
    "get",
    "pods",
    "-n",
    "orders",
    "-l",
    "app.kubernetes.io/component=service",
  );
  const nodes = await cluster.kubectlJson<NodeList>("get", "nodes");
  const node = nodes.items.find(({ metadata }) => metadata.name === items[0]?.spec.nodeName);
  assert.ok(node);
  const log = join(
    cluster.stateDir,
    "instances",
    instanceIdOf(node),
    "root/var/log/aws-routed-eni/network-policy-agent.log",
  );
  const denied = await eventually(
    "a DENY line",
    async () => {
      const found = await cluster.kubectl(
        "exec",
        "-n",
        "kube-system",
        await agentPod(node.metadata.name),
        "-c",
        "aws-eks-nodeagent",
        "--",
        "grep",
        "DENY",
        "/var/log/aws-routed-eni/network-policy-agent.log",
      );
      return found.code === 0
        ? found.stdout
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line) as Record<string, unknown>)
        : undefined;
    },
    5_000,
  ).catch((error: Error) => assert.fail(`${error.message} (${log})`));
  const last = denied.at(-1);
  assert.deepEqual(
    { verdict: last?.["Verdict"], proto: last?.["Proto"], destination: last?.["Dest IP"], port: last?.["Dest Port"] },
    { verdict: "DENY", proto: "TCP", destination: items[0]?.status.podIP, port: 8080 },
  );
  await apply("allow-order-ingress-success-debug.yaml");
  await answers("ui to reach orders", "ui", "orders.orders/orders");
});

test("deleting every policy restores everything", async () => {
  await cluster.kubectlOk("delete", "networkpolicy", "-A", "--all");
  await answers("orders to reach catalog", "orders", "catalog.catalog/health");
  await answers("the ui to reach the internet", "ui", "www.google.com");
});

test("strict: a pod of a policy-less namespace is closed from its first packet", async () => {
  await cluster.kubectlOk(
    "set",
    "env",
    "daemonset/aws-node",
    "-n",
    "kube-system",
    "-c",
    "aws-node",
    "NETWORK_POLICY_ENFORCING_MODE=strict",
  );
  await cluster.kubectlOk("rollout", "status", "daemonset/aws-node", "-n", "kube-system", "--timeout=2m");
  await cluster.kubectlOk(
    "run",
    "closed",
    "-n",
    "default",
    "--image=underlay.test/tools",
    "--restart=Never",
    "--",
    "sh",
    "-c",
    "curl -s --connect-timeout 3 http://echo.underlay.test/; echo exit $?; sleep 600",
  );
  const said = await eventually(
    "its first try",
    async () => /exit \d+/.exec(await cluster.kubectlOk("logs", "closed", "-n", "default"))?.[0],
    30_000,
  );
  assert.equal(said, `exit ${TIMED_OUT}`);
});

async function agentPod(node: string): Promise<string> {
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-n", "kube-system", "-l", "k8s-app=aws-node");
  return items.find((pod) => pod.spec.nodeName === node)?.metadata.name ?? "none";
}

function clusterFile(name: string): string {
  return `apiVersion: eksctl.io/v1alpha5
kind: ClusterConfig
metadata: { name: ${name}, region: us-west-2 }
managedNodeGroups: [{ name: default, instanceType: m5.large, desiredCapacity: 2, privateNetworking: true }]
addons:
  - name: vpc-cni
    configurationValues: '{"enableNetworkPolicy":"true","nodeAgent":{"enablePolicyEventLogs":"true"}}'
`;
}
