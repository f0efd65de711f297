import assert from "node:assert/strict";
import { test } from "node:test";
import { differenceOf, isEmpty, withDependents } from "./difference.ts";
import { toItems, type Item, type VethItem } from "./items.ts";
import { removalText, structureText } from "./nft-text.ts";

const netns = "router";
const veth = (mac: string): VethItem => ({
  kind: "veth",
  netns,
  name: "eni1",
  mac,
  mtu: 9001,
  alias: "eni-1",
  proxyArp: true,
  guest: true,
  peer: { netns: "guest", name: "eth0", mac: "02:00:00:00:00:01", mtu: 9001, up: true },
});
const route = (to: string, via?: string): Item => ({
  kind: "route",
  netns,
  route: { to, dev: "eni1", ...(via === undefined ? {} : { via }) },
});
const lease: Item = { kind: "lease", netns: "guest", dev: "eth0", address: "10.0.0.5/24", gateway: "10.0.0.1" };

test("differenceOf() adds, removes and replaces by identity and content", () => {
  const before = toItems([route("10.0.0.5/32"), route("10.0.0.6/32")]);
  const after = toItems([route("10.0.0.6", "10.0.0.5"), route("10.0.0.7/32")]);
  const { add, remove, replace } = differenceOf(before, after);
  assert.deepEqual(add, [route("10.0.0.7/32")]);
  assert.deepEqual(remove, [route("10.0.0.5/32")]);
  assert.deepEqual(replace, [{ from: route("10.0.0.6/32"), to: route("10.0.0.6", "10.0.0.5") }]);
  assert.ok(isEmpty(differenceOf(after, after)));
  assert.ok(
    isEmpty(differenceOf(toItems([route("default")]), toItems([route("0.0.0.0/0")]))),
    "one route, two spellings",
  );
});

test("withDependents() makes again what hung on a link that is made again, at both of its ends", () => {
  const wanted = [veth("02:00:00:00:00:02"), route("10.0.0.5/32"), lease];
  const before = toItems([veth("02:00:00:00:00:ff"), route("10.0.0.5/32"), lease]);
  const difference = withDependents(differenceOf(before, toItems(wanted)), wanted);
  assert.deepEqual(difference.add, [route("10.0.0.5/32"), lease]);
  assert.equal(difference.replace.length, 1);
  assert.deepEqual(withDependents(differenceOf(toItems(wanted), toItems(wanted)), wanted).add, []);
});

test("structureText() declares before it refers, and removes in the opposite order", () => {
  const items = [
    {
      kind: "chain",
      netns,
      name: "gate",
      hook: "type filter hook forward priority 0; policy drop;",
      rules: ["jump other", "ip saddr @members accept"],
    },
    { kind: "chain", netns, name: "other", rules: ["drop"] },
    { kind: "set", netns, name: "members", type: "set", definition: "type ipv4_addr" },
    {
      kind: "set",
      netns,
      name: "list",
      type: "set",
      definition: "type ipv4_addr; flags interval",
      elements: ["10.0.0.0/8"],
    },
  ] as const;
  assert.equal(
    structureText(items),
    `add table ip fabric
add set ip fabric members { type ipv4_addr; }
add set ip fabric list { type ipv4_addr; flags interval; }
flush set ip fabric list
add element ip fabric list { 10.0.0.0/8 }
add chain ip fabric gate { type filter hook forward priority 0; policy drop; }
add chain ip fabric other
flush chain ip fabric gate
add rule ip fabric gate jump other
add rule ip fabric gate ip saddr @members accept
flush chain ip fabric other
add rule ip fabric other drop
`,
  );
  assert.equal(
    removalText(items),
    `flush chain ip fabric gate
flush chain ip fabric other
delete chain ip fabric gate
delete chain ip fabric other
delete set ip fabric members
delete set ip fabric list
`,
  );
});
