/** Lists, watches and durability on the wire: resourceVersion rules, WatchList, selectors, pages, kill -9. */
import type { AnyJson } from "../../src/apiserver/api-object.ts";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ServerProcess, until } from "./server-process.ts";

let server: ServerProcess;
before(async () => {
  server = await ServerProcess.start();
});
after(() => server.dispose());

const configmaps = "/api/v1/namespaces/default/configmaps";
const create = (name: string, labels: Record<string, string> = {}) =>
  server.request("POST", configmaps, {
    body: { apiVersion: "v1", kind: "ConfigMap", metadata: { name, labels }, data: { a: "1" } },
  });
const summary = (events: AnyJson[]) => events.map((e) => `${e.type} ${e.object.metadata.name ?? ""}`.trim());

test("a watch from a revision sees every later change once, in order", async () => {
  const { json: list } = await server.request("GET", configmaps);
  const watch = server.watch(`${configmaps}?watch=true&resourceVersion=${list.metadata.resourceVersion}`);
  await create("w1");
  await server.request("PATCH", `${configmaps}/w1`, {
    body: { data: { a: "2" } },
    headers: { "content-type": "application/merge-patch+json" },
  });
  const { json: deleted } = await server.request("DELETE", `${configmaps}/w1`);
  assert.equal(deleted.status, "Success");
  await until(() => watch.events.length >= 3);
  assert.deepEqual(summary(watch.events), ["ADDED w1", "MODIFIED w1", "DELETED w1"]);
  const versions = watch.events.map((e) => Number(e.object.metadata.resourceVersion));
  assert.deepEqual(
    versions,
    [...versions].sort((a, b) => a - b),
  );
  assert.equal(new Set(versions).size, 3);
  watch.close();
});

test("WatchList sends the state, then the bookmark that ends it, then changes", async () => {
  await create("wl");
  const watch = server.watch(
    `${configmaps}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true`,
  );
  await until(() => watch.events.some((e) => e.type === "BOOKMARK"));
  const end = watch.events.findIndex((e) => e.type === "BOOKMARK");
  assert.ok(watch.events.slice(0, end).every((e) => e.type === "ADDED"));
  assert.equal(watch.events[end].object.metadata.annotations["k8s.io/initial-events-end"], "true");
  assert.equal(watch.events[end].object.kind, "ConfigMap");
  await create("wl2");
  await until(() => watch.events.length > end + 1);
  assert.equal(summary(watch.events).at(-1), "ADDED wl2");
  watch.close();
});

test("sendInitialEvents needs resourceVersionMatch, and is nothing for lists", async () => {
  assert.equal((await server.request("GET", `${configmaps}?watch=true&sendInitialEvents=true`)).status, 422);
  assert.equal(
    (await server.request("GET", `${configmaps}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan`)).status,
    422,
  );
  assert.equal((await server.request("GET", `${configmaps}?resourceVersion=abc`)).status, 400);
  assert.equal((await server.request("GET", `${configmaps}?resourceVersionMatch=Exact`)).status, 422);
  assert.equal((await server.request("GET", `${configmaps}?fieldSelector=data.a=1`)).status, 400);
});

test("a selector watch turns crossings into ADDED and DELETED", async () => {
  const watch = server.watch(`${configmaps}?watch=true&labelSelector=${encodeURIComponent("c in (x)")}`);
  await create("cross");
  const label = (value: string | null) =>
    server.request("PATCH", `${configmaps}/cross`, {
      body: { metadata: { labels: { c: value } } },
      headers: { "content-type": "application/merge-patch+json" },
    });
  await label("x");
  await label("y");
  await until(() => watch.events.length >= 2);
  assert.deepEqual(summary(watch.events), ["ADDED cross", "DELETED cross"]);
  assert.equal(watch.events[1].object.metadata.labels.c, "x");
  watch.close();
});

test("pages come from one snapshot", async () => {
  for (const name of ["pg1", "pg2", "pg3"]) await create(name, { pages: "yes" });
  const first = (await server.request("GET", `${configmaps}?limit=2`)).json;
  assert.equal(first.items.length, 2);
  assert.ok(first.metadata.remainingItemCount > 0);
  await create("aaa-later");
  const rest = (await server.request("GET", `${configmaps}?limit=500&continue=${first.metadata.continue}`)).json;
  assert.equal(rest.metadata.resourceVersion, first.metadata.resourceVersion);
  assert.equal(first.items.length + rest.items.length, first.items.length + first.metadata.remainingItemCount);
  assert.ok(![...first.items, ...rest.items].some((item: AnyJson) => item.metadata.name === "aaa-later"));
  assert.equal((await server.request("GET", `${configmaps}?limit=1&continue=junk`)).status, 400);
});

test("PartialObjectMetadata and Table are made for lists and watches", async () => {
  const partial = await server.request("GET", configmaps, {
    headers: { accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json" },
  });
  assert.equal(partial.json.kind, "PartialObjectMetadataList");
  assert.equal(partial.json.items[0].data, undefined);
  const watch = server.watch(`${configmaps}?watch=true`, { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" });
  await until(() => watch.events.length >= 2);
  assert.equal(watch.events[0].object.kind, "Table");
  assert.ok(watch.events[0].object.columnDefinitions.length > 0);
  assert.equal((watch.events[1].object.columnDefinitions ?? []).length, 0);
  watch.close();
});

test("a write that changes nothing keeps the version; a stale version is refused", async () => {
  const { json: made } = await create("noop");
  const same = (await server.request("PUT", `${configmaps}/noop`, { body: made })).json;
  assert.equal(same.metadata.resourceVersion, made.metadata.resourceVersion);
  const changed = (await server.request("PUT", `${configmaps}/noop`, { body: { ...made, data: { a: "2" } } })).json;
  assert.notEqual(changed.metadata.resourceVersion, made.metadata.resourceVersion);
  const stale = await server.request("PUT", `${configmaps}/noop`, { body: { ...made, data: { a: "3" } } });
  assert.equal(stale.status, 409);
  assert.match(
    stale.json.message,
    /the object has been modified; please apply your changes to the latest version and try again/,
  );
});

test("finalizers hold an object; the last one gone deletes it", async () => {
  await server.request("POST", configmaps, { body: { metadata: { name: "fin", finalizers: ["example.com/x"] } } });
  const watch = server.watch(`${configmaps}?watch=true&fieldSelector=metadata.name=fin`);
  await until(() => watch.events.length === 1);
  const marked = await server.request("DELETE", `${configmaps}/fin`);
  assert.ok(marked.json.metadata.deletionTimestamp);
  const more = await server.request("PATCH", `${configmaps}/fin`, {
    body: { metadata: { finalizers: ["example.com/x", "example.com/y"] } },
    headers: { "content-type": "application/merge-patch+json" },
  });
  assert.equal(more.status, 422);
  await server.request("PATCH", `${configmaps}/fin`, {
    body: { metadata: { finalizers: null } },
    headers: { "content-type": "application/merge-patch+json" },
  });
  await until(() => watch.events.length >= 3);
  assert.deepEqual(summary(watch.events), ["ADDED fin", "MODIFIED fin", "DELETED fin"]);
  watch.close();
});

test("an answered write survives kill -9, revisions go on, and a watch resumes", async () => {
  const { port } = server;
  const { json: before } = await create("durable");
  await server.kill();
  await server.start(port);
  const { json: after } = await server.request("GET", `${configmaps}/durable`);
  assert.equal(after.metadata.resourceVersion, before.metadata.resourceVersion);
  const { json: next } = await create("next");
  assert.ok(Number(next.metadata.resourceVersion) > Number(before.metadata.resourceVersion));
  const resumed = server.watch(`${configmaps}?watch=true&resourceVersion=${before.metadata.resourceVersion}`);
  await until(() => resumed.events.length > 0);
  assert.deepEqual(summary(resumed.events), ["ADDED next"]);
  resumed.close();
  const old = server.watch(`${configmaps}?watch=true&resourceVersion=2`);
  await until(() => old.events.length > 0);
  assert.deepEqual(
    [old.events[0].type, old.events[0].object.code, old.events[0].object.reason],
    ["ERROR", 410, "Expired"],
  );
  await old.ended;
});

test("malformed requests get a Status, not a crash", async () => {
  assert.equal((await server.request("POST", configmaps, { body: "{nope" })).status, 400);
  assert.equal((await server.request("POST", configmaps, { body: "[]" })).status, 400);
  assert.equal(
    (
      await server.request("POST", configmaps, {
        body: Buffer.from("k8s\0junkjunk"),
        headers: { "content-type": "application/vnd.kubernetes.protobuf" },
      })
    ).status,
    400,
  );
  assert.equal((await server.request("POST", configmaps, { body: "x".repeat(4 << 20) })).status, 413);
  assert.equal(
    (await server.request("POST", configmaps, { body: "a", headers: { "content-type": "text/plain" } })).status,
    415,
  );
  assert.equal((await server.request("GET", configmaps, { headers: { accept: "text/html" } })).status, 406);
  assert.equal((await server.request("GET", "/apis/nope/v1/x")).text, "404 page not found\n");
  assert.equal(
    (await server.request("GET", "/api/v1/nopes")).json.message,
    "the server could not find the requested resource",
  );
  assert.equal((await server.request("PATCH", configmaps, { body: {} })).status, 405);
  assert.equal(
    (
      await server.request("PATCH", `${configmaps}/durable`, {
        body: {},
        headers: { "content-type": "application/apply-patch+yaml" },
      })
    ).status,
    422,
  );
  assert.equal((await server.request("GET", "/api/v1/pods?labelSelector=%3D%3D")).status, 400);
});
