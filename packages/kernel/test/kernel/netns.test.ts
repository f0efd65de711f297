import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createConnection } from "node:net";
import { test } from "node:test";
import { KernelError, isExists, isNotFound } from "../../src/errors.ts";
import { closeFd } from "../../src/fds.ts";
import {
  createNetns,
  deleteNetns,
  ensureNetns,
  listNetns,
  netnsExists,
  netnsPath,
  openNetns,
  runIn,
} from "../../src/netns.ts";
import { Rtnl } from "../../src/rtnetlink.ts";
import { boundPort, connectTcp, listenTcp } from "../../src/sockets.ts";
import { readSysctl, writeSysctls } from "../../src/sysctl.ts";
import { callUnixFd, serveUnixFd } from "../../src/unix-fd.ts";
import { Conntrack } from "../../src/conntrack.ts";
import { Nft } from "../../src/nft.ts";
import { askUdp, freshNetns, udpEcho } from "./fixture.ts";

const here = (): string => readlinkSync("/proc/thread-self/ns/net");

test("a namespace is made, seen by ip, listed and removed", (t) => {
  const [name = ""] = freshNetns(t, "ns");
  assert.match(execFileSync("ip", ["netns", "list"], { encoding: "utf8" }), new RegExp(`^${name}`, "m"));
  assert.throws(() => createNetns(name), isExists);
  assert.equal(ensureNetns(name), false);
  assert.deepEqual(listNetns(name), [name]);
  deleteNetns(name);
  deleteNetns(name);
  assert.equal(netnsExists(name), false);
  assert.throws(() => runIn(name, () => 1), isNotFound);
  writeFileSync(netnsPath(name), "");
  assert.equal(netnsExists(name), false, "a leftover file is not a namespace");
  assert.equal(ensureNetns(name), true);
});

test("work runs in a namespace and the thread comes back, also after an error", (t) => {
  const [name = ""] = freshNetns(t, "ns");
  const home = here();
  const fd = openNetns(name);
  assert.equal(runIn(name, here), runIn(fd, here));
  closeFd(fd);
  assert.notEqual(runIn(name, here), home);
  assert.throws(() => runIn(name, () => assert.fail("inside")), /inside/);
  assert.throws(() => runIn(name, () => Promise.resolve()), TypeError);
  assert.equal(here(), home);
});

test("the pool stays at home when its first work is asked for inside a namespace", async (t) => {
  const [name = ""] = freshNetns(t, "ns");
  const program = `
    import { runIn } from ${JSON.stringify(import.meta.resolve("../../src/netns.ts"))};
    import { readFile } from 'node:fs/promises';
    const net = '/proc/self/net/dev';
    const pending = runIn(process.argv[1], () => { void readFile('/proc/thread-self/net/dev', 'utf8').then((text) => console.log(text.split('\\n').length)); return 1; });
  `;
  const lines = execFileSync(process.execPath, ["--input-type=module", "-e", program, name], { encoding: "utf8" });
  assert.equal(Number(lines), readFileSync("/proc/thread-self/net/dev", "utf8").split("\n").length);
});

test("sysctls are read and written in the namespace only", (t) => {
  const [name = ""] = freshNetns(t, "ns");
  const outside = readSysctl(undefined, "net.ipv4.conf.all.rp_filter");
  writeSysctls(name, { "net.ipv4.ip_forward": 1, "net/ipv4/conf/all/rp_filter": 2 });
  assert.equal(readSysctl(name, "net.ipv4.ip_forward"), "1");
  assert.equal(readSysctl(name, "net.ipv4.conf.all.rp_filter"), "2");
  assert.equal(readSysctl(undefined, "net.ipv4.conf.all.rp_filter"), outside);
  assert.throws(
    () => readSysctl(name, "net.ipv4.conf.nope.rp_filter"),
    (error) => error instanceof KernelError && isNotFound(error) && error.netns === name,
  );
});

test("HTTP is served and asked for inside a namespace, over both families", async (t) => {
  const [name = ""] = freshNetns(t, "ns");
  using rtnl = Rtnl.open(name);
  rtnl.apply({ do: "set-link", name: "lo", up: true });
  for (const address of ["127.0.0.1", "::1"]) {
    const fd = listenTcp({ netns: name, address, port: 0 });
    const port = boundPort(fd);
    const server = http.createServer((request, response) => response.end(`you are ${request.socket.remoteAddress}`));
    server.listen({ fd });
    const request = http.get({
      host: address,
      createConnection: () => connectTcp({ netns: name, address, port, sourceAddress: address }),
    });
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    assert.equal((await response.toArray()).join(""), `you are ${address}`);
    const outside = createConnection({ host: address, port });
    const [error] = await Promise.race([once(outside, "error"), once(outside, "connect").then(() => ["connected"])]);
    assert.equal((error as NodeJS.ErrnoException).code, "ECONNREFUSED", "the same port at home has no listener");
    server.close();
    server.closeAllConnections();
  }
});

test("a refused or impossible connection is an error in its usual form", async (t) => {
  const [name = ""] = freshNetns(t, "ns");
  using rtnl = Rtnl.open(name);
  rtnl.apply({ do: "set-link", name: "lo", up: true });
  const [refused] = await once(connectTcp({ netns: name, address: "127.0.0.1", port: 9 }), "error").catch(
    (error: unknown) => [error],
  );
  assert.equal((refused as NodeJS.ErrnoException).code, "ECONNREFUSED");
  const [unreachable] = await once(connectTcp({ netns: name, address: "10.9.9.9", port: 9 }), "error").catch(
    (error: unknown) => [error],
  );
  assert.equal((unreachable as NodeJS.ErrnoException).code, "ENETUNREACH");
  assert.throws(
    () => connectTcp({ netns: name, address: "127.0.0.1", port: 9, sourceAddress: "10.9.9.9" }),
    /Cannot connect to 127\.0\.0\.1:9\/tcp from 10\.9\.9\.9 \(netns .*\): EADDRNOTAVAIL/,
  );
  assert.throws(() => listenTcp({ netns: name, address: "10.9.9.9", port: 9 }), isNotFound);
  closeFd(listenTcp({ netns: name, address: "10.9.9.9", port: 9, freebind: true }));
  const taken = listenTcp({ netns: name, address: "127.0.0.1", port: 9 });
  assert.throws(() => listenTcp({ netns: name, address: "127.0.0.1", port: 9 }), /EADDRINUSE/);
  closeFd(taken);
});

test("a descriptor crosses a unix socket with its request", async (t) => {
  const [name = ""] = freshNetns(t, "ns");
  const path = `/tmp/${name}.sock`;
  const seen: (number | undefined)[] = [];
  const server = await serveUnixFd({
    path,
    handle: (request, fd) => {
      seen.push(fd);
      return JSON.stringify({ asked: JSON.parse(String(request)), netns: fd === undefined ? null : runIn(fd, here) });
    },
  });
  t.after(() => rmSync(path, { force: true }));
  const fd = openNetns(name);
  assert.deepEqual(JSON.parse(String(await callUnixFd({ path, request: '{"a":1}', fd }))), {
    asked: { a: 1 },
    netns: runIn(name, here),
  });
  assert.deepEqual(JSON.parse(String(await callUnixFd({ path, request: '{"a":2}\n' }))), {
    asked: { a: 2 },
    netns: null,
  });
  const long = { text: "x".repeat(300_000) };
  assert.deepEqual(JSON.parse(String(await callUnixFd({ path, request: JSON.stringify(long), fd }))).asked, long);
  assert.throws(() => readlinkSync(`/proc/self/fd/${seen[0]}`), "the server closed what it was sent");
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) => callUnixFd({ path, request: `{"i":${i}}`, fd })),
  );
  assert.deepEqual(
    answers.map((answer) => JSON.parse(String(answer)).asked.i),
    Array.from({ length: 100 }, (_, i) => i),
  );
  closeFd(fd);
  await server.close();
  await assert.rejects(callUnixFd({ path, request: "{}" }), isNotFound);
});

test("a client that goes away or says nothing holds up nobody", async (t) => {
  const [name = ""] = freshNetns(t, "ns");
  const path = `/tmp/${name}.sock`;
  const errors: unknown[] = [];
  const server = await serveUnixFd({
    path,
    handle: (request) => request,
    requestTimeoutMs: 50,
    onError: (error) => errors.push(error),
  });
  const silent = createConnection(path);
  await once(silent, "connect");
  const gone = createConnection(path);
  await once(gone, "connect");
  gone.destroy();
  assert.equal(String(await callUnixFd({ path, request: "hello\n" })), "hello\n");
  await once(silent, "close");
  assert.match(String(errors[0]), /silent for too long/);
  await server.close();
});

test("flows are listed and deleted by what they are", async (t) => {
  const [name = ""] = freshNetns(t, "ns");
  using rtnl = Rtnl.open(name);
  rtnl.apply({ do: "set-link", name: "lo", up: true });
  using nft = Nft.open(name);
  nft.run("table ip c {\n chain o {\n type filter hook output priority 0;\n ct state new ct mark set 0x80\n }\n}");
  const port = udpEcho(t, name, "127.0.0.1");
  assert.equal(await askUdp(name, "127.0.0.2", "127.0.0.1", port), "127.0.0.2");
  assert.equal(await askUdp(name, "127.0.0.3", "127.0.0.1", port), "127.0.0.3");
  using conntrack = Conntrack.open(name);
  const flows = conntrack.list({ family: 4 }).sort((a, b) => (a.original.src < b.original.src ? -1 : 1));
  assert.deepEqual(
    flows.map(({ proto, mark, original, reply }) => ({
      proto,
      mark,
      from: original.src,
      to: original.dst,
      port: original.dstPort,
      answers: reply.src,
    })),
    ["127.0.0.2", "127.0.0.3"].map((from) => ({
      proto: 17,
      mark: 0x80,
      from,
      to: "127.0.0.1",
      port,
      answers: "127.0.0.1",
    })),
  );
  assert.equal(conntrack.list({ mark: { value: 0x80, mask: 0x80 } }).length, 2);
  assert.equal(conntrack.list({ mark: { value: 0x4000, mask: 0x4000 } }).length, 0);
  assert.equal(
    conntrack.deleteWhere((flow) => flow.original.src === "127.0.0.2"),
    1,
  );
  assert.deepEqual(
    conntrack.list().map((flow) => flow.original.src),
    ["127.0.0.3"],
  );
  const [left] = conntrack.list();
  assert.ok(left);
  assert.equal(conntrack.delete(left), true);
  assert.equal(conntrack.delete(left), false);
});
