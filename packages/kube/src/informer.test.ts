import assert from "node:assert/strict";
import { test } from "node:test";
import { KubeClient } from "./client.ts";
import { Informer } from "./informer.ts";
import { pods } from "./resources.ts";
import { answer, SmallServer, until } from "./small-server.test-support.ts";

async function setUp(prepare: (server: SmallServer) => void) {
  const server = new SmallServer();
  prepare(server);
  const url = await server.start();
  const client = new KubeClient({ server: url, namespace: "default", tls: {} });
  const heard: string[] = [];
  const informer = new Informer(client, pods, { indexes: { app: (pod) => [pod.metadata.labels?.["app"] ?? ""] } });
  informer.on({
    add: (pod) => heard.push(`add ${pod.metadata.name}`),
    update: (old, pod) =>
      heard.push(`update ${pod.metadata.name} ${old.metadata.labels?.["v"] ?? ""}>${pod.metadata.labels?.["v"] ?? ""}`),
    delete: (pod) => heard.push(`delete ${pod.metadata.name}`),
  });
  informer.start();
  return {
    server,
    informer,
    heard,
    [Symbol.asyncDispose]: async () => {
      informer.stop();
      client.close();
      await server.stop();
    },
  };
}

for (const watchList of [true, false]) {
  test(`informer ${watchList ? "with WatchList" : "where WatchList is refused"} holds the state and tells every change`, async () => {
    await using world = await setUp((server) => {
      server.watchList = watchList;
      server.put("a", { app: "x" });
      server.put("b", { app: "y" });
    });
    const { server, informer, heard } = world;
    await informer.synced();
    assert.deepEqual(heard.sort(), ["add a", "add b"]);
    assert.equal(informer.get("default/a")?.kind, "Pod");
    assert.equal(informer.get("default/a")?.metadata.managedFields, undefined);
    await until(() => server.watchers === 1, "the watch is open");
    heard.length = 0;
    server.put("c", { app: "x", v: "1" });
    server.put("c", { app: "x", v: "2" });
    server.remove("a");
    await until(() => heard.length === 3, "three changes were told");
    assert.deepEqual(heard, ["add c", "update c 1>2", "delete a"]);
    assert.deepEqual(
      informer.byIndex("app", "x").map((pod) => pod.metadata.name),
      ["c"],
    );
    assert.deepEqual(informer.list("elsewhere"), []);
  });
}

test("informer keeps its store while the server is away and learns what changed meanwhile", async () => {
  await using world = await setUp((server) => {
    server.put("a");
    server.put("b");
  });
  const { server, informer, heard } = world;
  await informer.synced();
  heard.length = 0;
  await server.stop();
  assert.equal(informer.size, 2);
  server.remove("a");
  server.put("c");
  server.remove("b");
  server.put("b");
  server.compact();
  await server.start();
  await until(() => informer.get("default/c") !== undefined, "the new pod is known");
  assert.deepEqual(heard.sort(), ["add b", "add c", "delete a", "delete b"]);
});

test("informer resumes by resourceVersion without listing again", async () => {
  await using world = await setUp((server) => server.put("a"));
  const { server, informer, heard } = world;
  await informer.synced();
  server.put("b");
  await until(() => informer.size === 2, "b is known");
  await server.stop();
  server.requests.length = 0;
  server.put("c");
  await server.start();
  await until(() => informer.size === 3, "c is known");
  assert.deepEqual(heard, ["add a", "add b", "add c"]);
  assert.equal(
    server.requests.some((request) => request.includes("sendInitialEvents")),
    false,
  );
});

test("handlers added late hear of what is already known", async () => {
  await using world = await setUp((server) => server.put("a"));
  await world.informer.synced();
  const late: string[] = [];
  const off = world.informer.on({ add: (pod) => late.push(pod.metadata.name ?? "") });
  assert.deepEqual(late, ["a"]);
  off();
  world.server.put("b");
  await until(() => world.informer.size === 2, "b is known");
  assert.deepEqual(late, ["a"]);
});

test("informer lists afresh when the server never had its resourceVersion", async () => {
  await using world = await setUp((server) => server.put("a"));
  const { server, informer } = world;
  await informer.synced();
  await server.stop();
  server.put("b");
  server.intercept = (request, response) => {
    if (!request.url?.includes("resourceVersion=")) return false;
    const status = {
      kind: "Status",
      status: "Failure",
      reason: "Timeout",
      code: 504,
      message: "Too large resource version",
    };
    answer(response, 504, status);
    return true;
  };
  await server.start();
  await until(() => informer.get("default/b") !== undefined, "the new pod is known");
});
