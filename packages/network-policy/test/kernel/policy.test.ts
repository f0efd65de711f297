/** The policy table with real packets: what a pod may, on its node, from afar, through a Service; cut, restarted, closed. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { test } from "node:test";
import { readNflog } from "@underlay/kernel/nflog";
import { readFlowEvent, type FlowEvent } from "../../src/agent/flow-log.ts";
import { endpoint, NODE, PLACES, PolicyWorld, VIP, type Place } from "./policy-world.ts";

const tcp8080 = [{ protocol: "TCP", port: 8080 }];
const everywhere = [{ cidr: "0.0.0.0/0" }, { cidr: "::/0" }];

async function ping(world: PolicyWorld, from: Place | "node", to: string): Promise<boolean> {
  try {
    await promisify(execFile)("ip", ["netns", "exec", world.netns(from), "ping", "-c1", "-W1", to]);
    return true;
  } catch {
    return false;
  }
}

test("a pod without policies is open, one that a policy without rules selects is silent in that direction only", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("a");
  world.serveTcp("b");
  world.serveUdp("b");
  world.enforce([]);
  assert.equal(await world.ask("a", PLACES.b), "b sees 10.0.1.10;");
  assert.equal(await world.askUdp("a", PLACES.b), "b sees 10.0.1.10");

  world.enforce([endpoint("deny", { podIsolation: ["Ingress"] }, ["b"])]);
  assert.equal(await world.ask("a", PLACES.b), "silence");
  assert.equal(await world.ask("far", PLACES.b), "silence");
  assert.equal(await world.askUdp("far", PLACES.b), "silence");
  assert.equal(await ping(world, "a", PLACES.b), false);
  assert.equal(await world.ask("b", PLACES.a), "a sees 10.0.1.11;", "its own connections go out and are answered");
  assert.equal(await world.ask("node", PLACES.b), `b sees ${NODE};`, "the node's probes pass");
  assert.equal(await ping(world, "node", PLACES.b), true);

  world.enforce([]);
  assert.equal(await world.ask("far", PLACES.b), "b sees 10.0.2.20;", "open again without the policy");
});

test("rules admit by address, hole, protocol and port; policies add up", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("b");
  world.serveUdp("b");
  const reach = async (): Promise<string[]> => {
    const asked: [string, Promise<string>][] = (["a", "far", "outside"] as const).flatMap((from) => [
      [`${from} tcp`, world.ask(from, PLACES.b)],
      [`${from} udp`, world.askUdp(from, PLACES.b)],
    ]);
    const answers = await Promise.all(
      asked.map(async ([name, answer]) => ((await answer) === "silence" ? [] : [name])),
    );
    return answers.flat();
  };
  const one = endpoint("one", { podIsolation: ["Ingress"], ingress: [{ cidr: PLACES.a, ports: tcp8080 }] }, ["b"]);
  world.enforce([one]);
  assert.deepEqual(await reach(), ["a tcp"]);
  const two = endpoint(
    "two",
    {
      podIsolation: ["Ingress"],
      ingress: [{ cidr: "10.0.0.0/8", except: ["10.0.1.0/24"], ports: [{ protocol: "UDP" }] }],
    },
    ["b"],
  );
  world.enforce([one, two]);
  assert.deepEqual(await reach(), ["a tcp", "far udp"]);
  world.enforce([one, two, endpoint("three", { podIsolation: ["Ingress"], ingress: everywhere }, ["b"])]);
  assert.equal((await reach()).length, 6);
  world.enforce([two]);
  assert.deepEqual(await reach(), ["far udp"]);
  const overlapping = {
    ...two,
    metadata: { ...two.metadata, resourceVersion: "9999" },
    spec: {
      ...two.spec,
      ingress: [
        { cidr: "10.0.2.0/24", ports: [{ protocol: "TCP", port: 8000, endPort: 8100 }] },
        { cidr: "10.0.2.20", ports: [{ protocol: "UDP", port: 8080 }] },
      ],
    },
  };
  world.enforce([overlapping]);
  assert.deepEqual(await reach(), ["far tcp", "far udp"], "elements that overlap the old ones replace them");
});

test("a Service is judged by its backend, and a pod reaches itself through it", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("b");
  world.serveUdp("b");
  world.enforce([]);
  assert.equal(await world.ask("a", VIP, 80), "b sees 10.0.1.10;");
  const allow = (cidr: string, port: number) =>
    endpoint("out", { podIsolation: ["Egress"], egress: [{ cidr, ports: [{ protocol: "TCP", port }] }] }, ["a"]);
  world.enforce([allow(PLACES.b, 8080)]);
  assert.equal(await world.ask("a", VIP, 80), "b sees 10.0.1.10;", "the backend's address and port are allowed");
  assert.equal(await world.askUdp("a", VIP, 80), "silence");
  world.enforce([allow(PLACES.far, 8080)]);
  assert.equal(await world.ask("a", VIP, 80), "silence");
  world.enforce([endpoint("closed", { podIsolation: ["Ingress", "Egress"] }, ["b"])]);
  assert.equal(await world.ask("a", VIP, 80), "silence");
  assert.match(await world.ask("b", VIP, 80), /^b sees/, "hairpin");
});

test("an established connection is cut by a change that denies it, and only that one", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("b");
  world.serveTcp("far");
  world.enforce([]);
  const fromA = await world.connect("a", PLACES.b);
  const throughService = await world.connect("a", VIP, 80);
  const fromFar = await world.connect("far", PLACES.b);
  const out = await world.connect("b", PLACES.far);
  for (const one of [fromA, throughService, fromFar, out]) assert.equal(await one.say("ping"), true);
  const done = world.enforce([
    endpoint("far-only", { podIsolation: ["Ingress"], ingress: [{ cidr: PLACES.far }] }, ["b"]),
  ]);
  assert.ok(done.cutFlows >= 2);
  assert.equal(await fromA.say("more"), false);
  assert.equal(await throughService.say("more"), false);
  assert.equal(await fromFar.say("more"), true, "what is still allowed goes on");
  assert.equal(await out.say("more"), true, "and so does what the pod opened itself");
});

test("the server's next segment does not bring a cut connection back from the other side", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("far");
  world.enforce([]);
  const out = await world.connect("a", PLACES.far);
  assert.equal(await out.say("ping"), true);
  world.enforce([endpoint("no-egress", { podIsolation: ["Egress"] }, ["a"])]);
  assert.equal(await out.say("again"), false);
  assert.equal(await out.say("and again"), false);
});

test("an agent that dies leaves everything in force, and its successor cuts and opens nothing", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("b");
  const policy = endpoint("far-only", { podIsolation: ["Ingress"], ingress: [{ cidr: PLACES.far }] }, ["b"]);
  world.enforce([policy]);
  const fromFar = await world.connect("far", PLACES.b);
  world.restartAgent();
  assert.equal(await world.ask("a", PLACES.b), "silence");
  assert.equal(await fromFar.say("ping"), true);
  const done = world.enforce([policy]);
  assert.deepEqual({ whole: done.whole, cutFlows: done.cutFlows }, { whole: true, cutFlows: 0 });
  assert.equal(await fromFar.say("ping"), true);
  assert.equal(await world.ask("a", PLACES.b), "silence");
  assert.equal(world.enforce([policy]).unchanged, true, "the same again writes nothing");
});

test("strict closes a pod that no policy selects, and its node still reaches it", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("a");
  world.serveTcp("b");
  world.enforce([], "strict");
  assert.equal(await world.ask("far", PLACES.b), "silence");
  assert.equal(await world.ask("b", PLACES.far), "silence");
  assert.equal(await world.ask("node", PLACES.b), `b sees ${NODE};`);
  world.enforce([endpoint("in", { podIsolation: ["Ingress"], ingress: everywhere }, ["b"])], "strict");
  assert.equal(await world.ask("far", PLACES.b), "b sees 10.0.2.20;");
  assert.equal(await world.ask("far", PLACES.a), "silence");
  world.enforce([], "none");
  assert.equal(await world.ask("far", PLACES.a), "a sees 10.0.2.20;");
});

test("a pod the controller has not listed yet is isolated by its labels", async (t) => {
  const world = new PolicyWorld(t);
  world.serveTcp("b");
  const policy = endpoint("web", {
    podSelector: { matchLabels: { app: "web" } },
    podIsolation: ["Ingress"],
    ingress: [{ cidr: PLACES.far }],
  });
  world.enforce([policy], "standard", world.pods({ b: { app: "web" } }));
  assert.equal(await world.ask("a", PLACES.b), "silence");
  assert.equal(await world.ask("far", PLACES.b), "b sees 10.0.2.20;");
});

test("decisions about first packets are told: accepted, denied, by direction", async (t) => {
  const world = new PolicyWorld(t, { logGroup: 11, logAccepted: true });
  world.serveTcp("b");
  const seen: FlowEvent[] = [];
  const reader = readNflog({
    netns: world.netns("node"),
    group: 11,
    onPacket: (packet) => seen.push(...[readFlowEvent(packet)].filter((one) => one !== undefined)),
  });
  t.after(() => reader.close());
  world.enforce([
    endpoint("far-only", { podIsolation: ["Ingress"], ingress: [{ cidr: PLACES.far, ports: tcp8080 }] }, ["b"]),
  ]);
  await world.ask("far", PLACES.b);
  await world.ask("a", VIP, 80);
  const deadline = Date.now() + 3000;
  while (new Set(seen.map((one) => one.verdict)).size < 2 && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 10));
  const told = seen.map(
    ({ verdict, direction, source, destination, destinationPort, protocol }) =>
      `${verdict} ${direction} ${protocol} ${source} ${destination}:${destinationPort}`,
  );
  assert.deepEqual([...new Set(told)].sort(), [
    "ACCEPT ingress TCP 10.0.2.20 10.0.1.11:8080",
    "DENY ingress TCP 10.0.1.10 10.0.1.11:8080",
  ]);
});
