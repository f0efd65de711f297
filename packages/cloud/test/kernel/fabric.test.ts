/** One VPC's inside: delivery, ARP, source check, groups. Real packets between real namespaces. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Conntrack } from "@underlay/kernel/conntrack";
import { routerNetns } from "../../src/fabric/places.ts";
import {
  addInstance,
  addSecondEni,
  addSubnet,
  addVpc,
  allow,
  connect,
  copy,
  echoServer,
  emptyState,
  exchange,
  reaches,
  run,
  withFabric,
  type State,
} from "./world.ts";

function twoSubnets(clusterId: string): { state: State; a: string; b: string; c: string } {
  const state = emptyState(clusterId);
  addVpc(state, "vpc-1", "10.7.0.0/16");
  const one = addSubnet(state, "vpc-1", "10.7.1.0/24");
  const two = addSubnet(state, "vpc-1", "10.7.2.0/24");
  const a = addInstance(state, "i-a", one, { host: 10 });
  const b = addInstance(state, "i-b", one, { host: 11, secondary: [21], prefixes: ["10.7.1.32/28"] });
  const c = addInstance(state, "i-c", two, { host: 10 });
  return { state, a, b, c };
}

test("instances of one group reach each other in a subnet and across subnets, without a common link", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b, c } = twoSubnets(clusterId);
    await fabric.apply(state, "everything");
    await using same = await listening(b, "10.7.1.11");
    await using other = await listening(c, "10.7.2.10");
    assert.equal(await reaches(a, "10.7.1.11", 80), true);
    assert.equal(await reaches(a, "10.7.2.10", 80), true);
    assert.deepEqual(same.clients, ["10.7.1.10"]);
    assert.deepEqual(other.clients, ["10.7.1.10"]);

    // The neighbour's MAC is the router's, whoever is asked for, the gateway included.
    const neighbours = run(a, "ip", "neigh");
    assert.match(neighbours, /10\.7\.1\.11 dev eth0 lladdr 02:75:6d:00:00:01/);
    assert.match(neighbours, /10\.7\.1\.1 dev eth0 lladdr 02:75:6d:00:00:01/);
    assert.match(run(a, "ip", "-o", "addr", "show", "eth0"), /inet 10\.7\.1\.10\/24 /);
    assert.match(run(a, "ip", "route"), /^default via 10\.7\.1\.1 dev eth0 \n/);
    assert.match(run(a, "ip", "link", "show", "eth0"), /mtu 9001/);
  });
});

test("ICMP echo is answered by instances where groups allow it, and never by the subnet's router", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a } = twoSubnets(clusterId);
    await fabric.apply(state, "everything");
    // An echo request by hand: type 8, code 0, checksum. What comes back begins with type 0.
    const ping = (address: string): string =>
      run(
        a,
        "sh",
        "-c",
        `printf '\\010\\000\\367\\375\\000\\001\\000\\001' | socat -t 0.5 - IP4-SENDTO:${address}:1 | od -An -tx1`,
      ).trim();
    assert.match(ping("10.7.1.11"), /^00 00/);
    assert.match(ping("10.7.2.10"), /^00 00/);
    assert.equal(ping("10.7.1.1"), "");
  });
});

test("an address nobody owns is answered for by ARP, and its packets vanish", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a } = twoSubnets(clusterId);
    await fabric.apply(state, "everything");
    assert.equal(await reaches(a, "10.7.1.99", 80), false);
    assert.match(run(a, "ip", "neigh", "show", "10.7.1.99"), /lladdr 02:75:6d:00:00:01/);
  });
});

test("secondary addresses and every address of a /28 are delivered to their ENI", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = twoSubnets(clusterId);
    await fabric.apply(state, "everything");
    for (const address of ["10.7.1.21", "10.7.1.40"]) {
      run(b, "ip", "addr", "add", `${address}/32`, "dev", "eth0");
      await using server = await listening(b, address);
      assert.equal(await reaches(a, address, 80), true, address);
      assert.equal(server.clients.length, 1);
    }
    // And they are owned as sources: the self reference of the group knows them.
    await using server = await listening(a, "10.7.1.10");
    assert.equal(await reaches(b, "10.7.1.10", 80, { sourceAddress: "10.7.1.21" }), true);
    assert.equal(await reaches(b, "10.7.1.10", 80, { sourceAddress: "10.7.1.40" }), true);
    assert.deepEqual(server.clients, ["10.7.1.21", "10.7.1.40"]);

    const less = copy(state);
    less.enis = less.enis.map((eni) =>
      eni.eniId === "eni-2" ? { ...eni, addresses: eni.addresses.slice(0, 1), prefixes: [] } : eni,
    );
    await fabric.apply(less, { kinds: ["enis"], ids: ["eni-2"] });
    assert.equal(await reaches(b, "10.7.1.10", 80, { sourceAddress: "10.7.1.21" }), false);
    assert.equal(await reaches(b, "10.7.1.10", 80, { sourceAddress: "10.7.1.40" }), false);
    assert.equal(await reaches(b, "10.7.1.10", 80), true);
  });
});

test("a source the ENI does not own is dropped unless its source/destination check is off", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = twoSubnets(clusterId);
    state.securityGroups = state.securityGroups.map((group) => ({
      ...group,
      rules: [...group.rules, allow("ingress")],
    }));
    await fabric.apply(state, "everything");
    run(a, "ip", "addr", "add", "10.99.0.1/32", "dev", "lo");
    run(b, "ip", "route", "add", "10.99.0.1/32", "via", "10.7.1.1");
    const router = routerNetns(clusterId, "vpc-1");
    const heard = (): number =>
      Number(/packets (\d+)/.exec(run(router, "nft", "list", "counter", "ip", "watch", "seen"))![1]);
    run(
      router,
      "nft",
      "add table ip watch; add counter ip watch seen; add chain ip watch c { type filter hook postrouting priority 300; }; add rule ip watch c ip saddr 10.99.0.1 counter name seen",
    );
    assert.equal(await reaches(a, "10.7.1.11", 80, { sourceAddress: "10.99.0.1" }), false);
    assert.equal(heard(), 0);
    const open = copy(state);
    open.enis = open.enis.map((eni) => (eni.eniId === "eni-1" ? { ...eni, sourceDestCheck: false } : eni));
    await fabric.apply(open, { kinds: ["enis"], ids: ["eni-1"] });
    await reaches(a, "10.7.1.11", 80, { sourceAddress: "10.99.0.1" });
    assert.notEqual(heard(), 0);
  });
});

test("a rule's revocation spares established flows and stops new ones; both gates must allow", async () => {
  await withFabric(async (fabric, clusterId) => {
    const state = emptyState(clusterId);
    addVpc(state, "vpc-1", "10.7.0.0/16");
    const subnet = addSubnet(state, "vpc-1", "10.7.1.0/24");
    const group = (groupId: string, ...rules: ReturnType<typeof allow>[]) => ({
      groupId,
      groupName: groupId,
      vpcId: "vpc-1",
      rules,
    });
    state.securityGroups.push(
      group("sg-client", allow("egress")),
      group("sg-server", allow("ingress", { groupId: "sg-client" }, "tcp", 80)),
    );
    const a = addInstance(state, "i-a", subnet, { host: 10, groups: ["sg-client"] });
    const b = addInstance(state, "i-b", subnet, { host: 11, groups: ["sg-server"] });
    await fabric.apply(state, "everything");
    await using _server = await listening(b, "10.7.1.11");
    await using _other = await listening(b, "10.7.1.11", 81);
    const flow = await connect(a, "10.7.1.11", 80);
    assert.ok(flow, "port 80 is allowed");
    assert.equal(await reaches(a, "10.7.1.11", 81), false, "port 81 is not");
    assert.equal(await exchange(flow, "one"), "one");

    const revoked = copy(state);
    revoked.securityGroups = revoked.securityGroups.map((one) =>
      one.groupId === "sg-server" ? { ...one, rules: [] } : one,
    );
    await fabric.apply(revoked, { kinds: ["securityGroups"], ids: ["sg-server"] });
    assert.equal(await exchange(flow, "two"), "two", "the established flow goes on");
    assert.equal(await reaches(a, "10.7.1.11", 80), false, "a new one does not start");

    await fabric.apply(state, { kinds: ["securityGroups"], ids: ["sg-server"] });
    assert.equal(await reaches(a, "10.7.1.11", 80), true, "allowed again");

    const silent = copy(state);
    silent.securityGroups = silent.securityGroups.map((one) =>
      one.groupId === "sg-client" ? { ...one, rules: [allow("egress", undefined, "tcp", 443)] } : one,
    );
    await fabric.apply(silent, { kinds: ["securityGroups"], ids: ["sg-client"] });
    assert.equal(await reaches(a, "10.7.1.11", 80), false, "the sender's gate counts too");
    flow.destroy();
  });
});

test("a rule follows its prefix list, and one that names a group nobody knows matches nobody", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = twoSubnets(clusterId);
    const rules = [
      allow("egress"),
      allow("ingress", { prefixListId: "pl-1" }),
      allow("ingress", { groupId: "sg-gone" }),
    ];
    state.securityGroups = state.securityGroups.map((group) => ({ ...group, rules }));
    state.prefixLists.push({
      prefixListId: "pl-1",
      name: "clients",
      cidrs: ["10.7.1.8/29", "10.7.1.0/28", "192.0.2.0/24"],
    });
    await fabric.apply(state, "everything");
    await using _server = await listening(b, "10.7.1.11");
    assert.equal(await reaches(a, "10.7.1.11", 80), true);
    await fabric.audit();
    assert.equal(await reaches(a, "10.7.1.11", 80), true);
    const less = copy(state);
    less.prefixLists = [{ prefixListId: "pl-1", name: "clients", cidrs: ["192.0.2.0/24"] }];
    await fabric.apply(less, { kinds: ["prefixLists"], ids: ["pl-1"] });
    assert.equal(await reaches(a, "10.7.1.11", 80), false);
    run(routerNetns(clusterId, "vpc-1"), "nft", "add", "element", "ip", "fabric", "pl_1", "{ 10.7.1.0/24 }");
    assert.equal(await reaches(a, "10.7.1.11", 80), true, "somebody opened it by hand");
    await fabric.audit();
    assert.equal(await reaches(a, "10.7.1.11", 80), false, "and the drift check closed it");
  });
});

test("applies that overlap end in the newest state", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, c } = twoSubnets(clusterId);
    const states = Array.from({ length: 30 }, (_, index) => {
      const next = copy(state);
      if (index % 2 === 0) next.instances = next.instances.filter(({ instanceId }) => instanceId !== "i-c");
      if (index % 3 === 0) addSecondEni(next, "i-a", "subnet-vpc-1-1", 1, { host: 50 });
      return next;
    });
    await Promise.all([...states, state].map((next) => fabric.apply(next, { kinds: ["enis", "instances"], ids: [] })));
    await using _server = await listening(c, "10.7.2.10");
    assert.equal(await reaches(a, "10.7.2.10", 80), true);
    assert.doesNotMatch(run(a, "ip", "-o", "link"), /eth1/);
  });
});

test("flows that everyone-everywhere rules let through are not tracked: they end with the rule, unless another allows them", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = twoSubnets(clusterId);
    const withRules = (...rules: ReturnType<typeof allow>[]): State => {
      const next = copy(state);
      next.securityGroups = next.securityGroups.map((group) => ({ ...group, rules: [allow("egress"), ...rules] }));
      return next;
    };
    await fabric.apply(withRules(allow("ingress")), "everything");
    await using _one = await listening(b, "10.7.1.11", 80);
    await using _two = await listening(b, "10.7.1.11", 81);
    const [kept, ended] = [await connect(a, "10.7.1.11", 80), await connect(a, "10.7.1.11", 81)];
    assert.ok(kept && ended);
    await fabric.apply(withRules(allow("ingress", undefined, "tcp", 80)), { kinds: ["securityGroups"], ids: [] });
    assert.equal(await exchange(kept, "one"), "one");
    assert.equal(await exchange(ended, "two", 700), undefined);
    kept.destroy();
    ended.destroy();
  });
});

test("membership of a group follows the ENIs that carry it", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = twoSubnets(clusterId);
    state.securityGroups.push({ groupId: "sg-alone", groupName: "alone", vpcId: "vpc-1", rules: [allow("egress")] });
    state.enis = state.enis.map((eni) => (eni.eniId === "eni-1" ? { ...eni, securityGroupIds: ["sg-alone"] } : eni));
    await fabric.apply(state, "everything");
    await using _server = await listening(b, "10.7.1.11");
    assert.equal(await reaches(a, "10.7.1.11", 80), false);
    const joined = copy(state);
    joined.enis = joined.enis.map((eni) =>
      eni.eniId === "eni-1" ? { ...eni, securityGroupIds: ["sg-alone", "sg-vpc-1"] } : eni,
    );
    await fabric.apply(joined, { kinds: ["enis"], ids: ["eni-1"] });
    assert.equal(await reaches(a, "10.7.1.11", 80), true);
    await fabric.apply(state, { kinds: ["enis"], ids: ["eni-1"] });
    assert.equal(await reaches(a, "10.7.1.11", 80), false);
  });
});

test("a further ENI appears down and unconfigured under its device index, and leaves when detached", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, c } = twoSubnets(clusterId);
    await fabric.apply(state, "everything");
    const more = copy(state);
    const eni = addSecondEni(more, "i-a", "subnet-vpc-1-1", 1, { host: 50 });
    await fabric.apply(more, { kinds: ["enis"], ids: [eni.eniId] });
    const link = run(a, "ip", "-o", "link", "show", "eth1");
    assert.match(link, new RegExp(`mtu 9001 .*state DOWN.*${eni.mac}`));
    assert.equal(run(a, "ip", "-o", "-4", "addr", "show", "eth1"), "");

    // Configured as ipamd would: source routing for its own address.
    run(a, "ip", "link", "set", "eth1", "up");
    run(a, "ip", "addr", "add", "10.7.1.50/24", "dev", "eth1", "noprefixroute");
    run(a, "ip", "route", "add", "10.7.1.1", "dev", "eth1", "scope", "link", "table", "2");
    run(a, "ip", "route", "add", "default", "via", "10.7.1.1", "dev", "eth1", "table", "2");
    run(a, "ip", "rule", "add", "from", "10.7.1.50", "table", "2");
    await using server = await listening(c, "10.7.2.10");
    assert.equal(await reaches(a, "10.7.2.10", 80, { sourceAddress: "10.7.1.50" }), true);
    assert.deepEqual(server.clients, ["10.7.1.50"]);

    await fabric.apply(state, { kinds: ["enis"], ids: [eni.eniId] });
    assert.doesNotMatch(run(a, "ip", "-o", "link"), /eth1/);
    assert.equal(await reaches(a, "10.7.2.10", 80), true);
  });
});

test("the next owner of an address does not inherit its flows", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, a, b } = twoSubnets(clusterId);
    await fabric.apply(state, "everything");
    run(b, "ip", "addr", "add", "10.7.1.21/32", "dev", "eth0");
    await using _server = await listening(b, "10.7.1.21");
    const flow = await connect(a, "10.7.1.21", 80);
    assert.ok(flow);
    const conntrack = Conntrack.open(routerNetns(clusterId, "vpc-1"));
    const count = (): number =>
      conntrack.list({ family: 4 }).filter(({ original }) => original.dst === "10.7.1.21").length;
    assert.equal(count(), 1);
    const moved = copy(state);
    moved.enis = moved.enis.map((eni) =>
      eni.eniId === "eni-2"
        ? { ...eni, addresses: eni.addresses.slice(0, 1) }
        : eni.eniId === "eni-1"
          ? { ...eni, addresses: [...eni.addresses, { address: "10.7.1.21" }] }
          : eni,
    );
    await fabric.apply(moved, { kinds: ["enis"], ids: [] });
    assert.equal(count(), 0);
    assert.match(run(routerNetns(clusterId, "vpc-1"), "ip", "route", "get", "10.7.1.21"), /dev eni1/);
    conntrack.close();
    flow.destroy();
  });
});

test("two VPCs with the same addresses do not see each other", async () => {
  await withFabric(async (fabric, clusterId) => {
    const state = emptyState(clusterId);
    addVpc(state, "vpc-1", "10.7.0.0/16");
    addVpc(state, "vpc-2", "10.7.0.0/16");
    const one = addSubnet(state, "vpc-1", "10.7.1.0/24");
    const two = addSubnet(state, "vpc-2", "10.7.1.0/24");
    const a1 = addInstance(state, "i-a1", one, { host: 10 });
    const b1 = addInstance(state, "i-b1", one, { host: 11 });
    const a2 = addInstance(state, "i-a2", two, { host: 10 });
    addInstance(state, "i-b2", two, { host: 11 });
    await fabric.apply(state, "everything");
    await using server = await listening(b1, "10.7.1.11");
    assert.equal(await reaches(a1, "10.7.1.11", 80), true);
    assert.equal(await reaches(a2, "10.7.1.11", 80, { timeoutMs: 400 }), false);
    assert.equal(server.clients.length, 1);
  });
});

async function listening(
  netns: string,
  address: string,
  port = 80,
): Promise<{ clients: string[]; [Symbol.asyncDispose](): Promise<void> }> {
  const server = await echoServer(netns, address, port);
  return { clients: server.clients, [Symbol.asyncDispose]: () => server.close() };
}
