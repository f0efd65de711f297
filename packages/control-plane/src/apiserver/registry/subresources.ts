/**
 * Subresources: which part of an object each of them may write (`select`), and those that take an object of another
 * kind (scale, binding, eviction, token).
 */
import { badRequest, conflict, invalid, resourceNotServed } from "../api-error.ts";
import { kubernetesTime, type ApiObject, type AnyJson } from "../api-object.ts";
import { builtinResources, type ResourceInfo } from "../resource-info.ts";
import type { Seams } from "../seams.ts";
import { evictPod } from "./eviction.ts";
import type { Registry } from "./registry.ts";
import { scaleOf, writePath } from "./scale.ts";
import type { WriteOptions } from "./write-options.ts";

const pods = builtinResources.find((info) => info.storage === "/pods")!;
const success = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" };

export function createSubresources(
  registry: Registry,
  seams: Pick<Seams, "requestToken" | "admitValidating">,
  now: () => number,
) {
  /** POST pods/P/binding: sets the node once. */
  async function bind(namespace: string, name: string, binding: ApiObject, options: WriteOptions): Promise<object> {
    const node = binding["target"]?.name;
    if (!node) throw invalid({ group: "", kind: "Binding" }, name, [{ type: "Required", field: "target.name" }]);
    await registry.update(
      pods,
      {
        namespace,
        name,
        subresource: "binding",
        change: (pod) => {
          if (binding.metadata.uid && binding.metadata.uid !== pod.metadata.uid)
            throw conflict(
              pods,
              name,
              `Precondition failed: UID in precondition: ${binding.metadata.uid}, UID in object meta: ${pod.metadata.uid}`,
            );
          if (pod.metadata.deletionTimestamp !== undefined)
            throw conflict(pods, name, `pod ${name} is being deleted, cannot be assigned to a host`);
          if (pod["spec"].nodeName)
            throw conflict(
              pods,
              name,
              `pod ${name} is already assigned to node ${JSON.stringify(pod["spec"].nodeName)}`,
            );
          pod["spec"].nodeName = node;
          pod.metadata.annotations = { ...pod.metadata.annotations, ...binding.metadata.annotations };
          if (Object.keys(pod.metadata.annotations).length === 0) delete pod.metadata.annotations;
          const conditions = (pod["status"].conditions ?? []).filter((c: AnyJson) => c.type !== "PodScheduled");
          pod["status"].conditions = [
            ...conditions,
            { type: "PodScheduled", status: "True", lastTransitionTime: kubernetesTime(now()) },
          ];
          return pod;
        },
      },
      options,
    );
    return { ...success, code: 201 };
  }

  async function create(
    info: ResourceInfo,
    namespace: string,
    name: string,
    subresource: string,
    body: ApiObject,
    options: WriteOptions,
  ): Promise<object> {
    body.metadata ??= { name };
    if (subresource === "binding") return bind(namespace, name, body, options);
    if (subresource === "eviction") return evictPod(registry, namespace, name, body, options, now);
    if (subresource === "token") {
      const account = registry.object(registry.find(info, namespace, name), info);
      return seams.requestToken(account, body);
    }
    throw resourceNotServed();
  }

  /** The object to write when `given` was sent to a subresource: everything else stays as it is. */
  function select(info: ResourceInfo, subresource: string, given: ApiObject, current: ApiObject): ApiObject {
    const lock = {
      ...(given.metadata.resourceVersion === undefined ? {} : { resourceVersion: given.metadata.resourceVersion }),
      ...(given.metadata.managedFields === undefined ? {} : { managedFields: given.metadata.managedFields }),
    };
    const rest = (): ApiObject => {
      const { resourceVersion: _, ...metadata } = current.metadata;
      return { ...current, metadata: { ...metadata, ...lock } };
    };
    switch (subresource) {
      case "ephemeralcontainers":
        return { ...rest(), spec: { ...current["spec"], ephemeralContainers: given["spec"]?.ephemeralContainers } };
      case "resize":
        return {
          ...rest(),
          spec: { ...current["spec"], containers: given["spec"]?.containers ?? current["spec"].containers },
        };
      case "approval":
        return { ...rest(), status: { ...current["status"], conditions: given["status"]?.conditions } };
      case "finalize":
        return { ...rest(), spec: given["spec"] };
      default:
        return given;
    }
  }

  function getScale(info: ResourceInfo, namespace: string, name: string): object {
    return scaleOf(info, registry.object(registry.find(info, namespace, name), info));
  }

  /** Writes spec.replicas through a Scale; `change` gets the current Scale. */
  async function scale(
    info: ResourceInfo,
    namespace: string,
    name: string,
    change: (scale: ApiObject) => ApiObject,
    options: WriteOptions,
  ): Promise<object> {
    const result = await registry.update(
      info,
      {
        namespace,
        name,
        subresource: "scale",
        change: (object) => {
          const wanted = change(scaleOf(info, object));
          if (wanted.metadata?.name && wanted.metadata.name !== name)
            throw badRequest(
              `the name of the object (${wanted.metadata.name}) does not match the name on the URL (${name})`,
            );
          const replicas = wanted["spec"]?.replicas ?? 0;
          if (!Number.isInteger(replicas) || replicas < 0) {
            throw invalid({ group: "autoscaling", kind: "Scale" }, name, [
              {
                type: "Invalid",
                field: "spec.replicas",
                value: replicas,
                detail: "must be greater than or equal to 0",
              },
            ]);
          }
          writePath(object, info.custom?.scale?.specReplicasPath ?? ".spec.replicas", replicas);
          object.metadata.resourceVersion = wanted.metadata?.resourceVersion ?? "";
          return object;
        },
      },
      options,
    );
    return scaleOf(info, result);
  }

  return { bind, create, select, getScale, scale };
}
