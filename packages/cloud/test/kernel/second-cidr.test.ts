/** A VPC that grows by 100.64.0.0/16 while it runs, as custom networking needs it: delivery, groups, ARP, NAT out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { echoAddress, internetNetns } from "../../src/fabric/places.ts";
import {
  addInstance,
  addInternet,
  addSecondEni,
  addSubnet,
  addVpc,
  copy,
  echoServer,
  emptyState,
  reaches,
  run,
  withFabric,
} from "./world.ts";

test("a second block joins a running VPC: its ENIs talk with the first block's and leave by the NAT gateway", async () => {
  await withFabric(async (fabric, clusterId) => {
    const before = emptyState(clusterId);
    addVpc(before, "vpc-1", "10.7.0.0/16");
    const { privateSubnet } = addInternet(before, "vpc-1", "10.7.1.0/24", "10.7.2.0/24", "203.0.113.9");
    const a = addInstance(before, "i-a", privateSubnet, { host: 10 });
    const b = addInstance(before, "i-b", privateSubnet, { host: 11 });
    await fabric.apply(before, "everything");

    const state = copy(before);
    state.vpcs = state.vpcs.map((vpc) => ({ ...vpc, cidrs: [...vpc.cidrs, "100.64.0.0/16"] }));
    state.routeTables = state.routeTables.map((table) => ({
      ...table,
      routes: [{ cidr: "100.64.0.0/16", target: { kind: "local" } }, ...table.routes],
    }));
    const subnet = addSubnet(state, "vpc-1", "100.64.0.0/19", "rtb-private-vpc-1");
    addSecondEni(state, "i-b", subnet, 1, { host: 10, prefixes: ["100.64.0.32/28"] });
    await fabric.apply(state, { kinds: ["vpcs", "subnets", "enis", "routeTables"], ids: ["vpc-1"] });

    // As ipamd would: the ENI up, its own table, a pod's address from the prefix.
    run(b, "sh", "-c", "ip link set eth1 up; ip addr add 100.64.0.10/19 dev eth1; ip addr add 100.64.0.40/32 dev eth1");
    run(b, "sh", "-c", "ip route add default via 100.64.0.1 dev eth1 table 2; ip rule add from 100.64.0.0/19 table 2");

    const first = await echoServer(a, "10.7.2.10", 80);
    const second = await echoServer(b, "100.64.0.40", 80);
    const outside = await echoServer(internetNetns(clusterId), echoAddress, 80);
    try {
      assert.equal(await reaches(a, "100.64.0.40", 80), true, "10.7 to a pod in 100.64");
      assert.deepEqual(second.clients, ["10.7.2.10"]);
      assert.equal(await reaches(b, "10.7.2.10", 80, { sourceAddress: "100.64.0.40" }), true, "and the other way");
      assert.deepEqual(first.clients, ["100.64.0.40"]);
      assert.equal(await reaches(b, echoAddress, 80, { sourceAddress: "100.64.0.40" }), true, "to the internet");
      assert.deepEqual(outside.clients, ["203.0.113.9"]);
      assert.equal(await reaches(b, "100.64.99.1", 80, { sourceAddress: "100.64.0.40" }), false, "nobody's address");
      assert.match(run(b, "ip", "neigh", "show", "dev", "eth1"), /100\.64\.0\.1 lladdr 02:75:6d:/);
    } finally {
      await Promise.all([first, second, outside].map((server) => server.close()));
    }
  });
});
