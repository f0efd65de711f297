/** The runtime a node has by itself: a shim per pod (`sandbox.ts`, `shim-client.ts`) and the built-in images. */
import type { Pod } from "@underlay/kube/objects";
import { resolveImage, type ResolvedImage } from "@underlay/images/registry";
import type { Cni } from "./cni.ts";
import { execAndCollect, execInPod, type Collected, type ExecTarget, type Running } from "./exec-in-pod.ts";
import { shimDir, type Places } from "./places.ts";
import type { PodRuntime, Sandbox, SandboxRecord } from "./runtime.ts";
import { createSandbox, findSandbox, listSandboxes, removeSandbox } from "./sandbox.ts";
import { ShimClient, type ContainerState } from "./shim-client.ts";

export class ShimRuntime implements PodRuntime {
  readonly version = "underlay://0.1.0";
  readonly #places: Places;
  readonly #cni: Cni;

  constructor(places: Places, cni: Cni) {
    this.#places = places;
    this.#cni = cni;
  }

  createSandbox(pod: Pod): Promise<Sandbox> {
    return createSandbox(pod, this.#places, this.#cni);
  }

  findSandbox(pod: Pod): Promise<Sandbox | undefined> {
    return findSandbox(pod.metadata.uid ?? "", this.#places);
  }

  removeSandbox(uid: string): Promise<void> {
    return removeSandbox(uid, this.#places, this.#cni);
  }

  listSandboxes(): Promise<SandboxRecord[]> {
    return listSandboxes(this.#places);
  }

  lastStates(uid: string): Promise<ContainerState[]> {
    return ShimClient.lastStates(shimDir(this.#places, uid));
  }

  exec(target: ExecTarget, argv: readonly string[], { tty }: { tty: boolean }): Running {
    return execInPod(this.#places.lua, target, argv, tty);
  }

  execAndCollect(target: ExecTarget, argv: readonly string[], timeoutMs: number): Promise<Collected> {
    return execAndCollect(this.#places.lua, target, argv, timeoutMs);
  }

  async findImage(reference: string): Promise<ResolvedImage> {
    return resolveImage(reference);
  }
}
