/** The kubelet over CRI: Debian's containerd in an instance, its pods, and what is left when the instance ends. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { findCgroups } from "@underlay/kernel/cgroups";
import type { Pod } from "@underlay/kube/objects";
import { nodes, pods } from "@underlay/kube/resources";
import { bootInstance, missingForInstance, nodeName, until, type Instance } from "./instance-fixture.ts";

const inDefault = { namespace: "default" };
const sh = (script: string) => ["sh", "-c", script];

function missingForContainerd(): string | undefined {
  for (const [file, name] of [
    ["/usr/bin/containerd", "containerd"],
    ["/usr/sbin/runc", "runc"],
    ["/usr/bin/busybox", "busybox-static"],
  ] as const)
    if (!existsSync(file)) return `needs Debian's ${name}`;
  return missingForInstance();
}

describe("kubelet with containerd", { skip: missingForContainerd() ?? false }, () => {
  let instance: Instance;
  before(async () => {
    instance = await bootInstance({ containerRuntime: "containerd" });
    instance.writeCniConfig();
    await until("the node to be ready", async () =>
      (await instance.client.find(nodes, nodeName))?.status?.conditions?.some(
        (c) => c.type === "Ready" && c.status === "True",
      ),
    );
  });
  after(async () => instance?.stop());

  const create = (name: string, container: object, spec: object = {}) =>
    instance.client.create(pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default" },
      spec: { nodeName, containers: [{ name: "c", image: "busybox", ...container }], ...spec },
    } as unknown as Pod);
  const podWhen = (name: string, what: string, look: (pod: Pod) => unknown) =>
    until(`pod ${name}: ${what}`, async () => {
      const pod = await instance.client.find(pods, name, inDefault);
      return pod && look(pod) ? pod : undefined;
    });
  const ready = (pod: Pod) => pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True");
  const first = (pod: Pod) => pod.status?.containerStatuses?.[0];
  const gone = (name: string) =>
    until(`pod ${name} to be gone`, async () => !(await instance.client.find(pods, name, inDefault)));

  test("the node says what runs its pods", async () => {
    const node = await instance.client.get(nodes, nodeName);
    assert.match(node.status?.nodeInfo?.containerRuntimeVersion ?? "", /^containerd:\/\/1\./);
  });

  test("two pods talk over the network our CNI plugins made; exec and logs reach them", async () => {
    await create("web", {
      command: sh("echo hello; mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"),
    });
    await create("client", { command: sh("trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done") });
    const web = await podWhen("web", "ready", ready);
    await podWhen("client", "ready", ready);
    assert.match(web.status?.podIP ?? "", /^10\.99\.0\./);
    assert.match(first(web)?.containerID ?? "", /^containerd:\/\/[0-9a-f]{64}$/);
    const fetched = await instance.exec("client", ["wget", "-qO-", `http://${web.status?.podIP}/`]);
    assert.equal(fetched.output, "served\n");
    assert.equal(fetched.status.status, "Success");
    assert.equal(await instance.log("web"), "hello\n");
    const failed = await instance.exec("client", sh("echo out; echo err >&2; exit 7"));
    assert.equal(failed.status.details?.causes?.[0]?.message, "7");
    assert.deepEqual(failed.output.split("\n").sort(), ["", "err", "out"]);
  });

  test("input reaches an exec, and its end too", async () => {
    const stream = await instance.open(
      "client",
      "exec",
      new URLSearchParams([
        ["stdin", "true"],
        ["stdout", "true"],
        ["command", "cat"],
      ]),
    );
    stream.send(0, "through\n");
    stream.send(255, Buffer.from([0]));
    await stream.closed;
    assert.equal(stream.text(1), "through\n");
  });

  test("a terminal, a program that is not there, and attaching", async () => {
    const terminal = await instance.open(
      "client",
      "exec",
      new URLSearchParams([
        ["stdin", "true"],
        ["stdout", "true"],
        ["tty", "true"],
        ["command", "sh"],
      ]),
    );
    terminal.send(0, "test -t 0 && echo is-a-$((1+1))-tty; exit 4\n");
    await terminal.closed;
    assert.match(terminal.text(1), /is-a-2-tty/);
    assert.match(terminal.text(3), /exit code 4/);
    const missing = await instance.exec("client", ["no-such-program"]);
    assert.match(missing.status.message ?? "", /exec: "no-such-program": executable file not found in \$PATH/);
    await create("cat", { command: ["cat"], stdin: true });
    await podWhen("cat", "ready", ready);
    const attached = await instance.open(
      "cat",
      "attach",
      new URLSearchParams([
        ["stdin", "true"],
        ["stdout", "true"],
      ]),
    );
    attached.send(0, "echoed\n");
    await until("the echo", () => attached.text(1) === "echoed\n");
    attached.close();
    await instance.client.delete(pods, "cat", { ...inDefault, gracePeriodSeconds: 1 });
    await gone("cat");
  });

  test("exec probes and hooks decide", async () => {
    const probe = (file: string) => ({ exec: { command: ["test", "-e", file] }, periodSeconds: 1 });
    await create("probed", {
      command: sh("sleep 1; touch /tmp/ready; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"),
      readinessProbe: probe("/tmp/ready"),
      lifecycle: { postStart: { exec: { command: ["touch", "/tmp/hooked"] } } },
    });
    const running = await podWhen("probed", "running", (p) => first(p)?.state?.running);
    assert.equal(first(running)?.ready, false);
    await podWhen("probed", "ready", ready);
    assert.equal((await instance.exec("probed", ["ls", "/tmp/hooked"])).output, "/tmp/hooked\n");
    await instance.client.delete(pods, "probed", { ...inDefault, gracePeriodSeconds: 2 });
    await gone("probed");
  });

  test("a built-in image's container has the node's programs", async () => {
    await create(
      "tools",
      {
        image: "underlay.test/tools:1",
        command: sh("node=/opt/underlay/node_modules/node-linux-*/bin/node; $node -p 6*7; id -u"),
        securityContext: { runAsUser: 1000 },
      },
      { restartPolicy: "Never" },
    );
    await podWhen("tools", "to have succeeded", (p) => p.status?.phase === "Succeeded");
    assert.equal(await instance.log("tools"), "42\n1000\n");
    await instance.client.delete(pods, "tools", inDefault);
    await gone("tools");
  });

  test("an image that nobody has is refused with the list of those that exist", async () => {
    await create("unknown", { image: "example.com/none:1" });
    const pod = await podWhen("unknown", "to wait for its image", (p) => first(p)?.state?.waiting?.message);
    assert.match(first(pod)?.state?.waiting?.reason ?? "", /ErrImagePull|ImagePullBackOff/);
    assert.match(
      first(pod)?.state?.waiting?.message ?? "",
      /"example\.com\/none:1": not found.*docker\.io\/library\/busybox:latest/,
    );
    await instance.client.delete(pods, "unknown", inDefault);
    await gone("unknown");
  });

  test("a container that fails is started again, and its limit of memory is kept", async () => {
    await create("flaky", { command: sh("echo run; exit 3") });
    const flaky = await podWhen("flaky", "restarted twice", (p) => (first(p)?.restartCount ?? 0) >= 2);
    assert.equal((first(flaky)?.lastState?.terminated ?? first(flaky)?.state?.terminated)?.exitCode, 3);
    await create(
      "greedy",
      { command: sh("head -c 200000000 /dev/zero | tail"), resources: { limits: { memory: "16Mi" } } },
      { restartPolicy: "Never" },
    );
    const greedy = await podWhen("greedy", "over", (p) => p.status?.phase === "Failed");
    assert.equal(first(greedy)?.state?.terminated?.exitCode, 137);
    assert.equal(first(greedy)?.state?.terminated?.reason, "OOMKilled");
  });

  test("a container that somebody killed behind the kubelet's back is started again", async () => {
    const id = first(await podWhen("client", "ready", ready))?.containerID?.replace("containerd://", "") ?? "";
    const socket = instance.path("/run/containerd/containerd.sock");
    const ctr = (...argv: string[]) => execFileSync("ctr", ["--address", socket, "--namespace", "k8s.io", ...argv]);
    ctr("task", "kill", "--signal", "KILL", id);
    const again = await podWhen("client", "restarted", (p) => (first(p)?.restartCount ?? 0) > 0 && ready(p));
    assert.equal(first(again)?.lastState?.terminated?.exitCode, 137);
  });

  test("a kubelet that was killed finds its pods; containerd that was killed comes back, with them", async () => {
    const before = first(await podWhen("web", "ready", ready))?.containerID;
    const old = instance.kubeletPid();
    process.kill(old ?? 0, "SIGKILL");
    await until("another kubelet", () => instance.kubeletPid() !== old && instance.kubeletPid());
    const answered = () =>
      instance.exec("web", ["echo", "here"]).then(
        ({ output }) => output === "here\n",
        () => false,
      );
    await until("exec after the kubelet's death", answered);
    process.kill(containerdPid(instance), "SIGKILL");
    await until("exec after containerd's death", answered, 30_000);
    const after = first(await podWhen("web", "ready", ready));
    assert.equal(after?.containerID, before);
    assert.equal(after?.restartCount, 0);
  });

  test("a deleted pod goes with its network; an ended instance leaves nothing", async () => {
    for (const name of ["web", "client", "flaky", "greedy"])
      await instance.client.delete(pods, name, { ...inDefault, gracePeriodSeconds: 2 });
    for (const name of ["web", "client", "flaky", "greedy"]) await gone(name);
    await until("the network namespaces to be gone", () => readdirSync(instance.path("/run/netns")).length === 0);
    assert.deepEqual(
      readdirSync(instance.path("/var/lib/cni/networks/test")).filter((n) => n.startsWith("10.")),
      [],
    );
    assert.notDeepEqual(findCgroups(instance.netns), []);
    await instance.stop();
    // A cgroup cannot be removed while a process is in it.
    assert.deepEqual(findCgroups(instance.netns), []);
    assert.equal(readFileSync("/proc/self/mountinfo", "utf8").includes(instance.netns), false);
    assert.deepEqual(
      readdirSync(tmpdir()).filter((name) => name.startsWith(instance.netns)),
      [],
    );
  });
});

/** containerd of this instance, not of another: they share a network namespace. */
function containerdPid(instance: Instance): number {
  const own = (pid: string) => {
    try {
      return (
        readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("containerd\0") &&
        readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(instance.netns)
      );
    } catch {
      return false;
    }
  };
  return Number(readdirSync("/proc").find((pid) => /^\d+$/.test(pid) && own(pid)) ?? 0);
}
