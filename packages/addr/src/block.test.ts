import assert from "node:assert/strict";
import { test } from "node:test";
import { SubnetBlock, reservedAddresses } from "./block.ts";
import { SubnetBlock6 } from "./block6.ts";
import { AddressError } from "./errors.ts";

test("a fresh subnet has all but five addresses free", () => {
  const block = new SubnetBlock("10.0.1.0/24");
  assert.equal(block.freeCount, 251);
  assert.equal(block.gateway, "10.0.1.1");
  assert.equal(block.takeLowest(), "10.0.1.4");
  assert.deepEqual(reservedAddresses("10.0.1.0/28"), ["10.0.1.0", "10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.15"]);
  assert.equal(new SubnetBlock("10.0.1.0/28").freeCount, 11);
});

test("a given address is taken once", () => {
  const block = new SubnetBlock("10.0.1.0/24");
  assert.deepEqual(block.take("10.0.1.9"), { ok: true });
  assert.deepEqual(block.take("10.0.1.9"), { ok: false, why: "taken" });
  assert.deepEqual(block.take("10.0.1.2"), { ok: false, why: "reserved" });
  assert.deepEqual(block.take("10.0.2.9"), { ok: false, why: "outside" });
  assert.deepEqual(block.take("10.0.0.9"), { ok: false, why: "outside" });
  block.release("10.0.1.9");
  assert.equal(block.status("10.0.1.9"), "free");
  assert.throws(() => block.release("10.0.1.9"), AddressError);
  assert.throws(() => block.release("10.0.1.1"), AddressError);
});

test("prefixes keep clear of the reserved and the taken", () => {
  const block = new SubnetBlock("10.0.1.0/26", ["10.0.1.17"]);
  assert.equal(block.freePrefixCount, 1);
  assert.deepEqual(block.takeGivenPrefix("10.0.1.0/28"), { ok: false, why: "reserved" });
  assert.deepEqual(block.takeGivenPrefix("10.0.1.16/28"), { ok: false, why: "taken" });
  assert.deepEqual(block.takeGivenPrefix("10.0.1.40/28"), { ok: false, why: "unaligned" });
  assert.deepEqual(block.takeGivenPrefix("10.0.1.32/27"), { ok: false, why: "unaligned" });
  assert.deepEqual(block.takeGivenPrefix("10.0.1.64/28"), { ok: false, why: "outside" });
  assert.deepEqual(block.takeGivenPrefix("10.0.0.240/28"), { ok: false, why: "outside" });
  assert.equal(block.takePrefix(), "10.0.1.32/28");
  assert.equal(block.takePrefix(), undefined);
  assert.equal(block.freeCount, 59 - 1 - 16);
  assert.throws(
    () => block.release("10.0.1.33"),
    AddressError,
    "an address inside a prefix is not an address of its own",
  );
  block.release("10.0.1.17");
  assert.equal(block.takePrefix(), "10.0.1.16/28");
});

test("one stray address in every /28 leaves addresses but no prefix", () => {
  const strays = Array.from({ length: 16 }, (_, i) => `10.0.1.${i * 16 + 7}`);
  const block = new SubnetBlock("10.0.1.0/24", strays);
  assert.equal(block.freeCount, 235);
  assert.equal(block.takePrefix(), undefined);
});

test("many addresses come all or not at all", () => {
  const block = new SubnetBlock("10.0.1.0/28");
  assert.equal(block.takeMany(12), undefined);
  assert.equal(block.freeCount, 11);
  assert.equal(block.takeMany(11)?.at(-1), "10.0.1.14");
  assert.equal(block.takeLowest(), undefined);
});

test("a /16 fills and empties without slowing down", () => {
  const block = new SubnetBlock("10.42.0.0/16");
  const prefixes: string[] = [];
  for (let p = block.takePrefix(); p !== undefined; p = block.takePrefix()) prefixes.push(p);
  assert.equal(prefixes.length, 4094);
  const rest = block.takeMany(block.freeCount);
  assert.equal(rest?.length, 65536 - 5 - 4094 * 16);
  const again = new SubnetBlock("10.42.0.0/16", [...prefixes, ...(rest ?? [])]);
  assert.equal(again.freeCount, 0);
  for (const one of [...prefixes.reverse(), ...(rest ?? [])]) again.release(one);
  assert.equal(again.freeCount, 65531);
  assert.equal(again.takeLowest(), "10.42.0.4");
  assert.equal(again.takePrefix(), "10.42.0.16/28");
});

test("rebuilding from overlapping claims says which one is wrong", () => {
  assert.throws(
    () => new SubnetBlock("10.0.1.0/24", ["10.0.1.16/28", "10.0.1.20"]),
    /"10.0.1.20" as a free part of 10.0.1.0\/24 \(it is taken\)/,
  );
});

test("an IPv6 subnet hands out addresses and /80 prefixes that do not overlap", () => {
  const block = new SubnetBlock6("2600:1f13:0:1000::/64", ["2600:1f13:0:1000:5::/80"]);
  assert.deepEqual(block.take("2600:1f13:0:1000:5::1"), { ok: false, why: "taken" });
  assert.deepEqual(block.take("2600:1f13:0:1000::1"), { ok: false, why: "reserved" });
  assert.deepEqual(block.take("2600:1f13:0:1000:6::1"), { ok: true });
  assert.deepEqual(block.takeGivenPrefix("2600:1f13:0:1000:6::/80"), { ok: false, why: "taken" });
  assert.deepEqual(block.takeGivenPrefix("2600:1f13:0:1000:7::/96"), { ok: false, why: "unaligned" });
  block.release("2600:1f13:0:1000:6::1");
  assert.deepEqual(block.takeGivenPrefix("2600:1f13:0:1000:6::/80"), { ok: true });
  let seed = 1;
  const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const seen = new Set(Array.from({ length: 500 }, () => block.takePrefix(random)));
  assert.equal(seen.size, 500);
  assert.equal(block.take(block.takeAny(random)).ok, false);
});
