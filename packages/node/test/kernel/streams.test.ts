/** Terminals, stdin, attach and port-forward through API server, kubelet and shim; and pods that share the node's namespaces. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Pod } from "@underlay/kube/objects";
import { pods } from "@underlay/kube/resources";
import { bootInstance, missingForInstance, nodeIp, nodeName, until, type Instance } from "./instance-fixture.ts";

const image = "registry.k8s.io/pause:3.9";
const inDefault = { namespace: "default" };
const closeStdin = [255, "\x00"] as const;

describe("streams", { skip: missingForInstance() ?? false }, () => {
  let instance: Instance;
  before(async () => {
    instance = await bootInstance();
    instance.writeCniConfig();
  });
  after(async () => instance?.stop());

  async function run(name: string, container: object, spec: object = {}): Promise<Pod> {
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default" },
      spec: { nodeName, containers: [{ name: "c", image, ...container }], ...spec },
    };
    await instance.client.create(pods, pod as unknown as Pod);
    return until(`pod ${name} to run`, async () => {
      const seen = await instance.client.get(pods, name, inDefault);
      return seen.status?.containerStatuses?.[0]?.state?.running && seen;
    });
  }
  const command = (...words: string[]) => words.map((word): [string, string] => ["command", word]);
  const statusOf = (text: string) =>
    JSON.parse(text) as { status: string; details?: { causes?: { message: string }[] } };

  test("exec passes stdin to its end", async () => {
    await run("plain", { command: ["sleep", "1000"] });
    const stream = await instance.open(
      "plain",
      "exec",
      new URLSearchParams([["stdin", "true"], ["stdout", "true"], ...command("wc", "-c")]),
    );
    stream.send(0, "x".repeat(100_000));
    stream.send(...closeStdin);
    await stream.closed;
    assert.equal(stream.text(1).trim(), "100000");
    assert.equal(statusOf(stream.text(3)).status, "Success");
  });

  test("exec with a terminal has one, of the size asked for, and tells the exit code", async () => {
    const query = new URLSearchParams([
      ["stdin", "true"],
      ["stdout", "true"],
      ["tty", "true"],
      ...command("bash", "--norc"),
    ]);
    const stream = await instance.open("plain", "exec", query);
    stream.send(4, '{"Width":91,"Height":33}');
    stream.send(0, "tty; stty size; exit 9\n");
    await stream.closed;
    assert.match(stream.text(1), /\/dev\/pts\/\d+\r\n33 91\r\n/);
    assert.equal(statusOf(stream.text(3)).details?.causes?.[0]?.message, "9");
  });

  test("attach reaches a container's stdin and output, also after the kubelet was killed", async () => {
    await run("talker", { command: ["sh", "-c", 'while read -r line; do echo "heard $line"; done'], stdin: true });
    const query = new URLSearchParams([
      ["stdin", "true"],
      ["stdout", "true"],
      ["container", "c"],
    ]);
    const say = async (word: string) => {
      const stream = await until("attach", () => instance.open("talker", "attach", query).catch(() => undefined));
      stream.send(0, `${word}\n`);
      await until("an answer", () => stream.text(1).includes(`heard ${word}`));
      stream.close();
    };
    await say("one");
    const kubelet = await until("the kubelet", () => instance.kubeletPid());
    process.kill(kubelet, "SIGKILL");
    await say("two");
    assert.equal(await instance.log("talker"), "heard one\nheard two\n");
  });

  test("a container with a terminal of its own can be attached to", async () => {
    await run("term", { command: ["bash", "--norc"], stdin: true, tty: true }, { restartPolicy: "Never" });
    const stream = await instance.open(
      "term",
      "attach",
      new URLSearchParams([
        ["stdin", "true"],
        ["stdout", "true"],
        ["tty", "true"],
      ]),
    );
    stream.send(0, "test -t 0 && echo yes-$((40+2)); exit\n");
    await stream.closed;
    assert.match(stream.text(1), /yes-42\r\n/);
  });

  test("port-forward reaches a listener on the pod's loopback, and says when there is none", async () => {
    const script =
      "import socket\ns=socket.create_server(('127.0.0.1',7000))\nwhile True:\n c,_=s.accept(); c.sendall(b'hello '+c.recv(100)); c.close()";
    await run("server", { command: ["python3", "-c", script] });
    const open = (port: string) =>
      instance.open("server", "portforward", new URLSearchParams([["ports", port]]), "v4.channel.k8s.io");
    await until("an answer through the forward", async () => {
      const stream = await open("7000");
      stream.send(0, "you");
      await stream.closed;
      return stream.text(0).endsWith("hello you");
    });
    const none = await open("7001");
    await none.closed;
    assert.match(none.text(1), /connection refused/);
  });

  test("a pod on the host's network has the node's address, name and tree, and never the machine's", async () => {
    const pod = await run(
      "host",
      { command: ["sleep", "1000"], volumeMounts: [{ name: "root", mountPath: "/host" }] },
      { hostNetwork: true, hostPID: true, volumes: [{ name: "root", hostPath: { path: "/" } }] },
    );
    assert.equal(pod.status?.podIP, nodeIp);
    const { output } = await instance.exec("host", [
      "sh",
      "-c",
      "hostname; ls /host/etc/kubernetes; cat /proc/1/comm; ls /host/work 2>&1",
    ]);
    assert.deepEqual(output.split("\n").slice(0, 5), [nodeName, "kubeconfig", "pki", "settings.json", "luajit"]);
    assert.match(output, /'\/host\/work': No such file or directory/);
  });

  test("sidecars start before and end after the containers they serve", async () => {
    const sidecar = {
      name: "side",
      image,
      restartPolicy: "Always",
      command: ["sh", "-c", "trap 'echo side-ends; exit 0' TERM; echo side-starts; while :; do sleep 0.1; done"],
    };
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "with-side", namespace: "default" },
      spec: {
        nodeName,
        restartPolicy: "Never",
        initContainers: [sidecar],
        containers: [{ name: "c", image, command: ["sleep", "0.3"] }],
      },
    };
    await instance.client.create(pods, pod as unknown as Pod);
    const over = await until("the pod to be over", async () => {
      const seen = await instance.client.get(pods, "with-side", inDefault);
      return seen.status?.phase === "Succeeded" && seen;
    });
    const side = over.status?.initContainerStatuses?.[0];
    const main = over.status?.containerStatuses?.[0];
    assert.equal(side?.state?.terminated?.exitCode, 0);
    assert.ok(String(side?.state?.terminated?.finishedAt) >= String(main?.state?.terminated?.finishedAt));
    assert.equal(await instance.log("with-side", "?container=side"), "side-starts\nside-ends\n");
  });
});
