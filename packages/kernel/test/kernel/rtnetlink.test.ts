import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { isExists, isNotFound } from "../../src/errors.ts";
import { netnsExists, netnsPath, openNetns } from "../../src/netns.ts";
import { closeFd } from "../../src/fds.ts";
import { Rtnl, RtnlError } from "../../src/rtnetlink.ts";
import { askUdp, freshNetns, ip, ipJson, udpEcho, until } from "./fixture.ts";

const HOST_MAC = "02:00:00:00:00:01";
const POD_MAC = "02:00:00:00:00:02";

test("a veth goes straight into another namespace with its MACs and MTUs", (t) => {
  const [node = "", pod = ""] = freshNetns(t, "node", "pod");
  using rtnl = Rtnl.open(node);
  rtnl.apply(
    {
      do: "add-veth",
      name: "eni1",
      mac: HOST_MAC,
      mtu: 9001,
      up: true,
      group: 7,
      peer: { name: "eth0", mac: POD_MAC, mtu: 9001, netns: pod },
    },
    { do: "set-link", name: "eni1", alias: "pod one" },
  );
  const [host] = ipJson(node, "-d", "link", "show", "eni1");
  assert.equal(host.address, HOST_MAC);
  assert.equal(host.mtu, 9001);
  assert.equal(host.ifalias, "pod one");
  assert.equal(host.num_tx_queues, 1);
  assert.ok(host.flags.includes("UP"));
  const [peer] = ipJson(pod, "link", "show", "eth0");
  assert.equal(peer.address, POD_MAC);
  assert.equal(peer.mtu, 9001);
  const link = rtnl.findLink("eni1");
  assert.deepEqual(
    { ...link, index: 0, link: 0, peerNetnsId: 0 },
    {
      index: 0,
      name: "eni1",
      mtu: 9001,
      up: true,
      running: false,
      group: 7,
      mac: HOST_MAC,
      kind: "veth",
      link: 0,
      peerNetnsId: 0,
      alias: "pod one",
    },
  );
  assert.equal(link?.index, rtnl.linkIndex("eni1"));
  assert.equal(rtnl.findLink("nope"), undefined);
  assert.equal(rtnl.linkIndex("nope"), undefined);
});

test("a whole pod goes on in one batch per namespace, and packets flow both ways", async (t) => {
  const [node = "", pod = ""] = freshNetns(t, "node", "pod");
  using rtnl = Rtnl.open(node);
  const podFd = openNetns(netnsPath(pod));
  rtnl.apply(
    { do: "set-link", name: "lo", up: true },
    {
      do: "add-veth",
      name: "eni1",
      mac: HOST_MAC,
      mtu: 9001,
      up: true,
      peer: { name: "eth0", mac: POD_MAC, mtu: 9001, netns: podFd },
    },
    { do: "add-address", address: "10.0.9.9/32", dev: "lo" },
    { do: "add-address", address: "fd00:9::9/128", dev: "lo" },
    { do: "add-route", to: "10.0.1.10/32", dev: "eni1", scope: "link" },
    { do: "add-route", to: "fd00:0:0:1::10/128", dev: "eni1" },
    { do: "add-neighbour", to: "10.0.1.10", mac: POD_MAC, dev: "eni1" },
    { do: "add-neighbour", to: "fd00:0:0:1::10", mac: POD_MAC, dev: "eni1" },
    { do: "add-rule", priority: 512, to: "10.0.1.10/32", table: 254 },
  );
  using inPod = Rtnl.open(podFd);
  closeFd(podFd);
  inPod.apply(
    { do: "set-link", name: "lo", up: true },
    { do: "set-link", name: "eth0", up: true },
    { do: "add-address", address: "10.0.1.10/32", dev: "eth0" },
    { do: "add-neighbour", to: "169.254.1.1", mac: HOST_MAC, dev: "eth0" },
    { do: "add-route", to: "169.254.1.1/32", dev: "eth0", scope: "link" },
    { do: "add-route", to: "default", via: "169.254.1.1", dev: "eth0" },
    { do: "add-address", address: "fd00:0:0:1::10/128", dev: "eth0" },
    { do: "add-neighbour", to: "fe80::1", mac: HOST_MAC, dev: "eth0" },
    { do: "add-route", to: "fe80::1", dev: "eth0" },
    { do: "add-route", to: "default", via: "fe80::1", dev: "eth0" },
  );
  assert.equal(ip(pod, "route").trimEnd(), "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link");
  assert.match(ip(pod, "-6", "route"), /default via fe80::1 dev eth0 metric 1024 /);
  assert.match(ip(node, "rule"), /^512:\tfrom all to 10\.0\.1\.10 lookup main$/m);
  assert.match(ip(node, "neigh"), /^10\.0\.1\.10 dev eni1 lladdr 02:00:00:00:00:02 PERMANENT $/m);
  for (const [podAddress, nodeAddress] of [
    ["10.0.1.10", "10.0.9.9"],
    ["fd00:0:0:1::10", "fd00:9::9"],
  ] as const) {
    const port = udpEcho(t, node, nodeAddress);
    assert.equal(await askUdp(pod, podAddress, nodeAddress, port), podAddress);
  }
});

test("what was made is listed as it was asked for", (t) => {
  const [node = ""] = freshNetns(t, "node");
  using rtnl = Rtnl.open(node);
  rtnl.apply(
    { do: "set-link", name: "lo", up: true },
    { do: "add-veth", name: "a", up: true, peer: { name: "b" } },
    { do: "set-link", name: "b", up: true },
    { do: "add-address", address: "10.0.3.5/24", dev: "a", noPrefixRoute: true },
    { do: "add-address", address: "10.0.3.6/24", dev: "a" },
    { do: "add-route", to: "10.0.3.1", dev: "a", scope: "link", table: 10002 },
    { do: "add-route", to: "default", via: "10.0.3.1", dev: "a", table: 10002, onlink: true, mtu: 1400 },
    { do: "add-route", to: "10.9.0.0/16", type: "blackhole", table: 10002 },
    {
      do: "add-route",
      to: "192.0.2.0/24",
      table: 10002,
      metric: 50,
      nexthops: [
        { dev: "a", via: "10.0.3.1", weight: 1 },
        { dev: "b", weight: 3 },
      ],
    },
    { do: "add-route", to: "fd01::/64", type: "unreachable", table: 10002 },
    { do: "add-rule", priority: 1024, fwmark: 0x80, fwmask: 0x80, table: 254 },
    { do: "add-rule", priority: 1536, from: "10.0.3.10/32", table: 10002 },
    { do: "add-rule", priority: 10, iif: "a", table: 101 },
    { do: "add-rule", priority: 11, oif: "b", not: true, type: "prohibit" },
    { do: "add-rule", priority: 12, family: 6, table: 254, suppressPrefixLength: 0 },
    { do: "add-neighbour", to: "10.0.3.1", mac: HOST_MAC, dev: "a" },
    { do: "add-neighbour", to: "10.0.3.99", dev: "a", proxy: true },
  );
  assert.deepEqual(
    rtnl
      .listAddresses({ dev: "a", family: 4 })
      .map(({ address, secondary, noPrefixRoute }) => ({ address, secondary, noPrefixRoute })),
    [
      { address: "10.0.3.5/24", secondary: false, noPrefixRoute: true },
      { address: "10.0.3.6/24", secondary: true, noPrefixRoute: false },
    ],
  );
  assert.deepEqual(
    rtnl.listRoutes({ family: 4, table: 10002 }).sort((a, b) => (a.to < b.to ? -1 : 1)),
    [
      { to: "10.0.3.1/32", table: 10002, type: "unicast", scope: "link", protocol: 3, dev: "a" },
      { to: "10.9.0.0/16", table: 10002, type: "blackhole", scope: "global", protocol: 3 },
      {
        to: "192.0.2.0/24",
        table: 10002,
        type: "unicast",
        scope: "global",
        protocol: 3,
        metric: 50,
        nexthops: [
          { dev: "a", weight: 1, via: "10.0.3.1" },
          { dev: "b", weight: 3 },
        ],
      },
      {
        to: "default",
        table: 10002,
        type: "unicast",
        scope: "global",
        protocol: 3,
        dev: "a",
        via: "10.0.3.1",
        mtu: 1400,
        onlink: true,
      },
    ],
  );
  assert.deepEqual(
    rtnl.listRoutes({ family: 6, table: 10002 }).map(({ to, type }) => ({ to, type })),
    [{ to: "fd01::/64", type: "unreachable" }],
  );
  assert.deepEqual(rtnl.listRoutes({ table: 4711 }), []);
  assert.deepEqual(
    rtnl.listRules(4).filter((rule) => rule.priority > 0 && rule.priority < 32766),
    [
      { priority: 10, family: 4, type: "table", table: 101, iif: "a" },
      { priority: 11, family: 4, type: "prohibit", oif: "b", not: true },
      { priority: 1024, family: 4, type: "table", table: 254, fwmark: 0x80, fwmask: 0x80 },
      { priority: 1536, family: 4, type: "table", table: 10002, from: "10.0.3.10/32" },
    ],
  );
  assert.deepEqual(
    rtnl.listRules(6).find((rule) => rule.priority === 12),
    { priority: 12, family: 6, type: "table", table: 254, suppressPrefixLength: 0 },
  );
  assert.deepEqual(rtnl.listNeighbours({ family: 4 }), [
    { to: "10.0.3.1", dev: "a", state: "permanent", mac: HOST_MAC },
    { to: "10.0.3.99", dev: "a", state: "none", proxy: true },
  ]);
  assert.match(ip(node, "route", "show", "table", "10002"), /^default via 10\.0\.3\.1 dev a onlink mtu 1400 $/m);
});

test("what is there already and what is not there are told apart, in the words of ip", (t) => {
  const [node = ""] = freshNetns(t, "node");
  using rtnl = Rtnl.open(node);
  rtnl.apply({ do: "set-link", name: "lo", up: true }, { do: "add-veth", name: "a", up: true, peer: { name: "b" } });
  const cases = [
    [{ do: "add-veth", name: "a", peer: { name: "c" } }, "EEXIST", "ip link add a type veth peer name c"],
    [{ do: "set-link", name: "nope", up: true }, "ENODEV", "ip link set nope up"],
    [{ do: "delete-link", name: "nope" }, "ENODEV", "ip link delete nope"],
    [{ do: "add-address", address: "10.0.0.1/32", dev: "nope" }, "ENODEV", "ip address add 10.0.0.1/32 dev nope"],
    [{ do: "delete-address", address: "10.0.0.1/32", dev: "a" }, "EADDRNOTAVAIL", "ip address del 10.0.0.1/32 dev a"],
    [{ do: "delete-route", to: "10.7.0.0/16", dev: "a" }, "ESRCH", "ip route del 10.7.0.0/16 dev a"],
    [{ do: "add-route", to: "default", via: "10.7.0.1" }, "ENETUNREACH", "ip route add default via 10.7.0.1"],
    [{ do: "delete-rule", priority: 77 }, "ENOENT", "ip rule del priority 77 from all lookup main"],
    [{ do: "delete-neighbour", to: "10.0.0.1", dev: "a" }, "ENOENT", "ip neigh del 10.0.0.1 dev a"],
    [
      { do: "add-veth", name: "x", peer: { name: "y", netns: "/run/netns/ul-none" } },
      "ENOENT",
      "ip link add x type veth peer name y netns /run/netns/ul-none",
    ],
  ] as const;
  for (const [change, errno, operation] of cases) {
    assert.throws(
      () => rtnl.apply(change),
      (error) => {
        assert.ok(error instanceof RtnlError);
        assert.deepEqual(
          { errno: error.errno, operation: error.operation, netns: error.netns },
          { errno, operation, netns: node },
        );
        assert.equal(isExists(error), errno === "EEXIST");
        assert.equal(isNotFound(error), !["EEXIST", "ENETUNREACH"].includes(errno));
        return true;
      },
    );
  }
  assert.throws(
    () => rtnl.apply({ do: "add-route", to: "default", via: "10.7.0.1" }),
    /Cannot ip route add default via 10\.7\.0\.1 \(netns ul-t\w+-node\): ENETUNREACH, Nexthop has invalid gateway/,
  );
});

test("a refused change stops none of the others in its batch", (t) => {
  const [node = ""] = freshNetns(t, "node");
  using rtnl = Rtnl.open(node);
  const errors = rtnl.tryApply([
    { do: "add-veth", name: "a", up: true, peer: { name: "b" } },
    { do: "add-address", address: "10.0.0.1/32", dev: "nope" },
    { do: "add-address", address: "10.0.0.1/32", dev: "a" },
    { do: "add-address", address: "10.0.0.1/32", dev: "a" },
    { do: "add-address", address: "10.0.0.2/32", dev: "a" },
  ]);
  assert.deepEqual(
    errors.map((error) => error?.errno),
    [undefined, "ENODEV", undefined, "EEXIST", undefined],
  );
  assert.equal(rtnl.listAddresses({ dev: "a", family: 4 }).length, 2);
});

test("links are set, renamed, moved, grouped, enslaved and deleted", async (t) => {
  const [node = "", other = ""] = freshNetns(t, "node", "other");
  using rtnl = Rtnl.open(node);
  rtnl.apply(
    { do: "add-bridge", name: "br0", up: true },
    { do: "add-veth", name: "a", peer: { name: "b" } },
    { do: "set-link", name: "a", mtu: 1300, mac: HOST_MAC, master: "br0", rename: "aa", alias: "first" },
    { do: "set-link", name: "b", netns: other },
  );
  const aa = rtnl.findLink("aa");
  assert.deepEqual([aa?.mtu, aa?.mac, aa?.alias], [1300, HOST_MAC, "first"]);
  assert.equal(rtnl.listLinks().find((link) => link.name === "aa")?.master, "br0");
  rtnl.apply({ do: "set-link", name: "aa", master: null });
  assert.equal(rtnl.listLinks().find((link) => link.name === "aa")?.master, undefined);
  assert.equal(ipJson(other, "link", "show", "b")[0].ifname, "b");
  rtnl.apply({ do: "add-macvlan", name: "vlan.eth.1", link: "aa", mac: POD_MAC, mode: "private" });
  assert.equal(ipJson(node, "-d", "link", "show", "vlan.eth.1")[0].linkinfo.info_data.mode, "private");
  for (let i = 0; i < 5; i++) rtnl.apply({ do: "add-veth", name: `g${i}`, group: 777, peer: { name: `p${i}` } });
  rtnl.apply({ do: "delete-link-group", group: 777 });
  assert.deepEqual(
    rtnl.listLinks().filter((link) => /^[gp]\d/.test(link.name)),
    [],
  );
  await rtnl.applyInPool({ do: "delete-link", name: "aa" });
  assert.equal(rtnl.findLink("aa"), undefined);
  await assert.rejects(rtnl.applyInPool({ do: "delete-link", name: "aa" }), isNotFound);
  assert.ok(netnsExists(other));
});

test("replacing is idempotent and moves a route to another link", (t) => {
  const [node = ""] = freshNetns(t, "node");
  using rtnl = Rtnl.open(node);
  rtnl.apply(
    { do: "set-link", name: "lo", up: true },
    { do: "add-veth", name: "a", up: true, peer: { name: "b" } },
    { do: "set-link", name: "b", up: true },
  );
  for (const dev of ["a", "a", "b"]) {
    rtnl.apply(
      { do: "replace-route", to: "10.0.1.5", dev },
      { do: "replace-neighbour", to: "10.0.1.5", mac: dev === "a" ? HOST_MAC : POD_MAC, dev },
    );
  }
  assert.equal(ip(node, "route").trim(), "10.0.1.5 dev b scope link");
  rtnl.apply({ do: "delete-route", to: "10.0.1.5" });
  assert.equal(ip(node, "route"), "");
});

test("a thousand changes go in one call, and lists longer than one datagram come back whole", (t) => {
  const [node = ""] = freshNetns(t, "node");
  using rtnl = Rtnl.open(node);
  rtnl.apply({ do: "set-link", name: "lo", up: true }, { do: "add-veth", name: "a", up: true, peer: { name: "b" } });
  rtnl.apply(
    ...Array.from({ length: 1200 }, (_, i) => ({
      do: "add-route" as const,
      to: `10.1.${i >> 8}.${i & 255}`,
      dev: "a",
      table: 50,
    })),
  );
  assert.equal(rtnl.listRoutes({ table: 50, family: 4 }).length, 1200);
  assert.equal(rtnl.listRoutes({ family: 4 }).length, 0);
});

test("a socket outlives the name of its namespace, and a veth dies with the namespace of its peer", async (t) => {
  const [node = "", pod = ""] = freshNetns(t, "node", "pod");
  using rtnl = Rtnl.open(node);
  rtnl.apply({ do: "add-veth", name: "a", peer: { name: "b", netns: pod } });
  execFileSync("ip", ["netns", "delete", pod]);
  await until("the host end is gone", () => rtnl.findLink("a") === undefined);
  execFileSync("ip", ["netns", "delete", node]);
  assert.deepEqual(
    rtnl.listLinks().map((link) => link.name),
    ["lo"],
  );
  await rtnl.applyInPool({ do: "set-link", name: "lo", up: true });
  assert.equal(rtnl.findLink("lo")?.up, true);
});
