/**
 * The kubelet: puts the pods that are bound to this node onto it, keeps them as they should be, and says how they are.
 *
 * It starts nothing that would die with it: every pod has a shim (`src-lua/pod-shim.ts`), which it finds again when it starts.
 * Read next: `pod-worker.ts` (one pod), `node-agent.ts` (the node itself), `server.ts` (port 10250).
 */
import { readFileSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { KubeClient } from "@underlay/kube/client";
import { EventRecorder } from "@underlay/kube/events";
import { Informer } from "@underlay/kube/informer";
import type { Pod } from "@underlay/kube/objects";
import { pods, services } from "@underlay/kube/resources";
import { WorkQueue } from "@underlay/kube/workqueue";
import type { Log } from "@underlay/log/log";
import { BackOff } from "./back-off.ts";
import type { Bootstrapped } from "./bootstrap.ts";
import { Cni } from "./cni.ts";
import type { KubeletContext } from "./kubelet-context.ts";
import { NodeAgent } from "./node-agent.ts";
import { ObjectCache } from "./object-cache.ts";
import { podLogDir, type Places } from "./places.ts";
import { PodWorker } from "./pod-worker.ts";
import type { PodRuntime } from "./runtime.ts";
import { ShimRuntime } from "./shim-runtime.ts";
import { startServer } from "./server.ts";
import { removePodFolder } from "./volumes.ts";

/** Pods worked on at once. Far more than cores: a sync mostly waits, and a hanging CNI plugin must not keep the pods that would mend it waiting. */
const parallelPods = 48;
/** A worker that stays busy longer than this (a slow hook, a slow plugin) is only logged. */
const slowSyncMs = 30_000;

export class Kubelet {
  readonly context: KubeletContext;
  readonly workers = new Map<string, PodWorker>();
  readonly #pods: Informer<Pod>;
  readonly #queue = new WorkQueue({ baseDelayMs: 200, maxDelayMs: 10_000 });
  readonly #cache: ObjectCache;
  readonly #agent: NodeAgent;

  /** Without a runtime given: pod shims. */
  constructor({ settings, kubeConfig }: Bootstrapped, places: Places, log: Log, runtime?: PodRuntime) {
    const client = new KubeClient(kubeConfig, { userAgent: "kubelet/v1.33.3" });
    const cni = new Cni({ confDir: places.cniConf, binDirs: places.cniBin, cacheDir: places.cniCache });
    this.context = {
      settings,
      places,
      client,
      services: new Informer(client, services, { log }),
      events: new EventRecorder(client, { component: "kubelet", host: settings.nodeName, log }),
      cni,
      runtime: runtime ?? new ShimRuntime(places, cni),
      backOff: new BackOff(settings.backOff),
      imageBackOff: new BackOff(settings.backOff),
      log,
      nodeResolvConf: readText("/etc/resolv.conf"),
      nodeHosts: readText("/etc/hosts"),
    };
    this.#cache = new ObjectCache(client);
    this.#agent = new NodeAgent(this.context);
    this.#pods = new Informer(client, pods, { fieldSelector: `spec.nodeName=${settings.nodeName}`, log });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { places, services: serviceInformer } = this.context;
    for (const dir of [places.pods, places.run, places.logs, places.netns]) await mkdir(dir, { recursive: true });
    const server = await startServer(this, signal);
    const agent = this.#agent.run(signal);
    this.#pods.on({
      add: (pod) => this.#see(pod),
      update: (_old, pod) => this.#see(pod),
      delete: (pod) => this.#gone(pod),
    });
    serviceInformer.start(signal);
    this.#pods.start(signal);
    await Promise.all([this.#pods.synced(signal), serviceInformer.synced(signal)]);
    await this.#removeOrphans();
    await Promise.all([
      agent,
      this.#queue.run({
        workers: parallelPods,
        signal,
        reconcile: (uid) => this.#sync(uid),
        onError: (uid, err) => this.#failed(uid, err),
      }),
    ]);
    for (const worker of this.workers.values()) worker.letGo();
    server.close();
    this.context.client.close();
  }

  /** A pod of this node by name; undefined when the kubelet does not have it. */
  findWorker(namespace: string, name: string): PodWorker | undefined {
    const found = [...this.workers.values()].filter(
      (w) => w.pod.metadata.namespace === namespace && w.pod.metadata.name === name,
    );
    // An old pod of the same name (a StatefulSet's) may still be ending.
    return found.find((w) => !w.pod.metadata.deletionTimestamp) ?? found[0];
  }

  #see(pod: Pod): void {
    const uid = pod.metadata.uid ?? "";
    let worker = this.workers.get(uid);
    if (!worker) {
      worker = new PodWorker(pod, this.context, this.#cache, () => this.#queue.add(uid));
      this.workers.set(uid, worker);
    }
    worker.update(pod);
    this.#queue.add(uid);
  }

  #gone(pod: Pod): void {
    const uid = pod.metadata.uid ?? "";
    const worker = this.workers.get(uid);
    if (!worker) return;
    worker.update(undefined);
    this.#queue.add(uid);
  }

  async #sync(uid: string): Promise<{ requeueAfterMs: number } | void> {
    const worker = this.workers.get(uid);
    if (!worker) return;
    const begunAt = Date.now();
    const again = await worker.sync();
    if (Date.now() - begunAt > slowSyncMs)
      this.context.log.warn("slow pod", { pod: worker.pod.metadata.name, tookMs: Date.now() - begunAt });
    if (worker.finished) this.workers.delete(uid);
    return again;
  }

  #failed(uid: string, err: unknown): void {
    const pod = this.workers.get(uid)?.pod;
    this.context.log.warn("cannot sync pod", { pod: `${pod?.metadata.namespace}/${pod?.metadata.name}`, err });
  }

  /** Sandboxes whose pods were deleted while no kubelet was there, and attachments of sandboxes that a reboot took away. */
  async #removeOrphans(): Promise<void> {
    const { cni, runtime } = this.context;
    const sandboxes = await runtime.listSandboxes();
    const alive = new Set(sandboxes.map((record) => record.id));
    for (const attachment of await cni.listAttachments()) {
      if (alive.has(attachment.containerId)) continue;
      await cni
        .delete(attachment)
        .catch((err: unknown) =>
          this.context.log.warn("cannot give back a lost attachment", { pod: attachment.podName, err }),
        );
    }
    const { places, log } = this.context;
    for (const record of sandboxes) {
      if (this.workers.has(record.uid)) continue;
      log.info("removing sandbox without pod", { pod: `${record.namespace}/${record.name}` });
      await runtime
        .removeSandbox(record.uid)
        .catch((err: unknown) => log.warn("cannot remove sandbox", { pod: `${record.namespace}/${record.name}`, err }));
      await rm(podLogDir(places, record), { recursive: true, force: true });
    }
    for (const uid of await readdir(places.pods)) {
      if (this.workers.has(uid)) continue;
      await removePodFolder(uid, places).catch((err: unknown) =>
        log.warn("cannot remove a pod's folder", { uid, err }),
      );
    }
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
