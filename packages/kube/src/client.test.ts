import assert from "node:assert/strict";
import { writeFile, chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isConflict, isConnectionError, isNotFound, isTooManyRequests, KubeClient } from "./client.ts";
import { loadKubeConfig } from "./config.ts";
import { EventRecorder } from "./events.ts";
import { runAsLeader } from "./leader-election.ts";
import type { Lease, Pod } from "./objects.ts";
import { pods } from "./resources.ts";
import { answer, SmallServer, until, type Handler } from "./small-server.test-support.ts";

async function serve(intercept: Handler, options: { retryForMs?: number } = {}) {
  const server = new SmallServer();
  server.intercept = intercept;
  const url = await server.start();
  const client = new KubeClient({ server: url, namespace: "default", tls: {} }, options);
  return { server, client, url, [Symbol.asyncDispose]: async () => (client.close(), await server.stop()) };
}

const status = (code: number, reason: string) => ({
  kind: "Status",
  status: "Failure",
  code,
  reason,
  message: `${reason}!`,
});

test("client turns a Status into a typed error", async () => {
  await using world = await serve((request, response) => {
    if (request.url?.endsWith("/missing")) answer(response, 404, status(404, "NotFound"));
    else answer(response, 409, status(409, "Conflict"));
    return true;
  });
  await assert.rejects(
    world.client.get(pods, "missing", { namespace: "default" }),
    (err) => isNotFound(err) && (err as Error).message === "NotFound!",
  );
  assert.equal(await world.client.find(pods, "missing", { namespace: "default" }), undefined);
  await assert.rejects(world.client.update(pods, { metadata: { name: "p", namespace: "default" } }), isConflict);
});

test("client sends verbs, paths, queries and bodies as the API has them", async () => {
  const seen: string[] = [];
  await using world = await serve((request, response, body) => {
    seen.push(`${request.method} ${request.url} ${request.headers["content-type"] ?? "-"} ${body}`);
    answer(response, 200, {});
    return true;
  });
  const { client } = world;
  await client.create(pods, { metadata: { name: "p", namespace: "n" } } as Pod, { fieldManager: "m" });
  await client.patch(
    pods,
    "p",
    { type: "json", body: [{ op: "test", path: "/a", value: 1 }] },
    { namespace: "n", subresource: "status" },
  );
  await client.apply(pods, { metadata: { name: "p", namespace: "n" } } as Pod, { fieldManager: "m", force: true });
  await client.delete(pods, "p", { namespace: "n", gracePeriodSeconds: 0, preconditions: { uid: "u" } });
  await client.list(pods, { labelSelector: "a in (x,y)", limit: 5 });
  await client.bind("n", "p", "node-1");
  assert.deepEqual(seen, [
    'POST /api/v1/namespaces/n/pods?fieldManager=m application/json {"metadata":{"name":"p","namespace":"n"},"apiVersion":"v1","kind":"Pod"}',
    'PATCH /api/v1/namespaces/n/pods/p/status application/json-patch+json [{"op":"test","path":"/a","value":1}]',
    'PATCH /api/v1/namespaces/n/pods/p?fieldManager=m&force=true application/apply-patch+yaml {"metadata":{"name":"p","namespace":"n"},"apiVersion":"v1","kind":"Pod"}',
    'DELETE /api/v1/namespaces/n/pods/p application/json {"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"preconditions":{"uid":"u"}}',
    "GET /api/v1/pods?labelSelector=a+in+%28x%2Cy%29&limit=5 - ",
    'POST /api/v1/namespaces/n/pods/p/binding application/json {"apiVersion":"v1","kind":"Binding","metadata":{"name":"p","namespace":"n"},"target":{"apiVersion":"v1","kind":"Node","name":"node-1"}}',
  ]);
});

test("client retries 429 with Retry-After, but never an eviction's", async () => {
  let calls = 0;
  await using world = await serve((_request, response) => {
    calls += 1;
    if (calls === 2) answer(response, 200, { metadata: { name: "p" } });
    else answer(response, 429, status(429, "TooManyRequests"), { "Retry-After": "0" });
    return true;
  });
  const pod = await world.client.get(pods, "p", { namespace: "n" });
  assert.equal(pod.metadata.name, "p");
  await assert.rejects(world.client.evict("n", "p"), isTooManyRequests);
  assert.equal(calls, 3);
});

test("client says what it could not do when nobody listens", async () => {
  const client = new KubeClient({ server: "http://127.0.0.1:1", namespace: "default", tls: {} }, { retryForMs: 0 });
  await assert.rejects(
    client.get(pods, "p", { namespace: "n" }),
    (err) =>
      isConnectionError(err) &&
      err.code === "ECONNREFUSED" &&
      /GET \/api\/v1\/namespaces\/n\/pods\/p/.test(err.message),
  );
});

test("client waits for a server that is just coming up", async () => {
  const server = new SmallServer();
  server.put("a");
  const url = await server.start();
  await server.stop();
  const client = new KubeClient({ server: url, namespace: "default", tls: {} });
  const listing = client.list(pods);
  await server.start();
  assert.equal((await listing).items.length, 1);
  client.close();
  await server.stop();
});

test("client gives up at its deadline and when aborted", async () => {
  await using world = await serve(() => true);
  await assert.rejects(
    world.client.list(pods, { timeoutMs: 20, retryForMs: 0 }),
    (err) => isConnectionError(err) && err.code === "ETIMEDOUT",
  );
  const abort = new AbortController();
  const listing = world.client.list(pods, { signal: abort.signal });
  abort.abort(new Error("enough"));
  await assert.rejects(listing, /enough/);
});

test("exec credential plugin runs once, and once more after a 401", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kube-exec-"));
  try {
    const plugin = join(directory, "plugin.sh");
    await writeFile(
      plugin,
      `#!/bin/sh\necho x >> ${directory}/runs\nn=$(wc -l < ${directory}/runs)\necho "{\\"apiVersion\\":\\"client.authentication.k8s.io/v1beta1\\",\\"status\\":{\\"token\\":\\"t$n\\"}}"\n`,
    );
    await chmod(plugin, 0o755);
    const tokens: (string | undefined)[] = [];
    await using world = await serve((request, response) => {
      tokens.push(request.headers.authorization);
      if (tokens.length === 3) answer(response, 401, status(401, "Unauthorized"));
      else answer(response, 200, { items: [] });
      return true;
    });
    const exec = { apiVersion: "client.authentication.k8s.io/v1beta1", command: "./plugin.sh" };
    const file = join(directory, "config");
    await writeFile(
      file,
      JSON.stringify({
        "current-context": "c",
        clusters: [{ name: "k", cluster: { server: world.url } }],
        users: [{ name: "u", user: { exec } }],
        contexts: [{ name: "c", context: { cluster: "k", user: "u", namespace: "shop" } }],
      }),
    );
    const config = await loadKubeConfig(file);
    assert.equal(config.namespace, "shop");
    const client = new KubeClient(config);
    for (let i = 0; i < 3; i += 1) await client.list(pods);
    assert.deepEqual(tokens, ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"]);
    client.close();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("events: the first is created, repeats become a count", async () => {
  const seen: { method: string; body: Record<string, unknown> }[] = [];
  await using world = await serve((request, response, body) => {
    seen.push({ method: request.method ?? "", body: JSON.parse(body) as Record<string, unknown> });
    answer(response, 200, {});
    return true;
  });
  const recorder = new EventRecorder(world.client, { component: "tester" });
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "n", uid: "u" } };
  recorder.event(pod, "Warning", "Broken", "it broke");
  recorder.event(pod, "Warning", "Broken", "it broke");
  recorder.event(pod, "Warning", "Broken", "otherwise");
  await recorder.flush();
  assert.deepEqual(
    seen.map(({ method, body }) => [method, body["count"], body["message"]]),
    [
      ["POST", 1, "it broke"],
      ["PATCH", 2, "it broke"],
      ["POST", 1, "otherwise"],
    ],
  );
});

test("leader election: one of two leads, the other follows after the release", async () => {
  let lease: Lease | undefined;
  let rv = 0;
  await using world = await serve((request, response, body) => {
    if (request.method === "GET") answer(response, lease ? 200 : 404, lease ?? status(404, "NotFound"));
    else {
      const next = JSON.parse(body) as Lease;
      const stale = request.method === "PUT" && next.metadata.resourceVersion !== lease?.metadata.resourceVersion;
      if (stale) answer(response, 409, status(409, "Conflict"));
      else if (request.method === "POST" && lease) answer(response, 409, status(409, "AlreadyExists"));
      else {
        rv += 1;
        lease = { ...next, metadata: { ...next.metadata, resourceVersion: String(rv) } };
        answer(response, 200, lease);
      }
    }
    return true;
  });
  const history: string[] = [];
  const stops = { a: new AbortController(), b: new AbortController() };
  const compete = (identity: "a" | "b") =>
    runAsLeader(world.client, {
      namespace: "kube-system",
      name: "x",
      identity,
      retryMs: 10,
      signal: stops[identity].signal,
      lead: async (signal) => {
        history.push(`${identity} leads`);
        await new Promise<void>((done) => signal.addEventListener("abort", () => done(), { once: true }));
        history.push(`${identity} stops`);
      },
    });
  const a = compete("a");
  await until(() => history.length === 1, "a leads");
  const b = compete("b");
  stops.a.abort();
  await a;
  await until(() => history.length === 3, "b leads");
  stops.b.abort();
  await b;
  assert.deepEqual(history, ["a leads", "a stops", "b leads", "b stops"]);
  assert.equal(lease?.spec?.leaseTransitions, 1);
});
