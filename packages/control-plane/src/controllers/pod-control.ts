/** Creating and deleting pods for a controller, with upstream's events. */
import type { KubeClient } from "@underlay/kube/client";
import { isNamespaceTerminating, isNotFound } from "@underlay/kube/client";
import type { EventRecorder } from "@underlay/kube/events";
import type { KubeObject, Pod, PodTemplateSpec } from "@underlay/kube/objects";
import { pods, type Resource } from "@underlay/kube/resources";
import { ownerReferenceTo } from "./claim.ts";

export type PodOwner<O extends KubeObject = KubeObject> = { object: O; of: Resource<O> };

/** A pod as the template describes it. Pure. */
export function podFromTemplate<O extends KubeObject>(
  owner: PodOwner<O>,
  template: PodTemplateSpec,
  more: {
    name?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    finalizers?: string[];
  } = {},
): Pod {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...(more.name ? { name: more.name } : { generateName: `${owner.object.metadata.name}-` }),
      namespace: owner.object.metadata.namespace,
      labels: { ...labels, ...more.labels },
      annotations: { ...annotations, ...more.annotations },
      finalizers: [...(finalizers ?? []), ...(more.finalizers ?? [])],
      ownerReferences: [ownerReferenceTo(owner.object, owner.of)],
    },
    spec: structuredClone(template.spec),
  };
}

export class PodControl {
  readonly #client: KubeClient;
  readonly #recorder: EventRecorder;

  constructor(client: KubeClient, recorder: EventRecorder) {
    this.#client = client;
    this.#recorder = recorder;
  }

  async create(owner: KubeObject, pod: Pod): Promise<Pod> {
    try {
      const made = await this.#client.create(pods, pod);
      this.#recorder.event(owner, "Normal", "SuccessfulCreate", `Created pod: ${made.metadata.name}`);
      return made;
    } catch (err) {
      if (!isNamespaceTerminating(err))
        this.#recorder.event(owner, "Warning", "FailedCreate", `Error creating: ${(err as Error).message}`);
      throw err;
    }
  }

  /** Deleting what is already gone is success. */
  async delete(owner: KubeObject, pod: Pod): Promise<void> {
    const { name = "", namespace, uid } = pod.metadata;
    try {
      await this.#client.delete(pods, name, { namespace, preconditions: { uid } });
      this.#recorder.event(owner, "Normal", "SuccessfulDelete", `Deleted pod: ${name}`);
    } catch (err) {
      if (isNotFound(err)) return;
      this.#recorder.event(owner, "Warning", "FailedDelete", `Error deleting: ${(err as Error).message}`);
      throw err;
    }
  }
}

/** Runs `count` actions in batches of 1, 2, 4, …; stops at the first batch with an error and returns how many succeeded. */
export async function slowStart(
  count: number,
  action: (index: number) => Promise<void>,
): Promise<{ done: number; error: unknown }> {
  let done = 0;
  for (let batch = 1; done < count; batch *= 2) {
    const size = Math.min(batch, count - done);
    const start = done;
    const results = await Promise.allSettled(Array.from({ length: size }, (_, i) => action(start + i)));
    const failed = results.find((result) => result.status === "rejected");
    done += results.filter((result) => result.status === "fulfilled").length;
    if (failed) return { done, error: failed.reason };
  }
  return { done, error: undefined };
}
