/**
 * Pods in containerd: the kubelet's `PodRuntime` over CRI. containerd makes the pod's network namespace and calls the node's CNI
 * plugins itself; this file asks, looks again when something happened (as upstream's PLEG does, once a second besides), and maps ids.
 *
 * Read next: `containerd.ts` (the daemon), `cri-sandbox.ts` (a pod's processes), `container-config.ts` (what is asked for, pure).
 */
import type { Pod } from "@underlay/kube/objects";
import type { Log } from "@underlay/log/log";
import type { ResolvedImage } from "@underlay/images/registry";
import { execInPod, type Collected, type ExecTarget, type Running } from "../kubelet/exec-in-pod.ts";
import type { Places } from "../kubelet/places.ts";
import type { PodRuntime, Sandbox, SandboxRecord } from "../kubelet/runtime.ts";
import type { ContainerState } from "../kubelet/shim-client.ts";
import { sandboxConfig, uidLabel } from "./container-config.ts";
import { ensureContainerd, type ContainerdPlaces } from "./containerd.ts";
import { CriClient, type CriSandbox as SandboxItem } from "./cri-client.ts";
import { CriSandbox, statesOf } from "./cri-sandbox.ts";
import { GrpcError, notFound, unavailable } from "./grpc-unix.ts";
import { execAndCollect, execStream } from "./exec.ts";
import { CriImages } from "./images.ts";

const lookMs = 1000;
/** A call to a runtime that is just starting may never be answered. */
const lookTimeoutMs = 5000;

export class CriRuntime implements PodRuntime {
  readonly version: string;
  readonly #cri: CriClient;
  readonly #images: CriImages;
  readonly #places: Places;
  readonly #sandboxes = new Map<string, CriSandbox>();
  #again: (() => void) | undefined;

  private constructor(cri: CriClient, places: Places, usrDir: string, version: string) {
    this.#cri = cri;
    this.#places = places;
    this.#images = new CriImages(cri, usrDir);
    this.version = version;
  }

  /** Starts containerd (or finds it running) and keeps it so until `signal`; containerd itself stays. */
  static async open(of: {
    places: Places;
    containerd: ContainerdPlaces;
    region: string;
    log: Log;
    signal: AbortSignal;
  }): Promise<CriRuntime> {
    const { places, containerd, region, log, signal } = of;
    const cri = new CriClient(containerd.socket);
    const ensure = () => ensureContainerd({ places: containerd, cri, skeleton: places.skeleton, region, log, signal });
    await ensure();
    const { runtimeName, runtimeVersion } = await cri.call("Version", {});
    const runtime = new CriRuntime(cri, places, containerd.usr, `${runtimeName}://${runtimeVersion.split(/[~+]/)[0]}`);
    void runtime.#keepLooking(ensure, log, signal);
    return runtime;
  }

  async createSandbox(pod: Pod): Promise<Sandbox> {
    const config = sandboxConfig(pod, this.#places, 0);
    const { podSandboxId: id } = await this.#cri.call("RunPodSandbox", { config });
    return this.#sandbox(id, pod);
  }

  async findSandbox(pod: Pod): Promise<Sandbox | undefined> {
    const ready = (await this.#list(pod.metadata.uid)).find(({ state }) => state !== "SANDBOX_NOTREADY");
    return ready && this.#sandbox(ready.id, pod);
  }

  async removeSandbox(uid: string): Promise<void> {
    for (const { id } of await this.#list(uid)) {
      this.#sandboxes.delete(id);
      try {
        await this.#cri.call("StopPodSandbox", { podSandboxId: id });
        await this.#cri.call("RemovePodSandbox", { podSandboxId: id });
      } catch (err) {
        if (!(err instanceof GrpcError) || err.grpcStatus !== notFound) throw err;
      }
    }
  }

  async listSandboxes(): Promise<SandboxRecord[]> {
    return (await this.#list()).map(({ id, metadata }) => ({
      id,
      ips: [],
      uid: metadata.uid,
      namespace: metadata.namespace,
      name: metadata.name,
    }));
  }

  lastStates(uid: string): Promise<ContainerState[]> {
    return statesOf(this.#cri, { labelSelector: { [uidLabel]: uid } });
  }

  findImage(reference: string): Promise<ResolvedImage> {
    return this.#images.find(reference);
  }

  /**
   * Over the runtime's streaming server; but its WebSockets cannot say that the input has ended, so a program that reads to the end of
   * its input is started in the container's namespaces from here.
   */
  exec(target: ExecTarget, argv: readonly string[], options: { tty: boolean; stdin: boolean }): Running {
    if (options.stdin && !options.tty) return execInPod(this.#places.lua, target, argv, false);
    return execStream(this.#cri, target.containerId, argv, options);
  }

  execAndCollect(target: ExecTarget, argv: readonly string[], timeoutMs: number): Promise<Collected> {
    return execAndCollect(this.#cri, target.containerId, argv, timeoutMs);
  }

  async #sandbox(id: string, pod: Pod): Promise<Sandbox> {
    const { status, info } = await this.#cri.call("PodSandboxStatus", { podSandboxId: id, verbose: true });
    const { name = "", namespace = "", uid = "" } = pod.metadata;
    const ips = [status.network?.ip, ...(status.network?.additionalIps ?? []).map(({ ip }) => ip)].filter(
      (ip) => ip !== undefined && ip !== "",
    ) as string[];
    const netns = netnsOf(info["info"]);
    const shim = new CriSandbox({
      id,
      cri: this.#cri,
      images: this.#images,
      pod,
      config: sandboxConfig(pod, this.#places, 0),
    });
    this.#sandboxes.set(id, shim);
    const containers = await statesOf(this.#cri, { podSandboxId: id });
    const hostNetwork = pod.spec?.hostNetwork === true;
    return { record: { id, uid, namespace, name, ips, ...(netns && !hostNetwork ? { netns } : {}) }, shim, containers };
  }

  async #list(uid?: string): Promise<SandboxItem[]> {
    const filter = uid === undefined ? {} : { labelSelector: { [uidLabel]: uid } };
    const { items = [] } = await this.#cri.call("ListPodSandbox", { filter });
    return [...items].sort((a, b) => (b.createdAt ?? 0) - (a.createdAt ?? 0));
  }

  async #keepLooking(ensure: () => Promise<void>, log: Log, signal: AbortSignal): Promise<void> {
    void this.#listen(signal);
    while (!signal.aborted) {
      try {
        await this.#look(log);
      } catch (err) {
        log.warn("cannot look at the runtime", { err });
        const gone = err instanceof GrpcError && err.grpcStatus === unavailable;
        if (gone)
          await ensure().catch((failure: unknown) => log.warn("cannot start containerd again", { err: failure }));
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, lookMs);
        this.#again = () => (clearTimeout(timer), resolve());
      });
    }
    this.#cri.close();
  }

  async #listen(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#cri.watchEvents(() => this.#again?.(), signal).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, lookMs));
    }
  }

  async #look(log: Log): Promise<void> {
    const known = new Set(this.#sandboxes.values());
    const soon = { timeoutMs: lookTimeoutMs };
    const [{ items = [] }, { containers = [] }] = await Promise.all([
      this.#cri.call("ListPodSandbox", {}, soon),
      this.#cri.call("ListContainers", {}, soon),
    ]);
    const ready = new Set(items.filter(({ state }) => state !== "SANDBOX_NOTREADY").map(({ id }) => id));
    const running = containers.filter(({ state }) => state === "CONTAINER_RUNNING");
    for (const sandbox of known) {
      const alive = new Set(running.filter(({ podSandboxId }) => podSandboxId === sandbox.id).map(({ id }) => id));
      if (!ready.has(sandbox.id)) this.#sandboxes.delete(sandbox.id);
      // What goes wrong with one pod is no other pod's loss.
      await sandbox
        .seen(ready.has(sandbox.id) ? alive : undefined)
        .catch((err: unknown) => log.warn("cannot look at a pod", { sandbox: sandbox.id, err }));
    }
  }
}

function netnsOf(info: string | undefined): string | undefined {
  if (!info) return undefined;
  const { runtimeSpec } = JSON.parse(info) as {
    runtimeSpec?: { linux?: { namespaces?: { type: string; path?: string }[] } };
  };
  return runtimeSpec?.linux?.namespaces?.find(({ type }) => type === "network")?.path;
}
