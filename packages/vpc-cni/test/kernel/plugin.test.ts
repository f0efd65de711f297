/** The installed plugin executable against real namespaces: verbs, versions, chaining, repeats and crashes. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { deleteNetns, netnsPath } from "@underlay/kernel/netns";
import { connectTcp, listenTcp } from "@underlay/kernel/sockets";
import { hostVethName } from "../../src/names.ts";
import { BareNode } from "./bare-node.ts";

/** Connects from one pod to another; the address the other sees. */
async function seenClient(from: string, to: string, address: string): Promise<string | undefined> {
  const server = createServer((socket) => socket.end(socket.remoteAddress ?? ""));
  server.listen({ fd: listenTcp({ netns: to, address, port: 8080 }) });
  try {
    const socket = connectTcp({ netns: from, address, port: 8080 });
    socket.setTimeout(5_000, () => socket.destroy(new Error(`no answer from ${address}`)));
    let text = "";
    socket.on("data", (part) => (text += String(part)));
    await once(socket, "end");
    return text;
  } finally {
    server.close();
  }
}

let node: BareNode;
before(async () => {
  node = await BareNode.start({ perEni: 6 });
});
after(() => node.close());

const versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

test("VERSION lists every version", async () => {
  const { code, json } = await node.call("VERSION", "x", "");
  assert.equal(code, 0);
  assert.deepEqual(json["supportedVersions"], ["0.1.0", "0.2.0", ...versions]);
});

for (const version of versions) {
  test(`ADD, CHECK, DEL by spec ${version}`, async () => {
    const pod = node.newPod();
    const added = await node.call("ADD", pod, node.config(version));
    assert.equal(added.code, 0, added.text);
    assert.equal(added.json["cniVersion"], version);
    const address = (added.json["ips"] as { address: string }[])[0]?.address;
    assert.match(
      node.run(pod, "ip", "-o", "-4", "addr", "show", "eth0"),
      new RegExp(`inet ${address?.replace("/", "\\/")}`),
    );
    if (version >= "0.4.0") {
      const checked = await node.call("CHECK", pod, node.config(version, { prevResult: added.json }));
      assert.equal(checked.code, 0, checked.text);
      node.run(pod, "ip", "link", "set", "eth0", "down");
      assert.equal(
        (await node.call("CHECK", pod, node.config(version))).code,
        1,
        "CHECK sees that the pod lost its routes",
      );
    }
    const deleted = await node.call("DEL", pod, node.config(version, { prevResult: added.json }));
    assert.deepEqual([deleted.code, deleted.text.trim()], [0, ""]);
    assert.doesNotMatch(
      node.run(node.node, "ip", "rule"),
      new RegExp(String(address).split("/")[0]!.replaceAll(".", "\\.")),
    );
  });
}

test("a pod's wire is the fact sheet's, on both sides", async () => {
  const pod = node.newPod();
  const { json } = await node.call("ADD", pod);
  const address = (json["ips"] as { address: string }[])[0]!.address.split("/")[0]!;
  const veth = hostVethName("eni", "shop", pod);
  const hostMac = /link\/ether (\S+)/.exec(node.run(node.node, "ip", "link", "show", veth))?.[1];
  assert.equal(node.run(pod, "ip", "route"), "default via 169.254.1.1 dev eth0\n169.254.1.1 dev eth0 scope link");
  assert.equal(node.run(pod, "ip", "neigh"), `169.254.1.1 dev eth0 lladdr ${hostMac} PERMANENT`);
  assert.match(
    node.run(pod, "ip", "-o", "-4", "addr", "show", "dev", "eth0"),
    new RegExp(`inet ${address}/32 scope global eth0`),
  );
  assert.match(node.run(pod, "ip", "link", "show", "eth0"), /mtu 9001 .*state UP/);
  assert.equal(node.run(node.node, "ip", "route", "show", `${address}/32`), `${address} dev ${veth} scope link`);
  assert.match(node.run(node.node, "ip", "rule"), new RegExp(`^512:\\tfrom all to ${address} lookup main$`, "m"));
  assert.deepEqual(
    ["accept_ra", "accept_redirects", "forwarding"].map((key) =>
      node.run(node.node, "cat", `/proc/sys/net/ipv6/conf/${veth}/${key}`),
    ),
    ["0", "1", "0"],
  );
  await node.call("DEL", pod);
});

test("the oldest ENI's addresses go first, and pods of the second leave by table 2", async () => {
  await node.stopIpamd();
  await node.startIpamd({ perEni: 6 });
  const pods = [];
  for (let i = 0; i < 12; i++) {
    const pod = node.newPod();
    const { json } = await node.call("ADD", pod);
    pods.push({ pod, address: (json["ips"] as { address: string }[])[0]!.address.split("/")[0]!, json });
  }
  try {
    const second = pods.filter(({ address }) => address.startsWith("10.42.0.4"));
    assert.deepEqual([pods.length, second.length], [12, 6]);
    assert.ok(
      pods.findIndex((one) => one === second[0]) > pods.findLastIndex((one) => one.address.startsWith("10.42.0.2")),
      "primary first",
    );
    const rules = node.run(node.node, "ip", "rule");
    for (const { address } of second) assert.match(rules, new RegExp(`^1536:\\tfrom ${address} lookup 2$`, "m"));
    assert.match(rules, /^1024:\tfrom all fwmark 0x80\/0x80 lookup main$/m);
    assert.match(rules, /^32765:\tfrom 10\.42\.0\.11 lookup 2$/m);
    assert.equal(
      node.run(node.node, "ip", "route", "show", "table", "2"),
      "default via 10.42.0.1 dev eth1\n10.42.0.1 dev eth1 scope link",
    );
    assert.equal(
      node.run(node.node, "ip", "route", "show", "10.42.0.0/24"),
      "10.42.0.0/24 dev eth0 proto kernel scope link src 10.42.0.10",
    );
    const interfaces = second[0]!.json["interfaces"] as { mac?: string; sandbox?: string }[];
    assert.deepEqual([interfaces[1]?.mac, interfaces[2]?.mac, interfaces[2]?.sandbox], ["2", "0", "1"]);
    const full = node.newPod();
    const refused = await node.call("ADD", full);
    assert.deepEqual(
      [refused.code, refused.json["code"], refused.json["details"]],
      [1, 11, "10 addresses, all assigned"],
    );
    // Two pods of the node reach each other, unmasked, over the host.
    assert.equal(await seenClient(pods[0]!.pod, second[0]!.pod, second[0]!.address), pods[0]!.address);
  } finally {
    for (const { pod } of pods) assert.equal((await node.call("DEL", pod)).code, 0);
  }
});

test("ADD twice gives the same answer and leaves the wire alone; DEL twice and DEL of a stranger succeed", async () => {
  await node.stopIpamd();
  await node.startIpamd({ perEni: 6 });
  const pod = node.newPod();
  const first = await node.call("ADD", pod);
  const link = node.run(node.node, "ip", "-o", "link", "show", hostVethName("eni", "shop", pod));
  const second = await node.call("ADD", pod);
  assert.deepEqual(second.json, first.json);
  assert.equal(node.run(node.node, "ip", "-o", "link", "show", hostVethName("eni", "shop", pod)), link);
  for (const container of [pod, pod, "stranger"]) assert.equal((await node.call("DEL", container)).code, 0);
});

test("twelve ADDs at once get twelve addresses, and twelve DELs at once give them back", async () => {
  await node.stopIpamd();
  await node.startIpamd({ perEni: 20 });
  const many = Array.from({ length: 12 }, () => node.newPod());
  const before = node.savedAddresses().length;
  const answers = await Promise.all(many.map((pod) => node.call("ADD", pod)));
  const addresses = answers.map(({ json }) => (json["ips"] as { address: string }[] | undefined)?.[0]?.address);
  assert.equal(new Set(addresses).size, 12);
  assert.equal(node.savedAddresses().length, before + 12);
  for (const [index, pod] of many.entries()) {
    assert.match(node.run(pod, "ip", "-o", "-4", "addr", "show", "dev", "eth0"), new RegExp(` ${addresses[index]} `));
  }
  assert.deepEqual(
    (await Promise.all(many.map((pod) => node.call("DEL", pod)))).map(({ code }) => code),
    Array(12).fill(0),
  );
  assert.equal(node.savedAddresses().length, before);
});

test("a sandbox that is made again under the same pod name is wired anew", async () => {
  const pod = node.newPod();
  const again = node.newPod();
  const args = { CNI_ARGS: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0" };
  const first = await node.call("ADD", pod, node.config(), args);
  const second = await node.call("ADD", again, node.config(), args);
  assert.equal(second.code, 0, second.text);
  assert.notDeepEqual(second.json["ips"], first.json["ips"]);
  assert.match(node.run(again, "ip", "route"), /default via 169\.254\.1\.1/);
  assert.equal((await node.call("DEL", pod, node.config(), args)).code, 0);
  assert.equal(
    (await node.call("CHECK", again, node.config(), args)).code,
    0,
    "the old sandbox's DEL spares the new one",
  );
  await node.call("DEL", again, node.config(), args);
});

test("a vanished namespace: ADD fails with code 3, DEL still frees the address", async () => {
  const pod = node.newPod();
  const { json } = await node.call("ADD", pod);
  const address = (json["ips"] as { address: string }[])[0]!.address.split("/")[0]!;
  deleteNetns(pod);
  const refused = await node.call("ADD", pod);
  assert.deepEqual([refused.code, refused.json["code"]], [1, 3]);
  assert.equal((await node.call("DEL", pod, node.config(), { CNI_NETNS: "" })).code, 0);
  assert.ok(!node.savedAddresses().includes(address));
});

test("malformed input gets the spec's codes", async () => {
  const cases: [string, string, Record<string, string>, number][] = [
    ["ADD", "{", {}, 6],
    ["ADD", "[]", {}, 6],
    ["ADD", node.config("9.9.9"), {}, 1],
    ["ADD", node.config("1.0.0", { name: "" }), {}, 7],
    ["ADD", node.config("1.0.0", { vethPrefix: "toolong" }), {}, 7],
    ["ADD", node.config(), { CNI_CONTAINERID: "" }, 4],
    ["ADD", node.config(), { CNI_CONTAINERID: "../x" }, 4],
    ["ADD", node.config(), { CNI_IFNAME: "a-very-long-interface-name" }, 4],
    ["ADD", node.config(), { CNI_IFNAME: "a/b" }, 4],
    ["ADD", node.config(), { CNI_ARGS: "" }, 4],
    ["ADD", node.config(), { CNI_NETNS: "/nowhere" }, 3],
    ["DANCE", node.config(), {}, 4],
    ["CHECK", node.config("0.3.1"), {}, 1],
    ["STATUS", node.config("1.0.0"), {}, 1],
  ];
  const pod = node.newPod();
  for (const [command, config, environment, code] of cases) {
    const { code: exit, json, text } = await node.call(command, pod, config, environment);
    assert.deepEqual([exit, json["code"]], [1, code], `${command} ${JSON.stringify(environment)}: ${text}`);
  }
  assert.equal(node.datastore.find({ networkName: "aws-cni", containerId: pod, ifName: "eth0" }), undefined);
});

test("without ipamd ADD says try again later, STATUS 50, and DEL succeeds; the next start cleans up after it", async () => {
  const pod = node.newPod();
  const stays = node.newPod();
  const { json } = await node.call("ADD", pod);
  const kept = await node.call("ADD", stays);
  const address = (json["ips"] as { address: string }[])[0]!.address.split("/")[0]!;
  await node.stopIpamd();
  const refused = await node.call("ADD", node.newPod());
  assert.deepEqual([refused.code, refused.json["code"]], [1, 11]);
  assert.equal((await node.call("STATUS", pod, node.config("1.1.0"))).json["code"], 50);
  assert.equal((await node.call("DEL", pod)).code, 0);
  deleteNetns(pod);
  const deadline = Date.now() + 5_000;
  while (node.run(node.node, "ip", "-o", "link").includes(hostVethName("eni", "shop", pod)) && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 10));
  assert.match(node.run(node.node, "ip", "rule"), new RegExp(`to ${address} lookup`), "the rule is left over");

  const outcome = await node.startIpamd({ perEni: 20 });
  assert.deepEqual(
    outcome.stale.map((one) => one.pod.name),
    [pod],
  );
  assert.doesNotMatch(node.run(node.node, "ip", "rule"), new RegExp(`to ${address} lookup`));
  assert.deepEqual((await node.call("ADD", stays)).json, kept.json, "a living pod keeps its address");
  assert.equal((await node.call("CHECK", stays)).code, 0);
  assert.equal((await node.call("STATUS", stays, node.config("1.1.0"))).code, 0);
});

test("GC frees what the runtime no longer knows", async () => {
  const [gone, stays] = [node.newPod(), node.newPod()];
  await node.call("ADD", gone);
  await node.call("ADD", stays);
  const attachments = { "cni.dev/valid-attachments": [{ containerID: stays, ifname: "eth0" }] };
  assert.equal((await node.call("GC", stays, node.config("1.1.0", attachments))).code, 0);
  const key = (containerId: string) => ({ networkName: "aws-cni", containerId, ifName: "eth0" });
  assert.equal(node.datastore.find(key(gone)), undefined);
  assert.ok(node.datastore.find(key(stays)));
});

test("Debian's portmap and bandwidth take our result as their prevResult", async (t) => {
  if (!existsSync("/usr/lib/cni/portmap")) return t.skip("Debian package containernetworking-plugins is not installed");
  for (const version of ["0.3.1", "0.4.0", "1.0.0"]) {
    const pod = node.newPod();
    const { json } = await node.call("ADD", pod, node.config(version));
    const chained = (type: string, more: object) => {
      const config = { cniVersion: version, name: "aws-cni", type, ...more, prevResult: json };
      const run = (command: string) =>
        spawnSync("nsenter", [`--net=${netnsPath(node.node)}`, `/usr/lib/cni/${type}`], {
          input: JSON.stringify(config),
          env: node.environment(command, pod),
          encoding: "utf8",
        });
      const added = run("ADD");
      assert.equal(added.status, 0, `${type} ${version}: ${added.stdout}${added.stderr}`);
      assert.deepEqual((JSON.parse(added.stdout) as { ips: unknown }).ips !== undefined, true);
      assert.equal(run("DEL").status, 0);
    };
    chained("portmap", {
      capabilities: { portMappings: true },
      snat: true,
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] },
    });
    chained("bandwidth", { capabilities: { bandwidth: true }, runtimeConfig: {} });
    await node.call("DEL", pod, node.config(version));
  }
});
