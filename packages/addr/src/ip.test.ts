import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressError, canonicalIp, compareIps, familyOf, ipFromBytes, ipToBytes } from "./ip.ts";
import { addIpv4, findIpv4, formatIpv4, parseIpv4 } from "./ipv4.ts";
import { findIpv6 } from "./ipv6.ts";
import { formatMac, parseMac, randomMac } from "./mac.ts";

test("IPv4 text is read and written", () => {
  assert.equal(parseIpv4("10.0.1.5"), 0x0a000105);
  assert.equal(parseIpv4("255.255.255.255"), 0xffffffff);
  assert.equal(formatIpv4(0xc0a80001), "192.168.0.1");
  assert.equal(addIpv4("10.0.0.255", 1), "10.0.1.0");
});

test("what is not an IPv4 address is refused", () => {
  for (const text of [
    "",
    "10",
    "10.0.0",
    "10.0.0.256",
    "10.0.0.01",
    "10.0.0.0/8",
    " 10.0.0.1",
    "10.0.0.1.",
    "::1",
    "1e1.0.0.0",
  ]) {
    assert.equal(findIpv4(text), undefined, text);
  }
  assert.throws(() => parseIpv4("10.0.0"), AddressError);
  assert.throws(() => addIpv4("255.255.255.255", 1), AddressError);
});

test("IPv6 text has one canonical spelling", () => {
  const cases: [string, string][] = [
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["FD00:0:0:1::A", "fd00:0:0:1::a"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"],
    ["::ffff:10.0.0.1", "::ffff:10.0.0.1"],
    ["64:ff9b::10.0.0.1", "64:ff9b::a00:1"],
    ["2600:1f13:0000:1000:0000:0000:0000:0001", "2600:1f13:0:1000::1"],
  ];
  for (const [text, expected] of cases) assert.equal(canonicalIp(text), expected);
});

test("what is not an IPv6 address is refused", () => {
  for (const text of [
    "",
    ":",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1::2::3",
    "g::",
    "12345::",
    "1:2:3:4:5:6:7::8:9",
    "fe80::1%eth0",
    "10.0.0.1::",
  ]) {
    assert.equal(findIpv6(text), undefined, text);
  }
});

test("addresses go to bytes and back", () => {
  assert.deepEqual([...ipToBytes("10.0.1.5")], [10, 0, 1, 5]);
  for (const text of ["0.0.0.0", "255.0.255.1", "::", "fd00::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
    assert.equal(ipFromBytes(ipToBytes(text)), text);
  assert.throws(() => ipFromBytes(new Uint8Array(5)), AddressError);
});

test("addresses sort by number, IPv4 first", () => {
  assert.deepEqual(["::1", "10.0.0.10", "10.0.0.9", "2.0.0.1"].sort(compareIps), [
    "2.0.0.1",
    "10.0.0.9",
    "10.0.0.10",
    "::1",
  ]);
  assert.equal(familyOf("::1"), 6);
  assert.equal(familyOf("x"), undefined);
});

test("MACs are read, written and made", () => {
  assert.equal(formatMac(parseMac("0A:1b:2C:3d:4E:5f")), "0a:1b:2c:3d:4e:5f");
  assert.throws(() => parseMac("0a:1b:2c:3d:4e"), AddressError);
  assert.equal(
    randomMac(() => 0.999),
    "fe:ff:ff:ff:ff:ff",
  );
  assert.equal(
    randomMac(() => 0),
    "02:00:00:00:00:00",
  );
});
