import assert from "node:assert/strict";
import { test } from "node:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ApiObject } from "../api-object.ts";
import { Store, type StoreEvent } from "./store.ts";

const object = (name: string, more: object = {}): ApiObject => ({
  apiVersion: "v1",
  kind: "X",
  metadata: { name, namespace: "n" },
  ...more,
});
function inFolder(work: (file: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), "underlay-store-"));
    try {
      await work(join(folder, "state.db"));
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}
const open = (file: string): Store => new Store(file, { fieldsOf: () => ({}) });

test(
  "a store opened again has every settled object, its revision and its watch history's bounds",
  inFolder(async (file) => {
    const first = open(file);
    first.put("x", object("a"));
    first.put("x", object("b"));
    first.remove("x", "n", "a");
    first.put("y", object("c"));
    await first.settled();
    // Not closed: as after kill -9.
    const second = open(file);
    assert.equal(second.revision, 4);
    assert.deepEqual(
      second.list("x").map((e) => e.key),
      ["n/b"],
    );
    assert.equal(second.put("x", object("d")).revision, 5);
    await second.settled();
    assert.deepEqual(
      second.since("x", 3)?.map((e) => e.revision),
      [5],
    );
    assert.equal(second.since("x", 2), undefined);
    assert.deepEqual(second.since("y", 4), []);
    second.close();
    first.close();
  }),
);

test(
  "listeners hear of changes after the commit, in order, deletions with their own revision",
  inFolder(async (file) => {
    const store = open(file);
    const heard: StoreEvent[] = [];
    store.subscribe("x", (event) => heard.push(event));
    store.put("x", object("a", { data: 1 }));
    store.put("x", object("a", { data: 2 }));
    store.remove("x", "n", "a");
    assert.equal(heard.length, 0);
    assert.equal(store.isSettled, false);
    await store.settled();
    assert.deepEqual(
      heard.map((e) => [e.type, e.revision]),
      [
        ["ADDED", 1],
        ["MODIFIED", 2],
        ["DELETED", 3],
      ],
    );
    assert.equal(JSON.parse(heard[2]!.entry.json).metadata.resourceVersion, "3");
    assert.equal(JSON.parse(heard[2]!.entry.json).data, 2);
    store.close();
  }),
);

test(
  "lists are in key order and by namespace",
  inFolder(async (file) => {
    const store = open(file);
    for (const [namespace, name] of [
      ["b", "1"],
      ["a", "2"],
      ["a", "1"],
    ])
      store.put("x", { ...object(name!), metadata: { name: name!, namespace: namespace! } });
    assert.deepEqual(
      store.list("x").map((e) => e.key),
      ["a/1", "a/2", "b/1"],
    );
    assert.deepEqual(
      store.list("x", "a").map((e) => e.name),
      ["1", "2"],
    );
    store.close();
  }),
);

test(
  "history forgets the oldest changes and says so",
  inFolder(async (file) => {
    const store = open(file);
    for (let i = 0; i < 6300; i++) store.put("x", object("a", { i }));
    await store.settled();
    assert.equal(store.since("x", 1), undefined);
    assert.equal(store.since("x", 6290)?.length, 10);
    store.close();
  }),
);
