/** The first walk through the whole house: one command, and the retail store runs on VPC addresses. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  conditionOf,
  eventually,
  instanceIdOf,
  repo,
  run,
  runOk,
  TestCluster,
  workshop,
  type NodeList,
  type PodList,
} from "../support/cluster.ts";

let cluster: TestCluster;
before(async () => {
  cluster = await TestCluster.up();
});
after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  assert.deepEqual(await leftovers(cluster.stateRoot), [], "down leaves nothing");
});

async function leftovers(stateRoot: string): Promise<string[]> {
  const processes = await run("pgrep", ["-af", stateRoot]);
  return processes.stdout.split("\n").filter((line) => line !== "" && !line.includes("pgrep"));
}

const store = existsSync(join(workshop, "base-application"))
  ? join(workshop, "base-application")
  : join(repo, "examples/retail-store");
const storeNamespaces = ["ui", "catalog", "carts", "checkout", "orders"];

async function storePods(): Promise<PodList["items"]> {
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-A");
  return items.filter((pod) => storeNamespaces.includes(pod.metadata.namespace));
}

async function nodes(): Promise<NodeList["items"]> {
  return (await cluster.kubectlJson<NodeList>("get", "nodes")).items;
}

test("a second up says that the cluster is up", async () => {
  const result = JSON.parse(await cluster.underlayOk("up", "--json", "--name", cluster.name));
  assert.equal(result.alreadyUp, true);
});

test("three m5.large nodes are Ready in three zones, with aws-node, kube-proxy and coredns as on EKS", async () => {
  const seen = await nodes();
  assert.equal(seen.length, 3);
  assert.deepEqual(
    seen.map((node) => conditionOf(node, "Ready")),
    ["True", "True", "True"],
  );
  assert.deepEqual(seen.map((node) => node.metadata.labels["topology.kubernetes.io/zone"]).toSorted(), [
    "us-west-2a",
    "us-west-2b",
    "us-west-2c",
  ]);
  assert.ok(
    seen.every(
      (node) =>
        node.metadata.labels["node.kubernetes.io/instance-type"] === "m5.large" &&
        node.status.allocatable["pods"] === "29",
    ),
  );
  const wide = await cluster.kubectlOk("get", "nodes", "-o", "wide");
  assert.match(
    wide,
    /NAME\s+STATUS\s+ROLES\s+AGE\s+VERSION\s+INTERNAL-IP\s+EXTERNAL-IP\s+OS-IMAGE\s+KERNEL-VERSION\s+CONTAINER-RUNTIME/,
  );
  for (const name of ["aws-node", "kube-proxy"]) {
    const set = await cluster.kubectlJson<{ status: { numberReady: number } }>(
      "get",
      "daemonset",
      name,
      "-n",
      "kube-system",
    );
    assert.equal(set.status.numberReady, 3, name);
  }
  const coredns = await cluster.kubectlJson<{ status: { readyReplicas: number } }>(
    "get",
    "deployment",
    "coredns",
    "-n",
    "kube-system",
  );
  assert.equal(coredns.status.readyReplicas, 2);
});

test("CI runs the workshop's own manifests, not ours in their place", () => {
  assert.ok(!process.env["CI"] || store.startsWith(workshop), `no workshop at ${workshop}`);
});

test("the store's manifests apply unmodified and every pod becomes Ready", async () => {
  await cluster.kubectlOk("apply", "-k", store);
  const pods = await eventually(
    "every pod of the store to be Ready",
    async () => {
      const seen = await storePods();
      return seen.length >= 9 && seen.every((pod) => conditionOf(pod, "Ready") === "True") ? seen : undefined;
    },
    120_000,
  );
  assert.equal(pods.length, 9);
});

test("every pod address is a secondary address of an ENI attached to its node's instance", async () => {
  const { NetworkInterfaces } = await cluster.aws<{
    NetworkInterfaces: {
      Attachment?: { InstanceId?: string };
      PrivateIpAddresses: { PrivateIpAddress: string; Primary: boolean }[];
    }[];
  }>("ec2", "describe-network-interfaces");
  const instanceOfNode = new Map((await nodes()).map((node) => [node.metadata.name, instanceIdOf(node)]));
  const { items } = await cluster.kubectlJson<PodList>("get", "pods", "-A");
  const onVpc = items.filter((pod) => !pod.spec.hostNetwork && pod.status.phase === "Running");
  assert.ok(onVpc.length >= 11);
  for (const pod of onVpc) {
    const owner = NetworkInterfaces.find((eni) =>
      eni.PrivateIpAddresses.some(({ PrivateIpAddress, Primary }) => PrivateIpAddress === pod.status.podIP && !Primary),
    );
    assert.equal(
      owner?.Attachment?.InstanceId,
      instanceOfNode.get(pod.spec.nodeName),
      `${pod.metadata.name} ${pod.status.podIP}`,
    );
  }
});

test("routes and rules on the node are those of the VPC CNI", async () => {
  for (const pod of (await storePods()).slice(0, 3)) {
    const node = (await nodes()).find(({ metadata }) => metadata.name === pod.spec.nodeName);
    assert.ok(node);
    const netns = cluster.netns(instanceIdOf(node));
    const routes = await runOk("ip", ["-n", netns, "route"]);
    assert.match(
      routes,
      new RegExp(`^${pod.status.podIP?.replaceAll(".", "\\.")} dev eni[0-9a-f]{11} scope link`, "m"),
    );
    const rules = await runOk("ip", ["-n", netns, "rule"]);
    assert.match(
      rules,
      new RegExp(`^512:\\s+from all to ${pod.status.podIP?.replaceAll(".", "\\.")} lookup main`, "m"),
    );
    assert.match(rules, /^1024:\s+from all fwmark 0x80\/0x80 lookup main/m);
  }
});

test("exec reaches a Service by name, and a failing command's exit code comes back", async () => {
  const health = await cluster.kubectlOk(
    "exec",
    "deployment/catalog",
    "-n",
    "catalog",
    "--",
    "curl",
    "-s",
    "http://checkout.checkout/health",
  );
  assert.equal(JSON.parse(health).status, "ok");
  const failing = await cluster.kubectl("exec", "deployment/catalog", "-n", "catalog", "--", "sh", "-c", "exit 7");
  assert.equal(failing.code, 7);
});

test("a pod's request to the internet comes from the NAT gateway, and reaches it with the node's address", async () => {
  const [catalog] = (await storePods()).filter(
    (pod) => pod.metadata.namespace === "catalog" && !pod.metadata.name.includes("mysql"),
  );
  assert.ok(catalog);
  const node = (await nodes()).find(({ metadata }) => metadata.name === catalog.spec.nodeName);
  const nodeAddress = node?.status.addresses.find(({ type }) => type === "InternalIP")?.address ?? "none";
  const { NatGateways } = await cluster.aws<{
    NatGateways: { NatGatewayId: string; NatGatewayAddresses: { PublicIp: string }[] }[];
  }>("ec2", "describe-nat-gateways");
  const [gateway] = NatGateways;
  assert.ok(gateway);
  const capture = await cluster.capture(gateway.NatGatewayId, "tcp port 80 and host 192.0.2.10");
  const answer = await cluster.kubectlOk(
    "exec",
    catalog.metadata.name,
    "-n",
    "catalog",
    "--",
    "curl",
    "-s",
    "http://echo.underlay.test/who",
  );
  const lines = await capture.stop();
  assert.match(answer, new RegExp(gateway.NatGatewayAddresses[0]?.PublicIp.replaceAll(".", "\\.") ?? "none"));
  assert.ok(
    lines.some((line) => line.includes(`${nodeAddress}.`) && line.includes("> 192.0.2.10.80")),
    `the node's address ${nodeAddress} before NAT:\n${lines.join("\n")}`,
  );
  assert.ok(
    !lines.some((line) => line.includes(`${catalog.status.podIP}.`)),
    "the pod's own address never leaves the node",
  );
});

test("pod to pod across nodes keeps the pod's address", async () => {
  const pods = await storePods();
  const from = pods.find((pod) => pod.metadata.namespace === "catalog" && !pod.metadata.name.includes("mysql"));
  const to = pods.find(
    (pod) =>
      pod.spec.nodeName !== from?.spec.nodeName && /^(checkout|ui|carts|orders)-[0-9a-f]+-/.test(pod.metadata.name),
  );
  assert.ok(from && to, "two store pods stand on different nodes");
  const node = (await nodes()).find(({ metadata }) => metadata.name === to.spec.nodeName);
  assert.ok(node);
  const capture = await cluster.capture(instanceIdOf(node), `tcp port 8080 and host ${to.status.podIP}`);
  const answered = await cluster.kubectl(
    "exec",
    from.metadata.name,
    "-n",
    "catalog",
    "--",
    "curl",
    "-s",
    "-o",
    "/dev/null",
    `http://${to.status.podIP}:8080/topology`,
  );
  const lines = await capture.stop();
  assert.equal(answered.code, 0);
  assert.ok(
    lines.some((line) => line.includes(`${from.status.podIP}.`) && line.includes(`> ${to.status.podIP}.8080`)),
    lines.join("\n"),
  );
});

test("the store works in a browser from page to order", async (t) => {
  const { chromium } = await import("playwright-core");
  if (!existsSync("/usr/bin/chromium")) return t.skip("no /usr/bin/chromium: apt-get install chromium");
  using forward = await cluster.portForward("ui", "service/ui", 80);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    await page.goto(`${forward.url}/home`);
    const folder = join(repo, ".build/screenshots");
    mkdirSync(folder, { recursive: true });
    await page.screenshot({ path: join(folder, "store-home.png") });
    assert.equal(await page.locator(".card").count(), 4);
    await page.goto(`${forward.url}/catalog`);
    await page.locator(".card button").first().click();
    await page.waitForURL("**/cart");
    await page.getByRole("link", { name: "Checkout" }).click();
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("button", { name: "Place order" }).click();
    const order = await page.locator("#order-id").textContent();
    assert.match(order ?? "", /^[0-9a-f-]{36}$/);
    const orders = await cluster.kubectlOk(
      "exec",
      "deployment/ui",
      "-n",
      "ui",
      "--",
      "curl",
      "-s",
      "http://orders.orders/orders",
    );
    assert.ok(orders.includes(order ?? "none"), "the order is in PostgreSQL");
  } finally {
    await browser.close();
  }
});

test("the store's databases answer their own clients", async () => {
  const secret = async (namespace: string, name: string, key: string): Promise<string> =>
    Buffer.from(
      (await cluster.kubectlJson<{ data: Record<string, string> }>("get", "secret", name, "-n", namespace)).data[key] ??
        "",
      "base64",
    ).toString();
  using mysql = await cluster.portForward("catalog", "pod/catalog-mysql-0", 3306);
  const count = await runOk("mysql", [
    "-h127.0.0.1",
    `-P${mysql.port}`,
    `-u${await secret("catalog", "catalog-db", "RETAIL_CATALOG_PERSISTENCE_USER")}`,
    `-p${await secret("catalog", "catalog-db", "RETAIL_CATALOG_PERSISTENCE_PASSWORD")}`,
    "-N",
    "-e",
    "SELECT COUNT(*) FROM catalog.products",
  ]);
  assert.equal(count.trim(), "12");
  using postgres = await cluster.portForward("orders", "pod/orders-postgresql-0", 5432);
  const orders = await runOk(
    "psql",
    [
      "-h",
      "127.0.0.1",
      "-p",
      String(postgres.port),
      "-U",
      await secret("orders", "orders-db", "RETAIL_ORDERS_PERSISTENCE_USERNAME"),
      "-t",
      "-c",
      "SELECT COUNT(*) >= 0 FROM orders",
      "orders",
    ],
    {
      env: { ...process.env, PGPASSWORD: await secret("orders", "orders-db", "RETAIL_ORDERS_PERSISTENCE_PASSWORD") },
    },
  );
  assert.equal(orders.trim(), "t");
  using redis = await cluster.portForward("checkout", "deployment/checkout-redis", 6379);
  assert.equal((await runOk("redis-cli", ["-p", String(redis.port), "PING"])).trim(), "PONG");
});

test("an unknown image is refused with the list of those that exist", async () => {
  await cluster.kubectlOk("run", "nobody", "--image=example.com/nobody:1", "-n", "default");
  const message = await eventually("ErrImagePull", async () => {
    const out = await cluster.kubectlOk(
      "get",
      "pod",
      "nobody",
      "-o",
      "jsonpath={.status.containerStatuses[0].state.waiting}",
    );
    return /ErrImagePull|ImagePullBackOff/.test(out) ? out : undefined;
  });
  assert.match(message, /ErrImagePull|ImagePullBackOff/);
  const events = await cluster.kubectlOk(
    "get",
    "events",
    "--field-selector",
    "involvedObject.name=nobody",
    "-o",
    "jsonpath={.items[*].message}",
  );
  assert.match(events, /registry\.k8s\.io\/pause/);
  await cluster.kubectlOk("delete", "pod", "nobody", "--now");
});
