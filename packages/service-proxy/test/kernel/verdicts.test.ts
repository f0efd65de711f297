/** The verdict matrix: who may reach what through a service, which source the pod sees, and what happens when nobody serves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Conntrack } from "@underlay/kernel/conntrack";
import { Nft } from "@underlay/kernel/nft";
import { connectTcp, listenTcp } from "@underlay/kernel/sockets";
import { createServer } from "node:net";
import { once } from "node:events";
import { EXTERNAL, NODE, NodeWorld, PLACES, VIP, service, slicesOf } from "./node-world.ts";

const all = slicesOf({ a: {}, b: {}, far: {} });

test("a cluster address spreads over all endpoints and keeps the source", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "b", "far"] as const) world.serveTcp(place);
  world.set(service(), all);
  assert.deepEqual(
    await world.askMany("outside", VIP, 80),
    ["a", "b", "far"].map((place) => `${place} sees ${PLACES.outside}`),
  );
  assert.deepEqual(
    await world.askMany("node", VIP, 80),
    ["a", "b", "far"].map((place) => `${place} sees ${NODE}`),
  );
});

test("a pod that meets itself sees the node, others see the pod", async (t) => {
  const world = new NodeWorld(t);
  world.serveTcp("a");
  world.serveTcp("far");
  world.set(service(), slicesOf({ a: {}, far: {} }));
  const answers = await world.askMany("a", VIP, 80);
  assert.equal(answers.length, 2);
  assert.match(answers[0] ?? "", /^a sees (10\.0\.0\.5|169\.254\.)/);
  assert.equal(answers[1], `far sees ${PLACES.a}`);
});

test("a node port takes any endpoint and masquerades, and answers on the node address only", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "far"] as const) world.serveTcp(place);
  world.set(service(), slicesOf({ a: {}, far: {} }));
  assert.deepEqual(await world.askMany("outside", NODE, 30080), [`a sees ${NODE}`, `far sees ${NODE}`]);
  assert.deepEqual(await world.askMany("node", NODE, 30080), [`a sees ${NODE}`, `far sees ${NODE}`]);
  assert.equal(await world.ask("node", "127.0.0.1", 30080), "ECONNREFUSED");
});

test("nobody serving is refused at once, at every door", async (t) => {
  const world = new NodeWorld(t);
  world.set(service({ externalIPs: [EXTERNAL] }), []);
  for (const from of ["outside", "a", "node"] as const) {
    assert.equal(await world.ask(from, VIP, 80), "ECONNREFUSED", `${from} → VIP`);
    assert.equal(await world.ask(from, NODE, 30080), "ECONNREFUSED", `${from} → node port`);
    assert.equal(await world.ask(from, EXTERNAL, 80), "ECONNREFUSED", `${from} → external address`);
  }
});

test("an unknown port of a service is refused, an unassigned service address is silent", async (t) => {
  const world = new NodeWorld(t);
  world.set(service(), all);
  assert.equal(await world.ask("a", VIP, 81), "ECONNREFUSED");
  assert.equal(await world.ask("a", "172.20.0.99", 80), "silence");
});

test("policy Local keeps the source from outside, and falls back to the cluster from the node", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "far"] as const) world.serveTcp(place);
  world.set(service({ externalTrafficPolicy: "Local", externalIPs: [EXTERNAL] }), slicesOf({ a: {}, far: {} }));
  for (const [address, port] of [
    [NODE, 30080],
    [EXTERNAL, 80],
  ] as const) {
    assert.deepEqual(await world.askMany("outside", address, port), [`a sees ${PLACES.outside}`]);
    assert.deepEqual(await world.askMany("node", address, port), [`a sees ${NODE}`, `far sees ${NODE}`]);
  }
});

test("policy Local without a local endpoint is silent from outside and works from the node", async (t) => {
  const world = new NodeWorld(t);
  world.serveTcp("far");
  world.set(service({ externalTrafficPolicy: "Local", externalIPs: [EXTERNAL] }), slicesOf({ far: {} }));
  assert.equal(await world.ask("outside", NODE, 30080), "silence");
  assert.equal(await world.ask("outside", EXTERNAL, 80), "silence");
  assert.equal(await world.ask("node", NODE, 30080), `far sees ${NODE}`);
  assert.equal(
    await world.ask("outside", VIP, 80),
    `far sees ${PLACES.outside}`,
    "the cluster address is not touched by it",
  );
});

test("internal policy Local uses this node only, and is silent when it has none", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "far"] as const) world.serveTcp(place);
  world.set(service({ internalTrafficPolicy: "Local" }), slicesOf({ a: {}, far: {} }));
  assert.deepEqual(await world.askMany("b", VIP, 80), [`a sees ${PLACES.b}`]);
  world.set(service({ internalTrafficPolicy: "Local" }), slicesOf({ far: {} }));
  assert.equal(await world.ask("b", VIP, 80), "silence");
  assert.equal(await world.ask("b", NODE, 30080), `far sees ${NODE}`);
});

test("an external address of policy Cluster masquerades", async (t) => {
  const world = new NodeWorld(t);
  world.serveTcp("far");
  world.set(service({ externalIPs: [EXTERNAL] }), slicesOf({ far: {} }));
  assert.equal(await world.ask("outside", EXTERNAL, 80), `far sees ${NODE}`);
});

test("with a known pod range, clients from beyond it are masqueraded on the cluster address", async (t) => {
  const world = new NodeWorld(t, ["10.0.1.0/24", "10.0.2.0/24"]);
  world.serveTcp("far");
  world.set(service(), slicesOf({ far: {} }));
  assert.equal(await world.ask("outside", VIP, 80), `far sees ${NODE}`);
  assert.equal(await world.ask("a", VIP, 80), `far sees ${PLACES.a}`);
});

test("a client sticks to its endpoint, over all addresses, over changes and over a restart", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "b", "far"] as const) world.serveTcp(place);
  const sticky = service({ sessionAffinity: "ClientIP", externalIPs: [EXTERNAL] });
  world.set(sticky, all);
  const [first = "", ...more] = await world.askMany("outside", VIP, 80);
  assert.deepEqual(more, []);
  const chosen = first.split(" ")[0] as "a" | "b" | "far";
  assert.deepEqual(await world.askMany("outside", EXTERNAL, 80, 10), [`${chosen} sees ${NODE}`]);
  const [other] = (["a", "b", "far"] as const).filter((place) => place !== chosen);
  world.set(sticky, slicesOf(Object.assign({ a: {}, b: {}, far: {} }, { [other as string]: { ready: false } })));
  assert.deepEqual(await world.askMany("outside", VIP, 80, 10), [first]);
  const next = world.open();
  t.after(() => next.close());
  assert.equal(world.set(sticky, all, next).full, true);
  assert.deepEqual(await world.askMany("outside", VIP, 80, 20), [first]);
  world.set(sticky, slicesOf({ [other as "a"]: {} }), next);
  assert.deepEqual(await world.askMany("outside", VIP, 80, 5), [`${other} sees ${PLACES.outside}`]);
});

test("endpoints that end go on serving only while nobody is ready", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "far"] as const) world.serveTcp(place);
  const leaving = { ready: false, serving: true, terminating: true };
  world.set(service(), slicesOf({ a: leaving, far: {} }));
  assert.deepEqual(await world.askMany("b", VIP, 80), [`far sees ${PLACES.b}`]);
  world.set(service(), slicesOf({ a: leaving, far: { ready: false } }));
  assert.deepEqual(await world.askMany("b", VIP, 80), [`a sees ${PLACES.b}`]);
});

test("endpoints come and go by differences, and every one of them is right", async (t) => {
  const world = new NodeWorld(t);
  for (const place of ["a", "b", "far"] as const) world.serveTcp(place);
  const steps = [["a"], ["a", "b", "far"], ["b", "far"], ["far"], [], ["a", "far"], ["a", "b", "far"], ["b"]] as const;
  for (const [index, places] of steps.entries()) {
    const done = world.set(service(), slicesOf(Object.fromEntries(places.map((place) => [place, {}]))));
    assert.equal(done.full, index === 0, "only the first write is the whole table");
    const expected = places.length === 0 ? ["ECONNREFUSED"] : places.map((place) => `${place} sees ${PLACES.outside}`);
    assert.deepEqual(await world.askMany("outside", VIP, 80), expected);
  }
  using nft = Nft.open(world.netns("node"));
  const before = nft.list("table ip svc");
  assert.equal(world.set(service(), slicesOf({ b: {} })).elements, 0);
  assert.equal(nft.list("table ip svc"), before);
  world.set(undefined);
  assert.doesNotMatch(nft.list("table ip svc"), /172\.20\.0\.10|30080/);
});

test("an open connection and new ones go through while a new process takes over", async (t) => {
  const world = new NodeWorld(t);
  world.serveTcp("far");
  const held = createServer((socket) => socket.pipe(socket));
  held.listen({ fd: listenTcp({ netns: world.netns("a"), address: PLACES.a, port: 8080 }) });
  t.after(() => held.close());
  world.set(service(), slicesOf({ a: {} }));
  const socket = connectTcp({ netns: world.netns("outside"), address: VIP, port: 80 });
  t.after(() => socket.destroy());
  const echo = async (text: string): Promise<string> => {
    socket.write(text);
    return String((await once(socket, "data", { signal: AbortSignal.timeout(1000) }))[0]);
  };
  assert.equal(await echo("one"), "one");
  world.set(service(), slicesOf({ far: {} }));
  let refused = 0;
  let served = 0;
  let isDone = false;
  const asking = (async () => {
    while (!isDone) {
      if ((await world.ask("outside", VIP, 80)) === `far sees ${PLACES.outside}`) served++;
      else refused++;
    }
  })();
  for (let round = 0; round < 20; round++) {
    const next = world.open();
    assert.equal(world.set(service(), slicesOf({ far: {} }), next).full, true);
    next.close();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(await echo(`two${round}`), `two${round}`);
  }
  isDone = true;
  await asking;
  assert.equal(refused, 0);
  assert.ok(served > 0);
});

test("a UDP client moves on when its endpoint goes, and finds the first one that comes", async (t) => {
  const world = new NodeWorld(t);
  world.serveUdp("a");
  world.serveUdp("far");
  const udp = service({ ports: [{ name: "http", port: 53, nodePort: 30053, protocol: "UDP" }] });
  const client = world.udpClient("outside");
  world.set(udp, []);
  // Its flow is now remembered untranslated.
  assert.notEqual(await client.ask(VIP, 53), `a sees ${PLACES.outside}`);
  world.set(udp, slicesOf({ a: {} }, "UDP"));
  assert.equal(await client.ask(VIP, 53), `a sees ${PLACES.outside}`);
  const atPort = world.udpClient("outside");
  assert.equal(await atPort.ask(NODE, 30053), `a sees ${NODE}`);
  world.set(udp, slicesOf({ a: {}, far: {} }, "UDP"));
  assert.equal(await client.ask(VIP, 53), `a sees ${PLACES.outside}`, "a flow stays while its endpoint does");
  world.set(udp, slicesOf({ far: {} }, "UDP"));
  assert.equal(await client.ask(VIP, 53), `far sees ${PLACES.outside}`);
  assert.equal(await atPort.ask(NODE, 30053), `far sees ${NODE}`);
  using conntrack = Conntrack.open(world.netns("node"));
  assert.deepEqual(
    conntrack.list({ family: 4 }).filter((flow) => flow.proto === 17 && flow.reply.src === PLACES.a),
    [],
  );
});

test("source ranges hold for balancer addresses only", async (t) => {
  const world = new NodeWorld(t);
  world.serveTcp("far");
  const balanced = service({ type: "LoadBalancer", loadBalancerSourceRanges: [`${PLACES.a}/32`] });
  balanced.status = {
    loadBalancer: {
      ingress: [
        { ip: EXTERNAL, ipMode: "VIP" },
        { ip: "198.51.100.78", ipMode: "Proxy" },
      ],
    },
  } as NonNullable<typeof balanced.status>;
  world.set(balanced, slicesOf({ far: {} }));
  assert.equal(await world.ask("a", EXTERNAL, 80), `far sees ${NODE}`);
  assert.equal(await world.ask("outside", EXTERNAL, 80), "silence");
  assert.equal(await world.ask("outside", NODE, 30080), `far sees ${NODE}`);
  using nft = Nft.open(world.netns("node"));
  assert.doesNotMatch(nft.list("table ip svc"), /198\.51\.100\.78/);
});
