/** The whole proxy against our API server: objects in, packets through. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Registry } from "prom-client";
import { KubeClient } from "@underlay/kube/client";
import { loadKubeConfig } from "@underlay/kube/config";
import { isAlreadyExists } from "@underlay/kube/errors";
import type { EndpointSlice, Service } from "@underlay/kube/objects";
import { endpointSlices, nodes, resource, services } from "@underlay/kube/resources";
import { Nft } from "@underlay/kernel/nft";
import { createLog } from "@underlay/log/log";
import { Freshness, type ServiceHealth } from "../../src/health.ts";
import { Proxy } from "../../src/proxy.ts";
import { NODE, NodeWorld, PLACES } from "./node-world.ts";

const apiServerMain = join(import.meta.dirname, "../../../control-plane/src/apiserver/main.ts");

async function startApiServer(t: TestContext): Promise<KubeClient> {
  const stateDir = mkdtempSync(join(tmpdir(), "ul-t-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const settings = join(stateDir, "settings.json");
  writeFileSync(settings, JSON.stringify({ stateDir, kubePort: 0 }));
  const child = spawn(process.execPath, [apiServerMain, settings], { stdio: "ignore" });
  t.after(() => child.kill("SIGKILL"));
  const kubeconfig = join(stateDir, "admin.kubeconfig");
  await until("the API server has written its kubeconfig", () => existsSync(kubeconfig), 15_000);
  const client = new KubeClient(await loadKubeConfig(kubeconfig), { userAgent: "test" });
  await until(
    "the API server is ready",
    () =>
      client.request("GET", "/readyz", { retryForMs: 0 }).then(
        () => true,
        () => false,
      ),
    15_000,
  );
  t.after(() => client.close());
  return client;
}

async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 5000): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !(await holds());) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("objects written to the API server become packets that arrive", async (t) => {
  const client = await startApiServer(t);
  const world = new NodeWorld(t);
  world.serveTcp("a");
  world.serveTcp("far");
  const netns = world.netns("node");
  await client.create(nodes, {
    metadata: { name: "n1", labels: { "topology.kubernetes.io/zone": "z1" } },
    spec: {},
  } as never);
  const node = await client.get(nodes, "n1");
  await client.updateStatus(nodes, {
    ...node,
    status: { ...node.status, addresses: [{ type: "InternalIP", address: NODE }] },
  } as never);
  // A real cluster has this one from its first start.
  const block = resource({
    group: "networking.k8s.io",
    version: "v1",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    namespaced: false,
  });
  await client
    .create(block, { metadata: { name: "kubernetes" }, spec: { cidrs: ["172.20.0.0/16"] } } as never)
    .catch((error: unknown) => {
      if (!isAlreadyExists(error)) throw error;
    });
  const made = await client.create(
    services,
    {
      metadata: { name: "web", namespace: "default" },
      spec: {
        type: "LoadBalancer",
        externalTrafficPolicy: "Local",
        ports: [{ name: "http", port: 80, targetPort: 8080 }],
      },
    } as unknown as Service,
    { namespace: "default" },
  );
  const vip = made.spec?.clusterIP ?? "";
  const nodePort = made.spec?.ports?.[0]?.nodePort ?? 0;
  const slice = (places: readonly ("a" | "far")[]): EndpointSlice =>
    ({
      metadata: { name: "web-1", namespace: "default", labels: { "kubernetes.io/service-name": "web" } },
      addressType: "IPv4",
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
      endpoints: places.map((place) => ({
        addresses: [PLACES[place]],
        conditions: { ready: true },
        nodeName: place === "a" ? "n1" : "n2",
      })),
    }) as unknown as EndpointSlice;
  await client.create(endpointSlices, slice(["a"]), { namespace: "default" });

  let health: ServiceHealth[] = [];
  const freshness = new Freshness(Date.now);
  const stop = new AbortController();
  t.after(() => stop.abort());
  const proxy = new Proxy({
    client,
    nodeName: "n1",
    podCidrs: [],
    nodePortAddresses: [],
    freshness,
    registry: new Registry(),
    log: createLog("kube-proxy"),
    netns,
    onHealthChecks: (wanted) => (health = wanted),
  });
  await proxy.start(stop.signal);
  assert.equal(await world.ask("outside", vip, 80), `a sees ${PLACES.outside}`);
  assert.equal(await world.ask("outside", NODE, nodePort), `a sees ${PLACES.outside}`);
  assert.deepEqual(health, [{ name: "default/web", port: made.spec?.healthCheckNodePort, localEndpoints: 1 }]);
  assert.equal(freshness.isHealthy, true);
  using nft = Nft.open(netns);
  assert.match(
    nft.list("set ip svc service_cidrs"),
    /elements = \{ /,
    "the service block is known from the ServiceCIDR",
  );

  const current = await client.get(endpointSlices, "web-1", { namespace: "default" });
  await client.update(endpointSlices, { ...slice(["far"]), metadata: current.metadata }, { namespace: "default" });
  await until(
    "the endpoint has moved",
    async () => (await world.ask("outside", vip, 80)) === `far sees ${PLACES.outside}`,
  );
  assert.equal(await world.ask("outside", NODE, nodePort), "silence");
  await until("health checks fail", () => health[0]?.localEndpoints === 0);

  await client.delete(services, "web", { namespace: "default" });
  await until("the address is unassigned", () => !nft.list("table ip svc").includes(vip));
});
