/** Sends one pod's status to the API server: only what changed, one request at a time, again until it arrives. */
import { isConflict, isNotFound, type KubeClient } from "@underlay/kube/client";
import type { Pod, PodStatus } from "@underlay/kube/objects";
import { pods } from "@underlay/kube/resources";

export class StatusWriter {
  readonly #client: KubeClient;
  readonly #pod: Pod;
  #wanted: { text: string; status: PodStatus } | undefined;
  #sent = "";
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(client: KubeClient, pod: Pod) {
    this.#client = client;
    this.#pod = pod;
  }

  /** Never waits and never throws. */
  set(status: PodStatus): void {
    const text = JSON.stringify(status);
    if (text === this.#sent && !this.#running) return;
    this.#wanted = { text, status };
    this.#running ??= this.#send().finally(() => (this.#running = undefined));
  }

  /** Resolves when the last status set has arrived (or the pod is gone). */
  async flush(): Promise<void> {
    await this.#running;
  }

  stop(): void {
    this.#stopped = true;
  }

  async #send(): Promise<void> {
    const { namespace = "", name = "", uid } = this.#pod.metadata;
    let delayMs = 200;
    while (this.#wanted && this.#wanted.text !== this.#sent && !this.#stopped) {
      const { text, status } = this.#wanted;
      try {
        await this.#client.patch(
          pods,
          name,
          { type: "strategic", body: { metadata: { uid }, status } },
          { namespace, subresource: "status" },
        );
        this.#sent = text;
      } catch (err) {
        // Another pod of that name (the uid is a precondition), or none: nothing is left to report to.
        if (isNotFound(err) || isConflict(err)) return;
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        delayMs = Math.min(delayMs * 2, 10_000);
      }
    }
  }
}
