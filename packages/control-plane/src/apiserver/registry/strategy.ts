/**
 * What one kind does differently on a write. The registry does what all kinds share (metadata, conflicts, generation,
 * no-op writes, managed fields) and asks the strategy for the rest. Kinds without one are plain objects.
 */
import type { FieldError } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";
import type { KindStrategy } from "../seams.ts";
import { defaultsByKind } from "./defaults/kinds.ts";
import { preparations } from "./preparations.ts";
import { validations } from "./validation/kinds.ts";

/** Kinds whose metadata.generation counts spec changes. */
const counted = new Set([
  "/ReplicationController",
  "apps/DaemonSet",
  "apps/Deployment",
  "apps/ReplicaSet",
  "apps/StatefulSet",
  "batch/CronJob",
  "batch/Job",
  "discovery.k8s.io/EndpointSlice",
  "networking.k8s.io/Ingress",
  "networking.k8s.io/IngressClass",
  "networking.k8s.io/NetworkPolicy",
  "networking.k8s.io/ServiceCIDR",
  "policy/PodDisruptionBudget",
  "apiextensions.k8s.io/CustomResourceDefinition",
  "scheduling.k8s.io/PriorityClass",
  "admissionregistration.k8s.io/MutatingWebhookConfiguration",
  "admissionregistration.k8s.io/ValidatingWebhookConfiguration",
]);

export type Strategies = {
  add(key: string, strategy: KindStrategy): void;
  default(info: ResourceInfo, object: ApiObject): void;
  prepare(info: ResourceInfo, object: ApiObject, old: ApiObject | undefined): void;
  validate(info: ResourceInfo, object: ApiObject, old: ApiObject | undefined): FieldError[];
  countsGeneration(info: ResourceInfo): boolean;
};

/** The strategies of the built-in kinds; other folders add to them. */
export function createStrategies(): Strategies {
  const byKind = new Map<string, KindStrategy[]>();
  const of = (info: ResourceInfo): readonly KindStrategy[] => {
    if (info.custom !== undefined) return [];
    const key = `${info.group}/${info.kind}`;
    let list = byKind.get(key);
    if (list === undefined) {
      list = [];
      const setDefaults = defaultsByKind[key];
      const prepare = preparations[key];
      const validate = validations[key];
      if (setDefaults !== undefined) list.push({ default: setDefaults });
      if (prepare !== undefined) list.push({ prepare });
      if (validate !== undefined) list.push({ validate });
      byKind.set(key, list);
    }
    return list;
  };
  return {
    add(key, strategy) {
      const slash = key.lastIndexOf("/");
      const list = of({ group: key.slice(0, slash), kind: key.slice(slash + 1) } as ResourceInfo) as KindStrategy[];
      list.push(strategy);
    },
    default(info, object) {
      if (info.custom !== undefined) info.custom.default(object);
      for (const strategy of of(info)) strategy.default?.(object);
    },
    prepare(info, object, old) {
      for (const strategy of of(info)) strategy.prepare?.(object, old);
    },
    validate(info, object, old) {
      const errors = of(info).flatMap((strategy) => strategy.validate?.(object, old) ?? []);
      return info.custom === undefined ? errors : [...errors, ...info.custom.validate(object, old)];
    },
    countsGeneration: (info) => info.custom !== undefined || counted.has(`${info.group}/${info.kind}`),
  };
}
