import assert from "node:assert/strict";
import { test } from "node:test";
import { isNotFound } from "../../src/errors.ts";
import { NftElements, ifname, ip, mac, port, proto, u32 } from "../../src/nft-elements.ts";
import { Nft, NftError } from "../../src/nft.ts";
import { freshNetns } from "./fixture.ts";

const TABLE = `table ip svc {
\tset node_ips {
\t\ttype ipv4_addr
\t}

\tset owner {
\t\ttype ifname . ipv4_addr
\t}

\tset macs {
\t\ttype ether_addr
\t}

\tset sticky {
\t\ttype ipv4_addr
\t\tflags timeout
\t}

\tmap vip_ep {
\t\ttypeof ip daddr . meta l4proto . th dport . numgen random mod 65536 : ip daddr . th dport
\t}

\tmap marks {
\t\ttype ifname : mark
\t}

\tmap services {
\t\ttype ipv4_addr . inet_proto . inet_service : verdict
\t}

\tchain d3 {
\t\taccept
\t}
}
`;

test("a table that was run is listed as text and as JSON", (t) => {
  const [netns = ""] = freshNetns(t, "nft");
  using nft = Nft.open(netns);
  nft.run(TABLE);
  assert.equal(nft.list("table ip svc"), TABLE);
  const json = nft.json("tables") as { nftables: { table?: { name: string } }[] };
  assert.deepEqual(
    json.nftables.flatMap((item) => item.table?.name ?? []),
    ["svc"],
  );
  assert.equal(nft.list("tables"), "table ip svc\n");
  using home = Nft.open();
  assert.equal(home.list("tables").includes("svc"), false, "the test process stays where it was");
});

test("a transaction nft refuses changes nothing and says why", (t) => {
  const [netns = ""] = freshNetns(t, "nft");
  using nft = Nft.open(netns);
  assert.throws(
    () => nft.run("add table ip a; add rule ip a nope accept"),
    (error) => {
      assert.ok(error instanceof NftError);
      assert.equal(error.netns, netns);
      assert.ok(isNotFound(error));
      assert.match(
        error.message,
        /^Cannot change nftables \(netns .*\): ENOENT, Error: Could not process rule: No such file or directory\nadd table ip a; add rule ip a nope accept\n/,
      );
      return true;
    },
  );
  assert.throws(() => nft.run("add tabel x"), /syntax error/);
  assert.equal(nft.list(), "");
});

test("elements written raw read back as nft would print them", (t) => {
  const [netns = ""] = freshNetns(t, "nft");
  using nft = Nft.open(netns);
  nft.run(TABLE);
  using elements = NftElements.open(netns);
  const on = { family: "ip", table: "svc" } as const;
  elements.apply([
    { do: "add", ...on, set: "node_ips", elements: [{ key: [ip("10.0.0.5")] }, { key: [ip("10.0.0.6")] }] },
    { do: "add", ...on, set: "owner", elements: [{ key: [ifname("eni1"), ip("10.0.0.5")] }] },
    { do: "add", ...on, set: "macs", elements: [{ key: [mac("02:00:00:00:00:0a")] }] },
    { do: "add", ...on, set: "sticky", elements: [{ key: [ip("10.0.0.7")], timeoutMs: 3_600_000 }] },
    {
      do: "add",
      ...on,
      set: "vip_ep",
      elements: [{ key: [ip("172.20.0.10"), proto("udp"), port(53), u32(2)], data: [ip("10.0.1.9"), port(5353)] }],
    },
    { do: "add", ...on, set: "marks", elements: [{ key: [ifname("eni1")], data: [u32(0x30000)] }] },
    {
      do: "add",
      ...on,
      set: "services",
      elements: [
        { key: [ip("172.20.0.10"), proto("tcp"), port(53)], data: { verdict: "goto", chain: "d3" } },
        { key: [ip("172.20.0.11"), proto("tcp"), port(80)], data: { verdict: "drop" } },
      ],
    },
  ]);
  const listed = nft.list("table ip svc");
  for (const text of [
    "elements = { 10.0.0.5, 10.0.0.6 }",
    'elements = { "eni1" . 10.0.0.5 }',
    "elements = { 02:00:00:00:00:0a }",
    'elements = { "eni1" : 0x00030000 }',
    "172.20.0.10 . tcp . 53 : goto d3",
    "172.20.0.11 . tcp . 80 : drop",
  ]) {
    assert.ok(listed.includes(text), `${text} in\n${listed}`);
  }
  assert.match(listed, /10\.0\.0\.7 timeout 1h expires/);
  assert.match(listed, /172\.20\.0\.10 \. udp \. 53 \. 2 : 10\.0\.1\.9 \. 5353/);
  // nft itself finds the same elements: the bytes are not only printed alike
  nft.run("delete element ip svc vip_ep { 172.20.0.10 . udp . 53 . 2 : 10.0.1.9 . 5353 }");
  nft.run("delete element ip svc services { 172.20.0.10 . tcp . 53 : goto d3 }");
  elements.apply([
    { do: "delete", ...on, set: "services", elements: [{ key: [ip("172.20.0.11"), proto("tcp"), port(80)] }] },
  ]);
  assert.equal(nft.list("map ip svc services").includes("elements"), false);
});

test("a refused element leaves the whole transaction undone", (t) => {
  const [netns = ""] = freshNetns(t, "nft");
  using nft = Nft.open(netns);
  nft.run(TABLE);
  using elements = NftElements.open(netns);
  const on = { family: "ip", table: "svc" } as const;
  assert.throws(
    () =>
      elements.apply([
        { do: "add", ...on, set: "node_ips", elements: [{ key: [ip("10.0.0.5")] }] },
        { do: "delete", ...on, set: "services", elements: [{ key: [ip("172.20.0.1"), proto("tcp"), port(443)] }] },
      ]),
    /Cannot nft delete element ip svc services \{ 172\.20\.0\.1 \. tcp \. 443 \} \(netns .*\): ENOENT/,
  );
  assert.equal(nft.list("set ip svc node_ips").includes("elements"), false);
  assert.throws(
    () => elements.apply([{ do: "add", ...on, set: "nope", elements: [{ key: [ip("10.0.0.5")] }] }]),
    isNotFound,
  );
  // a socket goes on working after a refusal
  elements.apply([{ do: "add", ...on, set: "node_ips", elements: [{ key: [ip("10.0.0.5")] }] }]);
});

test("what a key maps to changes in one transaction, and thousands of elements go at once", (t) => {
  const [netns = ""] = freshNetns(t, "nft");
  using nft = Nft.open(netns);
  nft.run(TABLE);
  using elements = NftElements.open(netns);
  const services = { family: "ip", table: "svc", set: "services" } as const;
  const many = Array.from({ length: 3000 }, (_, i) => ({
    key: [ip(`172.20.${i >> 8}.${i & 255}`), proto("tcp"), port(80)],
    data: { verdict: "drop" } as const,
  }));
  elements.apply([{ do: "add", ...services, elements: many }]);
  elements.apply([{ do: "add", ...services, elements: many.slice(0, 10) }]);
  const changed = many.slice(0, 1).map(({ key }) => ({ key, data: { verdict: "goto", chain: "d3" } as const }));
  assert.throws(() => elements.apply([{ do: "add", ...services, elements: changed }]), /EEXIST|EBUSY/);
  elements.apply([
    { do: "delete", ...services, elements: changed },
    { do: "add", ...services, elements: changed },
  ]);
  const listed = nft.list("map ip svc services");
  assert.match(listed, /172\.20\.0\.0 \. tcp \. 80 : goto d3/);
  assert.equal(listed.match(/: drop/g)?.length, 2999);
});
