/** One pod's processes in a CRI runtime: starting, signalling, hearing of ends, attaching. */
import type { Pod } from "@underlay/kube/objects";
import type { AttachedStreams, PodProcesses } from "../kubelet/runtime.ts";
import type { ContainerState, ShimContainer } from "../kubelet/shim-client.ts";
import { containerConfig } from "./container-config.ts";
import type { CriClient, CriContainerStatus, PodSandboxConfig } from "./cri-client.ts";
import { GrpcError, notFound } from "./grpc-unix.ts";
import type { CriImages } from "./images.ts";
import { attachStreams } from "./streams.ts";

type Watch = { ended: (state: ContainerState) => void; lost: () => void };

/** A stop without end: the kubelet keeps the grace period itself and asks for the kill when it is over. */
const endlessSeconds = 86_400;
const sigkill = 9;

export class CriSandbox implements PodProcesses {
  readonly id: string;
  readonly #cri: CriClient;
  readonly #images: CriImages;
  readonly #pod: Pod;
  readonly #config: PodSandboxConfig;
  readonly #running = new Set<string>();
  readonly #stopping = new Map<string, AbortController>();
  #watch: Watch | undefined;

  constructor(of: { id: string; cri: CriClient; images: CriImages; pod: Pod; config: PodSandboxConfig }) {
    this.id = of.id;
    this.#cri = of.cri;
    this.#images = of.images;
    this.#pod = of.pod;
    this.#config = of.config;
  }

  async start(spec: ShimContainer): Promise<{ ok: true; state: ContainerState } | { ok: false; error: string }> {
    try {
      const mounts = await this.#images.mountsOf(spec.image);
      await this.#removeOlder(spec);
      const config = containerConfig(this.#pod, spec, { reference: spec.image, mounts });
      const { containerId } = await this.#cri.call("CreateContainer", {
        podSandboxId: this.id,
        config,
        sandboxConfig: this.#config,
      });
      await this.#cri.call("StartContainer", { containerId });
      this.#running.add(containerId);
      return { ok: true, state: await stateOf(this.#cri, containerId) };
    } catch (err) {
      return { ok: false, error: err instanceof Error ? err.message : String(err) };
    }
  }

  async signal(id: string, signal: number): Promise<void> {
    if (signal === sigkill) {
      this.#stopping.get(id)?.abort();
      return this.#kill(id);
    }
    if (this.#stopping.has(id)) return;
    const stop = new AbortController();
    this.#stopping.set(id, stop);
    // Answered when the container has ended, which the watch reports.
    void this.#cri
      .call("StopContainer", { containerId: id, timeout: endlessSeconds }, { signal: stop.signal, timeoutMs: 0 })
      .catch(() => {})
      .finally(() => this.#stopping.delete(id));
  }

  /** Tried again for a minute: the runtime may be starting, and nobody else will ask. */
  async #kill(id: string): Promise<void> {
    for (let left = 60; ; left -= 1) {
      try {
        await this.#cri.call("StopContainer", { containerId: id, timeout: 0 }, { timeoutMs: 10_000 });
        return;
      } catch (err) {
        if (left === 0 || (err instanceof GrpcError && err.grpcStatus === notFound)) throw err;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  async watch(on: Watch): Promise<ContainerState[]> {
    const states = await statesOf(this.#cri, { podSandboxId: this.id });
    for (const state of states) if (state.running) this.#running.add(state.id);
    this.#watch = on;
    return states;
  }

  unwatch(): void {
    this.#watch = undefined;
  }

  /** The runtime looked again: `alive` are the containers that run now, undefined when the sandbox itself does not. */
  async seen(alive: ReadonlySet<string> | undefined): Promise<void> {
    const watch = this.#watch;
    if (!watch) return;
    if (!alive) {
      this.#watch = undefined;
      return watch.lost();
    }
    for (const id of this.#running) {
      if (alive.has(id)) continue;
      const state = await stateOf(this.#cri, id).catch((err: unknown) => stateOfRemoved(id, err));
      // Started after the look.
      if (state.running) continue;
      this.#running.delete(id);
      this.#watch?.ended(state);
    }
  }

  attach(id: string, tty: boolean): AttachedStreams {
    return attachStreams(
      this.#cri
        .call("Attach", { containerId: id, stdin: true, tty, stdout: true, stderr: !tty })
        .then(({ url }) => url),
    );
  }

  /** Of the runs before, the last is kept for its log's sake and its exit code. */
  async #removeOlder(spec: ShimContainer): Promise<void> {
    const { containers = [] } = await this.#cri.call("ListContainers", { filter: { podSandboxId: this.id } });
    for (const { id, metadata } of containers)
      if (metadata.name === spec.name && (metadata.attempt ?? 0) < spec.attempt - 1)
        await this.#cri.call("RemoveContainer", { containerId: id });
  }
}

export async function statesOf(cri: CriClient, filter: object): Promise<ContainerState[]> {
  const { containers = [] } = await cri.call("ListContainers", { filter });
  const begun = containers.filter(({ state }) => state === "CONTAINER_RUNNING" || state === "CONTAINER_EXITED");
  return Promise.all(begun.map(({ id }) => stateOf(cri, id)));
}

async function stateOf(cri: CriClient, containerId: string): Promise<ContainerState> {
  const { status, info } = await cri.call("ContainerStatus", { containerId, verbose: true }, { timeoutMs: 10_000 });
  return containerState(status, pidOf(info["info"]));
}

/** Somebody else removed the container: how it ended is not known any more. */
function stateOfRemoved(id: string, err: unknown): ContainerState {
  if (!(err instanceof GrpcError) || err.grpcStatus !== notFound) throw err;
  const now = new Date().toISOString();
  return { id, name: "", attempt: 0, pid: 0, startedAt: now, finishedAt: now, running: false, exitCode: 137 };
}

function containerState(status: CriContainerStatus, pid: number): ContainerState {
  const running = status.state === "CONTAINER_RUNNING";
  return {
    id: status.id,
    name: status.metadata.name,
    attempt: status.metadata.attempt ?? 0,
    pid,
    startedAt: time(status.startedAt),
    running,
    ...(running ? {} : { exitCode: status.exitCode ?? 0, finishedAt: time(status.finishedAt) }),
    ...(status.reason ? { reason: status.reason } : {}),
  };
}

/** Nanoseconds since 1970. */
const time = (nanoseconds: number | undefined): string => new Date((nanoseconds ?? 0) / 1e6).toISOString();

function pidOf(info: string | undefined): number {
  return info ? ((JSON.parse(info) as { pid?: number }).pid ?? 0) : 0;
}
