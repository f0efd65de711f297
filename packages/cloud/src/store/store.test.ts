import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Store } from "./store.ts";

type Kinds = { thing: { id: string; size: number } };

test("what a transaction wrote is there after reopening, in the order of creation", () => {
  const folder = mkdtempSync(join(tmpdir(), "ul-store-"));
  const path = join(folder, "a/state.db");
  const store = new Store<Kinds>(path);
  store.transaction(() => {
    store.put("thing", { id: "z", size: 1 });
    store.put("thing", { id: "a", size: 2 });
    store.put("thing", { id: "z", size: 3 });
    assert.equal(store.next("n"), 1);
  });
  // A second reader opens the file while the first still has it, as after a kill.
  const again = new Store<Kinds>(path);
  assert.deepEqual(again.all("thing"), [
    { id: "z", size: 3 },
    { id: "a", size: 2 },
  ]);
  assert.equal(
    again.transaction(() => again.next("n")),
    2,
  );
  again.close();
  store.close();
  rmSync(folder, { recursive: true });
});

test("a transaction that throws leaves nothing, and tells nobody", () => {
  const store = new Store<Kinds>(":memory:");
  store.transaction(() => {
    store.put("thing", { id: "a", size: 1 });
    store.put("thing", { id: "b", size: 1 });
  });
  const told: unknown[] = [];
  store.onCommit((changes) => told.push(changes));
  assert.throws(
    () =>
      store.transaction(() => {
        store.remove("thing", "a");
        store.put("thing", { id: "b", size: 9 });
        store.put("thing", { id: "c", size: 9 });
        store.next("n");
        throw new Error("no");
      }),
    /no/,
  );
  assert.deepEqual(store.all("thing"), [
    { id: "a", size: 1 },
    { id: "b", size: 1 },
  ]);
  assert.equal(
    store.transaction(() => store.next("n")),
    1,
  );
  assert.deepEqual(told, []);
  store.close();
});

test("writing outside a transaction is a mistake", () => {
  const store = new Store<Kinds>(":memory:");
  assert.throws(() => store.put("thing", { id: "a", size: 1 }), /outside a transaction/);
  store.close();
});
