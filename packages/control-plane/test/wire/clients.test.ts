/** A foreign client library: typed calls, all patch types, an informer, and the subresources with objects of their own. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as k8s from "@kubernetes/client-node";
import { ServerProcess, until } from "./server-process.ts";

let server: ServerProcess;
let config: k8s.KubeConfig;
before(async () => {
  server = await ServerProcess.start();
  config = new k8s.KubeConfig();
  config.loadFromFile(server.kubeconfig);
});
after(() => server.dispose());

const namespace = "default";
const pod = (name: string, labels: Record<string, string> = {}): k8s.V1Pod => ({
  metadata: { name, labels },
  spec: { containers: [{ name: "c", image: "nginx:1" }] },
});

test("an informer lists, watches and follows changes", async () => {
  const core = config.makeApiClient(k8s.CoreV1Api);
  const seen: string[] = [];
  const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, () =>
    core.listNamespacedConfigMap({ namespace }),
  );
  for (const event of ["add", "update", "delete"] as const)
    informer.on(event, (object: k8s.V1ConfigMap) => seen.push(`${event} ${object.metadata!.name}`));
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "inf" }, data: { a: "1" } } });
  await core.replaceNamespacedConfigMap({
    namespace,
    name: "inf",
    body: { metadata: { name: "inf" }, data: { a: "2" } },
  });
  await core.deleteNamespacedConfigMap({ namespace, name: "inf" });
  await until(() => seen.includes("delete inf"));
  assert.deepEqual(
    seen.filter((s) => s.endsWith(" inf")),
    ["add inf", "update inf", "delete inf"],
  );
  await informer.stop();
});

test("status patches merge conditions by type and keep foreign ones", async () => {
  const core = config.makeApiClient(k8s.CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod("gated") });
  const patch = (type: string, status: string) =>
    core.patchNamespacedPodStatus(
      { namespace, name: "gated", body: { status: { conditions: [{ type, status }] } } },
      k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.StrategicMergePatch),
    );
  await patch("Ready", "False");
  await patch("target-health.elbv2.k8s.aws/x", "True");
  const updated = await patch("Ready", "True");
  assert.deepEqual(
    updated.status!.conditions!.map((c) => [c.type, c.status]),
    [
      ["Ready", "True"],
      ["target-health.elbv2.k8s.aws/x", "True"],
    ],
  );
  assert.equal(updated.metadata!.generation, undefined);
});

test("leases round-trip micro time and compare-and-swap", async () => {
  const coordination = config.makeApiClient(k8s.CoordinationV1Api);
  const time = "2024-05-01T10:00:00.123456Z";
  const made = await server.request("POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", {
    body: { metadata: { name: "l" }, spec: { holderIdentity: "a", leaseDurationSeconds: 15, renewTime: time } },
  });
  assert.equal(made.json.spec.renewTime, time);
  const lease = await coordination.readNamespacedLease({ namespace, name: "l" });
  await coordination.replaceNamespacedLease({ namespace, name: "l", body: lease });
  lease.spec!.holderIdentity = "b";
  lease.metadata!.resourceVersion = "1";
  await assert.rejects(
    coordination.replaceNamespacedLease({ namespace, name: "l", body: lease }),
    (error: { code: number }) => error.code === 409,
  );
});

test("eviction asks the disruption budget and charges it", async () => {
  const core = config.makeApiClient(k8s.CoreV1Api);
  const policy = config.makeApiClient(k8s.PolicyV1Api);
  for (const name of ["e1", "e2"]) {
    await core.createNamespacedPod({ namespace, body: pod(name, { app: "e" }) });
    await server.request("PATCH", `/api/v1/namespaces/default/pods/${name}/status`, {
      body: { status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] } },
      headers: { "content-type": "application/merge-patch+json" },
    });
  }
  await policy.createNamespacedPodDisruptionBudget({
    namespace,
    body: { metadata: { name: "pdb" }, spec: { minAvailable: 1, selector: { matchLabels: { app: "e" } } } },
  });
  await server.request("PATCH", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/pdb/status", {
    body: {
      status: { disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2, observedGeneration: 1 },
    },
    headers: { "content-type": "application/merge-patch+json" },
  });
  const evict = (name: string) =>
    server.request("POST", `/api/v1/namespaces/default/pods/${name}/eviction`, {
      body: { apiVersion: "policy/v1", kind: "Eviction", metadata: { name } },
    });
  assert.equal((await evict("e1")).status, 201);
  const blocked = await evict("e2");
  assert.equal(blocked.status, 429);
  assert.equal(blocked.json.message, "Cannot evict pod as it would violate the pod's disruption budget.");
  assert.equal(
    blocked.json.details.causes[0].message,
    "The disruption budget pdb needs 1 healthy pods and has 2 currently",
  );
  assert.equal((await server.request("GET", "/api/v1/namespaces/default/pods/e2")).status, 200);
});

test("events are one store seen as v1 and events.k8s.io/v1", async () => {
  const event = {
    metadata: { name: "ev" },
    involvedObject: { kind: "Pod", name: "p", namespace },
    reason: "Scheduled",
    message: "m",
    type: "Normal",
    source: { component: "s" },
    count: 1,
    firstTimestamp: "2024-01-01T00:00:00Z",
    lastTimestamp: "2024-01-01T00:00:00Z",
  };
  assert.equal((await server.request("POST", "/api/v1/namespaces/default/events", { body: event })).status, 201);
  const modern = (await server.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events/ev")).json;
  assert.deepEqual(
    [modern.apiVersion, modern.regarding.name, modern.note, modern.deprecatedCount],
    ["events.k8s.io/v1", "p", "m", 1],
  );
  const selected = (await server.request("GET", "/api/v1/events?fieldSelector=involvedObject.name%3Dp,type%3DNormal"))
    .json;
  assert.equal(selected.items.length, 1);
  const patched = await server.request("PATCH", "/api/v1/namespaces/default/events/ev", {
    body: { count: 2 },
    headers: { "content-type": "application/strategic-merge-patch+json" },
  });
  assert.equal(patched.json.count, 2);
});

test("scale, deletecollection, CSR approval, finalize", async () => {
  await server.ok("create deployment sc --image=a:1 --replicas=2");
  const scale = (await server.request("GET", "/apis/apps/v1/namespaces/default/deployments/sc/scale")).json;
  assert.deepEqual([scale.kind, scale.spec.replicas, scale.status.selector], ["Scale", 2, "app=sc"]);
  scale.spec.replicas = 9;
  assert.equal(
    (await server.request("PUT", "/apis/apps/v1/namespaces/default/deployments/sc/scale", { body: scale })).json.spec
      .replicas,
    9,
  );
  assert.equal(
    (await server.request("PUT", "/apis/apps/v1/namespaces/default/deployments/sc/scale", { body: scale })).status,
    409,
  );
  const gone = await server.request("DELETE", "/apis/apps/v1/namespaces/default/deployments?labelSelector=app%3Dsc");
  assert.equal(gone.json.items.length, 1);
  const csr = await server.request("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", {
    body: {
      metadata: { name: "c" },
      spec: {
        request: "YWJj",
        signerName: "kubernetes.io/kube-apiserver-client",
        usages: ["client auth"],
        username: "forged",
      },
    },
  });
  assert.equal(csr.json.spec.username, "kubernetes-admin");
  await server.ok("certificate approve c");
  assert.equal(await server.ok("get csr c -o jsonpath={.status.conditions[0].type}"), "Approved");
  await server.ok("create ns going");
  await server.ok("delete ns going --wait=false");
  const going = JSON.parse(await server.ok("get ns going -o json"));
  assert.equal(going.status.phase, "Terminating");
  going.spec.finalizers = [];
  assert.equal((await server.request("PUT", "/api/v1/namespaces/going/finalize", { body: going })).status, 200);
  assert.equal((await server.request("GET", "/api/v1/namespaces/going")).status, 404);
});

test("generateName makes names; fieldValidation warns by header", async () => {
  const made = await server.request("POST", "/api/v1/namespaces/default/configmaps", {
    body: '{"metadata":{"generateName":"gen-"},"data":{"a":"1","a":"2"},"bogus":1}',
  });
  assert.match(made.json.metadata.name, /^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  assert.deepEqual(String(made.headers["warning"]).split(", 299"), [
    '299 - "duplicate field \\"data.a\\""',
    ' - "unknown field \\"bogus\\""',
  ]);
  const strict = await server.request("POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Strict", {
    body: '{"metadata":{"name":"x"},"data":{"a":"1","a":"2"},"bogus":1}',
  });
  assert.match(strict.json.message, /strict decoding error: duplicate field "data\.a", unknown field "bogus"/);
});

test("patches that race all apply, updates that race do not overwrite each other", async () => {
  await server.request("POST", "/api/v1/namespaces/default/configmaps", { body: { metadata: { name: "race" } } });
  const patches = await Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      server.request("PATCH", "/api/v1/namespaces/default/configmaps/race", {
        body: { data: { [`k${i}`]: "v" } },
        headers: { "content-type": "application/merge-patch+json" },
      }),
    ),
  );
  assert.deepEqual(
    patches.filter((p) => p.status !== 200).map((p) => p.text),
    [],
  );
  const { json } = await server.request("GET", "/api/v1/namespaces/default/configmaps/race");
  assert.equal(Object.keys(json.data).length, 30);
  const puts = await Promise.all(
    Array.from({ length: 10 }, (_, i) =>
      server.request("PUT", "/api/v1/namespaces/default/configmaps/race", {
        body: { ...json, data: { winner: String(i) } },
      }),
    ),
  );
  assert.equal(puts.filter((p) => p.status === 200).length, 1);
  assert.equal(puts.filter((p) => p.status === 409).length, 9);
});

test("a hundred watchers hear every change within moments", async () => {
  const watches = Array.from({ length: 100 }, () => server.watch("/api/v1/namespaces/default/secrets?watch=true"));
  await until(
    async () =>
      (
        await server.request("POST", "/api/v1/namespaces/default/secrets", {
          body: { metadata: { generateName: "warm-" } },
        })
      ).status === 201 && watches.every((w) => w.events.length > 0),
  );
  const started = performance.now();
  for (let i = 0; i < 20; i++)
    await server.request("POST", "/api/v1/namespaces/default/secrets", { body: { metadata: { name: `many-${i}` } } });
  await until(() =>
    watches.every((w) => w.events.filter((e) => e.object.metadata.name.startsWith("many-")).length === 20),
  );
  assert.ok(performance.now() - started < 5000);
  for (const w of watches) w.close();
});
