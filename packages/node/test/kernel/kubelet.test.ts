/** The kubelet, its shims and its programs on a real kernel under a real API server. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import type { Pod } from "@underlay/kube/objects";
import { configMaps, nodes, pods } from "@underlay/kube/resources";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import {
  bootInstance,
  listFolder,
  missingForInstance,
  nodeName,
  readText,
  until,
  type Instance,
} from "./instance-fixture.ts";

const image = "registry.k8s.io/pause:3.9";
const inDefault = { namespace: "default" };
const sh = (script: string) => ["sh", "-c", script];
/** Prints the seconds since its start, and ends politely. */
const ticker = "trap 'echo bye; exit 0' TERM; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done";

describe("kubelet", { skip: missingForInstance() ?? false }, () => {
  let instance: Instance;
  before(async () => void (instance = await bootInstance()));
  after(async () => instance?.stop());

  const create = (name: string, spec: object) =>
    instance.client.create(pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default" },
      spec: { nodeName, ...spec },
    } as unknown as Pod);
  const one = (name: string, script: string, more: object = {}, spec: object = {}) =>
    create(name, { containers: [{ name: "c", image, command: sh(script), ...more }], ...spec });
  const podWhen = (name: string, what: string, look: (pod: Pod) => unknown) =>
    until(`pod ${name}: ${what}`, async () => {
      const pod = await instance.client.find(pods, name, inDefault);
      return pod && look(pod) ? pod : undefined;
    });
  const ready = (pod: Pod) => pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True");
  const first = (pod: Pod) => pod.status?.containerStatuses?.[0];
  const shimState = (pod: Pod, id: string) =>
    JSON.parse(
      readText(
        instance.path(`/run/underlay/pods/${pod.metadata.uid}/containers/${id.replace("underlay://", "")}.json`),
      ),
    ) as { pid: number };
  const gone = (name: string) =>
    until(`pod ${name} to be gone`, async () => !(await instance.client.find(pods, name, inDefault)));

  test("a node is not ready until a CNI configuration is there", async () => {
    const notReady = await until("the node", () =>
      instance.client.find(nodes, nodeName).then((n) => n?.status?.conditions?.find((c) => c.type === "Ready")),
    );
    assert.equal(notReady.status, "False");
    assert.equal(notReady.reason, "KubeletNotReady");
    assert.match(notReady.message ?? "", /cni plugin not initialized/);
    instance.writeCniConfig();
    const node = await until("the node to be ready", async () => {
      const seen = await instance.client.get(nodes, nodeName);
      return (
        seen.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") &&
        !seen.spec?.taints?.some((t) => t.key.includes("not-ready")) &&
        seen
      );
    });
    assert.equal(node.spec?.providerID, "aws:///us-west-2a/i-00000000000000000");
    assert.equal(node.status?.capacity?.["pods"], "29");
  });

  test("a pod runs with its user, environment, files and address; exec and logs reach it", async () => {
    await instance.client.create(configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "cm", namespace: "default" },
      data: { "a.txt": "from the map" },
    });
    await create("web", {
      volumes: [
        { name: "cm", configMap: { name: "cm" } },
        { name: "tmp", emptyDir: { medium: "Memory" } },
      ],
      initContainers: [
        {
          name: "init",
          image,
          command: sh("cat /cm/a.txt > /tmp/copy"),
          volumeMounts: [
            { name: "cm", mountPath: "/cm" },
            { name: "tmp", mountPath: "/tmp" },
          ],
        },
      ],
      containers: [
        {
          name: "c",
          image,
          command: sh(`echo to-err >&2; ${ticker}`),
          env: [{ name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }],
          securityContext: { runAsUser: 1000, readOnlyRootFilesystem: true },
          volumeMounts: [{ name: "tmp", mountPath: "/tmp" }],
          readinessProbe: { exec: { command: ["test", "-s", "/tmp/copy"] }, periodSeconds: 1 },
        },
      ],
    });
    const pod = await podWhen("web", "Ready", ready);
    const ip = pod.status?.podIP ?? "";
    assert.match(ip, /^10\.99\.0\./);
    assert.equal(pod.status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode, 0);
    const seen = await instance.exec(
      "web",
      sh("id -u; cat /tmp/copy; echo; echo $IP; hostname; touch /x 2>&1; ls /proc/1/root/work 2>&1; exit 7"),
    );
    assert.deepEqual(seen.output.split("\n").slice(0, 4), ["1000", "from the map", ip, "web"]);
    assert.match(seen.output, /touch: cannot touch '\/x': Read-only file system/);
    assert.equal(seen.status.details?.causes?.[0]?.message, "7");
    const missing = await instance.exec("web", ["no-such-program"]);
    assert.match(missing.status.message ?? "", /exec: "no-such-program": executable file not found in \$PATH/);
    const log = await instance.log("web", "?container=c");
    assert.match(log, /^tick 0$/m);
    assert.match(log, /^to-err$/m);
    assert.equal((await instance.log("web", "?container=c&tailLines=1")).trim().split("\n").length, 1);
  });

  test("killing the kubelet leaves pods alone, and the next one takes them over", async () => {
    const before = await podWhen("web", "Ready", ready);
    const pid = shimState(before, first(before)?.containerID ?? "").pid;
    const kubelet = await until("the kubelet", () => instance.kubeletPid());
    process.kill(kubelet, "SIGKILL");
    await until("another kubelet", () => {
      const next = instance.kubeletPid();
      return next !== undefined && next !== kubelet;
    });
    const seen = await until("exec through the new kubelet", () =>
      instance.exec("web", ["cat", "/proc/1/stat"]).catch(() => undefined),
    );
    assert.equal(seen.status.status, "Success");
    const later = await instance.client.get(pods, "web", inDefault);
    assert.equal(later.status?.podIP, before.status?.podIP);
    assert.equal(first(later)?.restartCount, 0);
    assert.equal(first(later)?.containerID, first(before)?.containerID);
    assert.equal(shimState(later, first(later)?.containerID ?? "").pid, pid);
    const ticks = [...(await instance.log("web", "?container=c")).matchAll(/^tick (\d+)$/gm)].map((m) => Number(m[1]));
    assert.deepEqual(
      ticks,
      ticks.map((_, i) => i),
      "the log has no gap",
    );
  });

  test("a container that fails is started again with back-off, and its last run can be read", async () => {
    await one("crash", "echo boom; exit 3", { terminationMessagePolicy: "FallbackToLogsOnError" });
    const pod = await podWhen(
      "crash",
      "in a crash loop",
      (p) => first(p)?.state?.waiting?.reason === "CrashLoopBackOff" && (first(p)?.restartCount ?? 0) >= 1,
    );
    const last = first(pod)?.lastState?.terminated;
    assert.equal(last?.exitCode, 3);
    assert.equal(last?.message?.trim(), "boom");
    assert.equal(await instance.log("crash", "?previous=true"), "boom\n");
    await instance.client.delete(pods, "crash", inDefault);
    await gone("crash");
  });

  test("pods that end keep their outcome and give their address back", async () => {
    await one("done", "echo -n fine > /dev/termination-log", {}, { restartPolicy: "Never" });
    await one("failed", "exit 4", {}, { restartPolicy: "Never" });
    const done = await podWhen("done", "over", (p) => p.status?.phase === "Succeeded");
    assert.equal(first(done)?.state?.terminated?.message, "fine");
    const failed = await podWhen("failed", "over", (p) => p.status?.phase === "Failed");
    assert.equal(first(failed)?.state?.terminated?.exitCode, 4);
    const reserved = () => listFolder(instance.path("/var/lib/cni/networks/test")).filter((n) => n.startsWith("10."));
    const [ip] = [done.status?.podIP ?? ""];
    await until("the address to be free", () => !reserved().includes(ip));
  });

  test("an unknown image says which images there are; a missing program and a missing ConfigMap say so", async () => {
    await one("no-image", "true", { image: "example.com/nothing:1" });
    await create("no-program", { restartPolicy: "Never", containers: [{ name: "c", image, command: ["/nothing"] }] });
    await create("no-map", { containers: [{ name: "c", image, envFrom: [{ configMapRef: { name: "absent" } }] }] });
    const pulling = await podWhen(
      "no-image",
      "back-off",
      (p) => first(p)?.state?.waiting?.reason === "ImagePullBackOff",
    );
    assert.match(first(pulling)?.state?.waiting?.message ?? "", /example\.com\/nothing:1.*registry\.k8s\.io\/pause/s);
    const noProgram = await podWhen("no-program", "failed", (p) => p.status?.phase === "Failed");
    assert.equal(first(noProgram)?.state?.terminated?.reason, "StartError");
    const noMap = await podWhen(
      "no-map",
      "refused",
      (p) => first(p)?.state?.waiting?.reason === "CreateContainerConfigError",
    );
    assert.equal(first(noMap)?.state?.waiting?.message, 'configmap "absent" not found');
  });

  test("a killed shim takes its pod along, and the pod comes back in a new sandbox", async () => {
    await one("phoenix", ticker);
    const pod = await podWhen("phoenix", "Ready", ready);
    // The shim is the parent of the container's first process, as the host sees both.
    const inside = shimState(pod, first(pod)?.containerID ?? "").pid;
    const status = readText(instance.path(`/proc/${inside}/status`));
    const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]);
    const host = hostPid(instance, parent);
    process.kill(host, "SIGKILL");
    const again = await podWhen("phoenix", "back", (p) => ready(p) && first(p)?.restartCount === 1);
    assert.notEqual(again.status?.podIP, "");
    assert.equal(first(again)?.lastState?.terminated?.exitCode, 137);
  });

  test("a pod that was deleted while there was no kubelet is taken away by the next one", async () => {
    const volumes = { volumes: [{ name: "tmp", emptyDir: { medium: "Memory" } }] };
    await one("forgotten", ticker, { volumeMounts: [{ name: "tmp", mountPath: "/tmp" }] }, volumes);
    const pod = await podWhen("forgotten", "Ready", ready);
    const uid = pod.metadata.uid ?? "";
    const kubelet = await until("the kubelet", () => instance.kubeletPid());
    process.kill(kubelet, "SIGSTOP");
    await instance.client.delete(pods, "forgotten", { ...inDefault, gracePeriodSeconds: 0 });
    await gone("forgotten");
    process.kill(kubelet, "SIGKILL");
    await until("its sandbox to go", () => !listFolder(instance.path("/run/underlay/pods")).includes(uid));
    await until("its folder to go", () => !listFolder(instance.path("/var/lib/kubelet/pods")).includes(uid));
  });

  test("deletion is graceful and leaves nothing", async () => {
    const all = await instance.client.list(pods, inDefault);
    for (const pod of all.items)
      await instance.client.delete(pods, pod.metadata.name ?? "", { ...inDefault, gracePeriodSeconds: 2 });
    for (const pod of all.items) await gone(pod.metadata.name ?? "");
    await until("the folders to go", () => listFolder(instance.path("/var/lib/kubelet/pods")).length === 0);
    assert.deepEqual(listFolder(instance.path("/run/netns")), []);
    assert.deepEqual(listFolder(instance.path("/run/underlay/pods")), []);
    assert.deepEqual(listFolder(instance.path("/var/log/pods")), []);
    const links = Rtnl.open(instance.netns);
    await until("the pods' links to go", () => links.listLinks().length === 3);
    links.close();
  });
});

/** The host's pid of a process the instance knows by another number. */
function hostPid(instance: Instance, inside: number): number {
  const wanted = readText(instance.path(join("/proc", String(inside), "stat"))).split(" ")[21];
  for (const name of listFolder("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const status = readText(`/proc/${name}/status`);
    const numbers = /^NSpid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? [];
    if (numbers.includes(String(inside)) && readText(`/proc/${name}/stat`).split(" ")[21] === wanted)
      return Number(name);
  }
  throw new Error(`Cannot find process ${inside} of the instance on the host`);
}
