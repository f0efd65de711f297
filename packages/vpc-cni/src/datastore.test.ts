import assert from "node:assert/strict";
import { test } from "node:test";
import type { Allocation } from "./checkpoint.ts";
import { Datastore } from "./datastore.ts";

const key = (containerId: string) => ({ networkName: "aws-cni", containerId, ifName: "eth0" });
const pod = (name: string) => ({ namespace: "shop", name, interfacesCount: 1 });

class MemoryStore {
  saved: readonly Allocation[] | undefined;
  broken = false;
  read() {
    return this.saved;
  }
  write(allocations: readonly Allocation[]) {
    if (this.broken) throw new Error("disk full");
    this.saved = allocations;
  }
}

function poolOf(perEni: number, enis = 2, store = new MemoryStore()) {
  const datastore = new Datastore(store, 30_000);
  for (let n = 0; n < enis; n++) {
    datastore.addEni({
      eniId: `eni-${n}`,
      mac: `02:00:00:00:00:0${n}`,
      deviceNumber: n,
      subnetId: "subnet-1",
      primary: n === 0,
      trunk: false,
      efa: false,
      excluded: false,
      createdAt: n,
    });
    for (let i = 0; i < perEni; i++) datastore.addCidr(`eni-${n}`, `10.0.${n}.${10 + i}/32`);
  }
  return { datastore, store };
}

const addressOf = (datastore: Datastore, name: string, now = 0) =>
  datastore.assign(key(name), pod(name), now, 1n)?.address;

test("assign() uses the oldest ENI first, lowest address first", () => {
  const { datastore } = poolOf(2);
  assert.deepEqual(
    ["a", "b", "c", "d", "e"].map((name) => addressOf(datastore, name)),
    ["10.0.0.10", "10.0.0.11", "10.0.1.10", "10.0.1.11", undefined],
  );
  assert.equal(datastore.find(key("c"))?.routeTable, 2);
  assert.equal(datastore.find(key("a"))?.routeTable, 254);
});

test("assign() answers the same key the same", () => {
  const { datastore } = poolOf(2);
  assert.equal(addressOf(datastore, "a"), "10.0.0.10");
  const again = datastore.assign(key("a"), pod("a"), 5, 2n);
  assert.equal(again?.address, "10.0.0.10");
  assert.equal(again?.repeated, true);
  assert.equal(datastore.counts(5).assigned, 1);
});

test("a released address waits for its cooldown, and the longest released comes back first", () => {
  const { datastore } = poolOf(2, 1);
  addressOf(datastore, "a");
  addressOf(datastore, "b");
  datastore.release(key("b"), 1_000);
  datastore.release(key("a"), 2_000);
  assert.deepEqual(datastore.counts(30_999), { total: 2, assigned: 0, cooling: 2, available: 0, prefixes: 0 });
  assert.equal(addressOf(datastore, "c", 30_999), undefined);
  assert.equal(addressOf(datastore, "c", 32_000), "10.0.0.11");
  assert.equal(addressOf(datastore, "d", 32_000), "10.0.0.10");
});

test("release() of an unknown key is no error", () => {
  const { datastore } = poolOf(1);
  assert.equal(datastore.release(key("nobody"), 0), undefined);
});

test("assign() that cannot be checkpointed leaves nothing behind", () => {
  const { datastore, store } = poolOf(1, 1);
  store.broken = true;
  assert.throws(() => addressOf(datastore, "a"), /disk full/);
  assert.equal(datastore.counts(0).assigned, 0);
  store.broken = false;
  assert.equal(addressOf(datastore, "b"), "10.0.0.10");
});

test("release() that cannot be checkpointed keeps the address with its pod", () => {
  const { datastore, store } = poolOf(1, 1);
  addressOf(datastore, "a");
  store.broken = true;
  assert.throws(() => datastore.release(key("a"), 0), /disk full/);
  assert.equal(datastore.find(key("a"))?.address, "10.0.0.10");
});

test("an address a pod holds is removed only by force", () => {
  const { datastore } = poolOf(1);
  addressOf(datastore, "a");
  assert.throws(() => datastore.removeCidr("eni-0", "10.0.0.10/32"), {
    message: "Cannot remove 10.0.0.10: pod shop/a holds it",
  });
  assert.throws(() => datastore.removeEni("eni-0"), /pod shop\/a holds it/);
  assert.equal(datastore.removeCidr("eni-0", "10.0.0.10/32", { force: true })[0]?.pod.name, "a");
  assert.equal(datastore.find(key("a")), undefined);
});

test("excluded ENIs serve nobody and are not counted", () => {
  const { datastore } = poolOf(1);
  const eni = datastore.findEni("eni-0");
  assert.ok(eni);
  eni.excluded = true;
  assert.equal(addressOf(datastore, "a"), "10.0.1.10");
  assert.equal(datastore.counts(0).total, 1);
});

test("restore() gives living pods their addresses, drops stale and unknown ones", () => {
  const { datastore, store } = poolOf(3);
  for (const name of ["a", "b", "c"]) addressOf(datastore, name);
  const elsewhere: Allocation = { key: key("x"), address: "10.9.9.9", allocatedNs: 1n, pod: pod("x") };
  const nameless: Allocation = {
    key: key("n"),
    address: "10.0.1.11",
    allocatedNs: 1n,
    pod: { namespace: "", name: "", interfacesCount: 0 },
  };
  const next = new MemoryStore();
  next.saved = [...(store.saved ?? []), elsewhere, nameless];
  const { datastore: restarted } = poolOf(3, 2, next);
  const outcome = restarted.restore(({ name }) => name !== "b");
  assert.deepEqual(
    outcome.restored.map((one) => one.address),
    ["10.0.0.10", "10.0.0.12", "10.0.1.11"],
  );
  assert.deepEqual(
    outcome.stale.map((one) => one.pod.name),
    ["b"],
  );
  assert.deepEqual(
    outcome.unknown.map((one) => one.address),
    ["10.9.9.9"],
  );
  assert.equal(restarted.assign(key("a"), pod("a"), 0, 9n)?.repeated, true);
  assert.equal(addressOf(restarted, "new"), "10.0.0.11", "the stale pod's address is free");
  assert.deepEqual(
    next.saved.map((one) => one.address),
    ["10.0.0.10", "10.0.0.12", "10.0.1.11"].toSpliced(1, 0, "10.0.0.11"),
  );
});

test("restore() refuses a checkpoint that has an address twice", () => {
  const store = new MemoryStore();
  store.saved = ["a", "b"].map((name) => ({ key: key(name), address: "10.0.0.10", allocatedNs: 1n, pod: pod(name) }));
  const { datastore } = poolOf(1, 1, store);
  assert.throws(() => datastore.restore(() => true), { code: "checkpoint-duplicate" });
});

function prefixPool(store = new MemoryStore()) {
  const datastore = new Datastore(store, 30_000, { prefixes: true });
  datastore.addEni({
    eniId: "eni-0",
    mac: "02:00:00:00:00:00",
    deviceNumber: 0,
    subnetId: "subnet-1",
    primary: true,
    trunk: false,
    efa: false,
    excluded: false,
    createdAt: 0,
  });
  for (const cidr of ["10.0.0.16/28", "10.0.0.32/28", "10.0.0.9/32"]) datastore.addCidr("eni-0", cidr);
  return datastore;
}

test("all 16 addresses of a prefix are given, a begun prefix first, a draining single address never", () => {
  const datastore = prefixPool();
  const given = Array.from({ length: 33 }, (_, i) => addressOf(datastore, `p${i}`));
  assert.deepEqual(
    [given[0], given[15], given[16], given[31], given[32]],
    ["10.0.0.16", "10.0.0.31", "10.0.0.32", "10.0.0.47", undefined],
  );
  assert.deepEqual(datastore.counts(0), { total: 32, assigned: 32, cooling: 0, available: 0, prefixes: 2 });
});

test("restore() finds pods inside prefixes and on draining single addresses", () => {
  const store = new MemoryStore();
  store.saved = ["10.0.0.21", "10.0.0.9"].map((address) => ({
    key: key(address),
    address,
    allocatedNs: 1n,
    pod: pod(address),
  }));
  const datastore = prefixPool(store);
  assert.equal(datastore.restore(() => true).restored.length, 2);
  assert.equal(addressOf(datastore, "new"), "10.0.0.16");
  assert.throws(() => datastore.removeCidr("eni-0", "10.0.0.16/28"), /holds it/);
});
