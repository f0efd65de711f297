import assert from "node:assert/strict";
import { test } from "node:test";
import {
  canonicalCidr,
  contains,
  covers,
  firstAddress,
  isCidr,
  lastAddress,
  netmaskOf,
  nthAddress,
  overlaps,
  parseCanonicalCidr,
  sizeOf,
  subnetsOf,
} from "./cidr.ts";
import { AddressError } from "./errors.ts";

test("a block is made canonical by clearing its host bits", () => {
  assert.equal(canonicalCidr("10.0.0.9/24"), "10.0.0.0/24");
  assert.equal(canonicalCidr("10.0.0.9"), "10.0.0.9/32");
  assert.equal(canonicalCidr("255.255.255.255/0"), "0.0.0.0/0");
  assert.equal(canonicalCidr("FD00::9/64"), "fd00::/64");
  assert.throws(() => parseCanonicalCidr("10.0.0.9/24"), AddressError);
  assert.throws(() => parseCanonicalCidr("10.0.0.0"), AddressError);
});

test("what is not a block is refused", () => {
  for (const text of [
    "10.0.0.0/33",
    "10.0.0.0/",
    "10.0.0.0/08",
    "10.0.0/8",
    "10.0.0.0/-1",
    "::/129",
    "x/8",
    "10.0.0.0/8/8",
  ])
    assert.equal(isCidr(text), false, text);
  assert.equal(isCidr("10.0.0.1"), false);
  assert.equal(isCidr("::/0"), true);
});

test("membership, cover and overlap", () => {
  assert.equal(contains("10.42.0.0/16", "10.42.255.255"), true);
  assert.equal(contains("10.42.0.0/16", "10.43.0.0"), false);
  assert.equal(contains("0.0.0.0/0", "::1"), false);
  assert.equal(covers("10.0.0.0/8", "10.1.0.0/16"), true);
  assert.equal(covers("10.1.0.0/16", "10.0.0.0/8"), false);
  assert.equal(overlaps("10.1.0.0/16", "10.0.0.0/8"), true);
  assert.equal(overlaps("10.0.0.0/24", "10.0.1.0/24"), false);
  assert.equal(overlaps("::/0", "0.0.0.0/0"), false);
});

test("places inside a block", () => {
  assert.equal(firstAddress("10.0.1.77/24"), "10.0.1.0");
  assert.equal(lastAddress("10.0.1.0/24"), "10.0.1.255");
  assert.equal(nthAddress("172.20.0.0/16", 10), "172.20.0.10");
  assert.throws(() => nthAddress("10.0.0.0/24", 256), AddressError);
  assert.equal(sizeOf("fd00::/64"), 2n ** 64n);
  assert.deepEqual([...subnetsOf("10.0.0.0/26", 28)], ["10.0.0.0/28", "10.0.0.16/28", "10.0.0.32/28", "10.0.0.48/28"]);
  assert.throws(() => [...subnetsOf("10.0.0.0/26", 24)], AddressError);
  assert.equal(netmaskOf("10.0.0.0/19"), "255.255.224.0");
  assert.equal(netmaskOf("0.0.0.0/0"), "0.0.0.0");
});
