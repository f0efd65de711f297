/**
 * CustomResourceDefinitions: the resources they add and their own life.
 *
 * A definition is served the moment it is stored (discovery and OpenAPI follow the resource table); its status follows:
 * NamesAccepted, Established, storedVersions. A deleted one loses its objects first, then its finalizer.
 * Never here: how custom objects are stored and written (registry). Read next: `custom-resource.ts`, `validate.ts`, `cel-rules.ts`.
 */
import { isDeepStrictEqual } from "node:util";
import { kubernetesTime, type ApiObject } from "../api-object.ts";
import { builtinResources, type ResourceInfo } from "../resource-info.ts";
import type { Seams, ServerContext } from "../seams.ts";
import { cleanupFinalizer, crdStrategy } from "./crd-strategy.ts";
import { resourcesOf, storageOf } from "./custom-resource.ts";
import { acceptNames, wantedStatus } from "./crd-status.ts";

const storage = "apiextensions.k8s.io/customresourcedefinitions";

/** The CRD seam. */
export function createCrds(context: ServerContext): Pick<Seams, "crds"> {
  context.addStrategy("apiextensions.k8s.io/CustomResourceDefinition", crdStrategy);
  return { crds: { start: () => new CrdController(context).start() } };
}

class CrdController {
  readonly #context: ServerContext;
  readonly #info: ResourceInfo;
  readonly #served = new Map<string, { readonly crd: ApiObject; readonly infos: ResourceInfo[] }>();
  readonly #emptying = new Set<string>();

  constructor(context: ServerContext) {
    this.#context = context;
    this.#info = builtinResources.find((info) => info.storage === storage)!;
  }

  start(): void {
    const { objects } = this.#context;
    objects.subscribe(storage, ({ type, object }) => {
      if (type === "DELETED") this.#served.delete(object.metadata.name);
      else this.#serve(object);
      this.#publish();
      if (type !== "DELETED") this.#follow(object);
    });
    const known = objects.list(storage);
    for (const crd of known) this.#serve(crd);
    this.#publish();
    for (const crd of known) this.#follow(crd);
  }

  #serve(crd: ApiObject): void {
    const before = this.#served.get(crd.metadata.name);
    // A status update leaves the resources as they are, and with them caches keyed by them.
    if (before && isDeepStrictEqual(before.crd["spec"], crd["spec"]) && before.crd.metadata.uid === crd.metadata.uid)
      return;
    const others = [...this.#served.values()]
      .map(({ crd: other }) => other)
      .filter((other) => other.metadata.name !== crd.metadata.name);
    const accepted = acceptNames(crd, others);
    this.#served.set(crd.metadata.name, { crd, infos: accepted.ok ? resourcesOf(crd) : [] });
  }

  #publish(): void {
    this.#context.resources.setCustom([...this.#served.values()].flatMap(({ infos }) => infos));
  }

  /** Brings status, and the end of a deleted definition, forward. */
  #follow(crd: ApiObject): void {
    const work = crd.metadata.deletionTimestamp ? this.#remove(crd) : this.#updateStatus(crd);
    work.catch((err: unknown) => {
      this.#context.log.error("cannot bring a custom resource definition forward", { crd: crd.metadata.name, err });
    });
  }

  async #updateStatus(crd: ApiObject): Promise<void> {
    const others = [...this.#served.values()]
      .map(({ crd: other }) => other)
      .filter((other) => other.metadata.name !== crd.metadata.name);
    const now = kubernetesTime(this.#context.now());
    if (!wantedStatus(crd, others, now)) return;
    await this.#context.writer.update(
      this.#info,
      "",
      crd.metadata.name,
      (current) => {
        const status = wantedStatus(current, others, now);
        return status && { ...current, status };
      },
      "status",
    );
  }

  async #remove(crd: ApiObject): Promise<void> {
    const name = crd.metadata.name;
    if (this.#emptying.has(name) || !crd.metadata.finalizers?.includes(cleanupFinalizer)) return;
    this.#emptying.add(name);
    try {
      await this.#empty(crd);
      await this.#context.writer.update(this.#info, "", name, (current) => ({
        ...current,
        metadata: {
          ...current.metadata,
          finalizers: (current.metadata.finalizers ?? []).filter((f) => f !== cleanupFinalizer),
        },
      }));
    } finally {
      this.#emptying.delete(name);
    }
  }

  /** Deletes every object of a definition and waits until the last has gone (some have finalizers). */
  async #empty(crd: ApiObject): Promise<void> {
    const { objects, writer, log } = this.#context;
    const info = this.#served.get(crd.metadata.name)?.infos[0];
    if (!info) return;
    const key = storageOf(crd);
    const gone = new Promise<void>((resolve) => {
      const done = () => {
        if (objects.list(key).length > 0) return;
        unsubscribe();
        resolve();
      };
      const unsubscribe = objects.subscribe(key, ({ type }) => type === "DELETED" && done());
      queueMicrotask(done);
    });
    for (const object of objects.list(key)) {
      await writer.delete(info, object.metadata.namespace ?? "", object.metadata.name).catch((err: unknown) => {
        log.warn("cannot delete an object of a deleted definition", {
          crd: crd.metadata.name,
          object: object.metadata.name,
          err,
        });
      });
    }
    await gone;
  }
}
