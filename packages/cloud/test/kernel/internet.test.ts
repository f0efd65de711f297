/** Ways out of a VPC and back: IGW, NAT gateway, path MTU, the AWS-managed namespace of a control plane. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { clusterNetns, echoAddress, internetNetns, natNetns } from "../../src/fabric/places.ts";
import type { FabricCluster } from "../../src/fabric/seam.ts";
import {
  addInstance,
  addInternet,
  addSubnet,
  addVpc,
  allow,
  connect,
  copy,
  echoServer,
  emptyState,
  eniOf,
  exchange,
  reaches,
  run,
  spawnIn,
  withFabric,
  type State,
} from "./world.ts";

function internetState(clusterId: string): {
  state: State;
  publicInstance: string;
  privateInstance: string;
  bareInstance: string;
} {
  const state = emptyState(clusterId);
  addVpc(state, "vpc-1", "10.7.0.0/16");
  const { publicSubnet, privateSubnet } = addInternet(state, "vpc-1", "10.7.1.0/24", "10.7.2.0/24", "203.0.113.9");
  state.securityGroups.push({
    groupId: "sg-open",
    groupName: "open",
    vpcId: "vpc-1",
    rules: [allow("egress"), allow("ingress", undefined, "tcp", 80)],
  });
  const publicInstance = addInstance(state, "i-public", publicSubnet, {
    host: 20,
    publicAddress: "203.0.113.20",
    groups: ["sg-open"],
  });
  const privateInstance = addInstance(state, "i-private", privateSubnet, { host: 20 });
  const bareInstance = addInstance(state, "i-bare", publicSubnet, { host: 21 });
  return { state, publicInstance, privateInstance, bareInstance };
}

test("an instance with a public address is seen under it and reached by it; one without has no way out", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, publicInstance, bareInstance } = internetState(clusterId);
    await fabric.apply(state, "everything");
    const internet = internetNetns(clusterId);
    const host = await echoServer(internet, echoAddress, 80);
    const inside = await echoServer(publicInstance, "10.7.1.20", 80);
    try {
      assert.equal(await reaches(publicInstance, echoAddress, 80), true);
      assert.deepEqual(host.clients, ["203.0.113.20"]);
      assert.equal(await reaches(internet, "203.0.113.20", 80), true);
      assert.deepEqual(inside.clients, ["192.0.2.100"]);
      assert.equal(await reaches(bareInstance, echoAddress, 80), false);
      assert.equal(await reaches(internet, "203.0.113.20", 81), false, "the group's gate stands behind the IGW");

      const flow = await connect(publicInstance, echoAddress, 80);
      assert.ok(flow);
      assert.equal(await exchange(flow, "one"), "one");
      const released = copy(state);
      released.enis = released.enis.map((eni) =>
        eni.addresses[0]?.publicAddress === "203.0.113.20" ? { ...eni, addresses: [{ address: "10.7.1.20" }] } : eni,
      );
      await fabric.apply(released, { kinds: ["enis"], ids: [] });
      assert.equal(await reaches(publicInstance, echoAddress, 80), false, "the address was taken away");
      assert.equal(await exchange(flow, "two", 600), undefined, "from established flows too");
      flow.destroy();
    } finally {
      await host.close();
      await inside.close();
    }
  });
});

test("an instance reaches another's public address through the IGW, under its own", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, publicInstance } = internetState(clusterId);
    const other = addInstance(state, "i-other", "subnet-vpc-1-1", {
      host: 22,
      publicAddress: "203.0.113.22",
      groups: ["sg-open"],
    });
    await fabric.apply(state, "everything");
    const server = await echoServer(other, "10.7.1.22", 80);
    try {
      assert.equal(await reaches(publicInstance, "203.0.113.22", 80), true);
      assert.deepEqual(server.clients, ["203.0.113.20"]);
    } finally {
      await server.close();
    }
  });
});

test("a private instance leaves through the NAT gateway, whose namespace sees it before and after", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, privateInstance } = internetState(clusterId);
    await fabric.apply(state, "everything");
    const host = await echoServer(internetNetns(clusterId), echoAddress, 80);
    const capture = spawnIn(
      natNetns(clusterId, "nat-vpc-1"),
      "tcpdump",
      "-n",
      "-l",
      "-i",
      "eth0",
      "tcp[tcpflags] & tcp-syn != 0 and tcp[tcpflags] & tcp-ack == 0",
    );
    let seen = "";
    capture.stdout.on("data", (data: Buffer) => (seen += data.toString()));
    await new Promise<void>((resolve) =>
      capture.stderr.on("data", (data: Buffer) => data.includes("listening on") && resolve()),
    );
    try {
      const flow = await connect(privateInstance, echoAddress, 80);
      assert.ok(flow);
      assert.equal(await exchange(flow, "hello"), "hello");
      assert.deepEqual(host.clients, ["203.0.113.9"]);
      const deadline = Date.now() + 5_000;
      while (!(/10\.7\.2\.20\.\d+ > 192/.test(seen) && /10\.7\.1\.9\.\d+ > 192/.test(seen)) && Date.now() < deadline)
        await once(capture.stdout, "data");
      assert.match(seen, /IP 10\.7\.2\.20\.\d+ > 192\.0\.2\.10\.80/, "before");
      assert.match(seen, /IP 10\.7\.1\.9\.\d+ > 192\.0\.2\.10\.80/, "after");
      assert.equal(await reaches(internetNetns(clusterId), "203.0.113.9", 80), false, "nothing comes in by it");
      flow.destroy();
    } finally {
      capture.kill();
      await host.close();
    }
  });
});

test("a deleted NAT gateway leaves a blackhole, and what left it before stops", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, privateInstance } = internetState(clusterId);
    await fabric.apply(state, "everything");
    const host = await echoServer(internetNetns(clusterId), echoAddress, 80);
    try {
      assert.equal(await reaches(privateInstance, echoAddress, 80), true);
      const gone = copy(state);
      gone.natGateways = [];
      gone.enis = gone.enis.filter((eni) => eni.attachment?.kind !== "nat-gateway");
      await fabric.apply(gone, { kinds: ["natGateways", "enis"], ids: [] });
      assert.equal(await reaches(privateInstance, echoAddress, 80), false);
      assert.doesNotMatch(
        run(internetNetns(clusterId), "ip", "netns", "list"),
        new RegExp(natNetns(clusterId, "nat-vpc-1")),
      );
    } finally {
      await host.close();
    }
  });
});

test("what is larger than the internet's 1500 bytes is told so, through NAT as well", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, publicInstance, privateInstance } = internetState(clusterId);
    await fabric.apply(state, "everything");
    const host = await echoServer(internetNetns(clusterId), echoAddress, 80);
    try {
      for (const instance of [publicInstance, privateInstance]) {
        const flow = await connect(instance, echoAddress, 80);
        assert.ok(flow);
        const text = "x".repeat(200_000);
        assert.equal((await exchange(flow, text, 5_000))?.length, text.length);
        flow.destroy();
        // A large datagram teaches the sender the path's MTU.
        run(
          instance,
          "sh",
          "-c",
          `head -c 4000 /dev/zero | socat -u -b 8000 - UDP4:${echoAddress}:9,setsockopt=0:10:i2 || true`,
        );
        assert.match(run(instance, "ip", "route", "get", echoAddress), /mtu 1500/);
      }
    } finally {
      await host.close();
    }
  });
});

test("a control plane is reached by its X-ENIs from the VPC and by its public address from the internet", async () => {
  await withFabric(async (fabric, clusterId) => {
    const { state, privateInstance } = internetState(clusterId);
    const second = addSubnet(state, "vpc-1", "10.7.3.0/24", "rtb-private-vpc-1");
    const xenis = [
      eniOf(state, "subnet-vpc-1-2", { kind: "cluster", clusterName: "demo", deviceIndex: 0 }, { host: 100 }),
    ];
    state.enis.push(...xenis);
    const next = eniOf(state, second, { kind: "cluster", clusterName: "demo", deviceIndex: 1 }, { host: 100 });
    state.enis.push(next);
    const cluster: FabricCluster = {
      name: "demo",
      vpcId: "vpc-1",
      eniIds: [...xenis, next].map((eni) => eni.eniId),
      xeniAddresses: ["10.7.2.100", "10.7.3.100"],
      publicAddress: "198.51.100.33",
      endpointName: "abc.gr7.us-west-2.eks.amazonaws.com",
      endpointPublicAccess: true,
      endpointPrivateAccess: true,
      publicAccessCidrs: ["0.0.0.0/0"],
      serviceCidr: "172.20.0.0/16",
    };
    state.clusters.push(cluster);
    await fabric.apply(state, "everything");
    const managed = clusterNetns(clusterId, "demo");
    const api = await echoServer(managed, "0.0.0.0", 443);
    const kubelet = await echoServer(privateInstance, "10.7.2.20", 10250);
    const endpoints = await echoServer(internetNetns(clusterId), "198.51.100.10", 443);
    try {
      assert.equal(await reaches(privateInstance, "10.7.2.100", 443), true);
      assert.equal(await reaches(privateInstance, "10.7.3.100", 443), true, "each X-ENI answers from its own link");
      assert.equal(await reaches(privateInstance, "198.51.100.33", 443), true, "by the NAT gateway");
      assert.equal(await reaches(internetNetns(clusterId), "198.51.100.33", 443), true);
      assert.deepEqual(api.clients, ["10.7.2.20", "10.7.2.20", "203.0.113.9", "192.0.2.100"]);
      assert.equal(await reaches(managed, "10.7.2.20", 10250), true);
      assert.deepEqual(kubelet.clients, ["10.7.2.100"]);
      assert.equal(await reaches(managed, "198.51.100.10", 443), true);

      const closed = copy(state);
      closed.clusters = [{ ...cluster, publicAccessCidrs: ["203.0.113.0/24"] }];
      await fabric.apply(closed, { kinds: ["clusters"], ids: [] });
      assert.equal(await reaches(internetNetns(clusterId), "198.51.100.33", 443), false, "not in publicAccessCidrs");
      assert.equal(await reaches(privateInstance, "198.51.100.33", 443), true);
    } finally {
      await Promise.all([api.close(), kubelet.close(), endpoints.close()]);
    }
  });
});
