/**
 * What the kubelet asks of a container runtime. Two exist: pod shims of our own (`shim-runtime.ts`, the default) and containerd over
 * CRI (`../cri/cri-runtime.ts`). Both run what `container-spec.ts` describes, call the CNI plugins of the node and write CRI log files.
 */
import type { Pod } from "@underlay/kube/objects";
import type { ResolvedImage } from "@underlay/images/registry";
import type { ExecTarget, Collected, Running } from "./exec-in-pod.ts";
import type { ContainerState, ShimContainer } from "./shim-client.ts";

export type SandboxRecord = {
  readonly id: string;
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** Where the pod's network namespace is bound; absent for host network. */
  readonly netns?: string;
  readonly ips: readonly string[];
};

/** The processes of one pod that stands. */
export type PodProcesses = {
  start(container: ShimContainer): Promise<{ ok: true; state: ContainerState } | { ok: false; error: string }>;
  signal(id: string, signal: number): Promise<void>;
  /** Calls `ended` for each container that ends, `lost` once when the sandbox has gone. Resolves when the watch stands. */
  watch(on: { ended: (state: ContainerState) => void; lost: () => void }): Promise<ContainerState[]>;
  /** Stops hearing of ends; the pod goes on. */
  unwatch(): void;
  /** A container's input and output from now on. */
  attach(id: string, tty: boolean): AttachedStreams;
};

export type AttachedStreams = {
  /** Kinds: 1 stdout, 2 stderr. */
  onOutput(each: (kind: number, data: Buffer) => void): void;
  onClose(done: () => void): void;
  write(data: Buffer): void;
  endInput(): void;
  resize(width: number, height: number): void;
  close(): void;
};

export type Sandbox = {
  readonly record: SandboxRecord;
  readonly shim: PodProcesses;
  readonly containers: readonly ContainerState[];
};

export type PodRuntime = {
  /** As a Node reports it, `name://version`; the name is the scheme of container ids. */
  readonly version: string;
  createSandbox(pod: Pod): Promise<Sandbox>;
  /** The sandbox that still stands for a pod. */
  findSandbox(pod: Pod): Promise<Sandbox | undefined>;
  /** Takes the sandbox (or what is left of one) away, its network first. Throws when that fails; call again. */
  removeSandbox(uid: string): Promise<void>;
  /** Every pod that has a sandbox or remains of one on this node. */
  listSandboxes(): Promise<SandboxRecord[]>;
  /** What is known of containers whose sandbox is gone. */
  lastStates(uid: string): Promise<ContainerState[]>;
  /** Runs a program in a container that runs. */
  exec(
    target: ExecTarget,
    argv: readonly string[],
    options: { readonly tty: boolean; readonly stdin: boolean },
  ): Running;
  /** Runs it to the end or the time limit and returns what it printed. */
  execAndCollect(target: ExecTarget, argv: readonly string[], timeoutMs: number): Promise<Collected>;
  findImage(reference: string): Promise<ResolvedImage>;
};
