/**
 * What the wire carries: Kubernetes objects as JSON has them, derived from client-node's types
 * (there `Date` is parsed and `continue` is called `_continue`; here everything is as sent).
 */
import type * as k8s from "@kubernetes/client-node";

/** A client-node type as JSON has it; optional fields may also be given as undefined. */
export type Wire<T> = T extends Date
  ? string
  : T extends (infer E)[]
    ? Wire<E>[]
    : T extends object
      ? {
          [K in keyof T as K extends `_${infer Name}` ? Name : K]: string extends K
            ? Wire<T[K]>
            : {} extends Pick<T, K>
              ? Wire<T[K]> | undefined
              : Wire<T[K]>;
        }
      : T;

export type ObjectMeta = Wire<k8s.V1ObjectMeta>;
export type OwnerReference = Wire<k8s.V1OwnerReference>;

/** Anything with metadata. Objects read from a server always have it. */
export type KubeObject = { apiVersion?: string | undefined; kind?: string | undefined; metadata: ObjectMeta };

type Known<T> = Wire<T> & KubeObject;
export type Pod = Known<k8s.V1Pod>;
export type Node = Known<k8s.V1Node>;
export type Service = Known<k8s.V1Service>;
export type Endpoints = Known<k8s.V1Endpoints>;
export type EndpointSlice = Known<k8s.V1EndpointSlice>;
export type ConfigMap = Known<k8s.V1ConfigMap>;
export type Secret = Known<k8s.V1Secret>;
export type ServiceAccount = Known<k8s.V1ServiceAccount>;
export type Namespace = Known<k8s.V1Namespace>;
export type Event = Known<k8s.CoreV1Event>;
export type Lease = Known<k8s.V1Lease>;
export type Deployment = Known<k8s.V1Deployment>;
export type ReplicaSet = Known<k8s.V1ReplicaSet>;
export type StatefulSet = Known<k8s.V1StatefulSet>;
export type DaemonSet = Known<k8s.V1DaemonSet>;
export type ControllerRevision = Known<k8s.V1ControllerRevision>;
export type Job = Known<k8s.V1Job>;
export type CronJob = Known<k8s.V1CronJob>;
export type PodDisruptionBudget = Known<k8s.V1PodDisruptionBudget>;
export type PriorityClass = Known<k8s.V1PriorityClass>;
export type CertificateSigningRequest = Known<k8s.V1CertificateSigningRequest>;
export type CustomResourceDefinition = Known<k8s.V1CustomResourceDefinition>;
export type PersistentVolumeClaim = Known<k8s.V1PersistentVolumeClaim>;
export type NetworkPolicy = Known<k8s.V1NetworkPolicy>;
export type Ingress = Known<k8s.V1Ingress>;
export type IngressClass = Known<k8s.V1IngressClass>;
export type StorageClass = Known<k8s.V1StorageClass>;
export type ClusterRole = Known<k8s.V1ClusterRole>;
export type ClusterRoleBinding = Known<k8s.V1ClusterRoleBinding>;
export type Role = Known<k8s.V1Role>;
export type RoleBinding = Known<k8s.V1RoleBinding>;
export type Scale = Known<k8s.V1Scale>;
export type TokenRequest = Known<k8s.AuthenticationV1TokenRequest>;

export type PodSpec = Wire<k8s.V1PodSpec>;
export type PodStatus = Wire<k8s.V1PodStatus>;
export type PodTemplateSpec = Wire<k8s.V1PodTemplateSpec>;
export type PodCondition = Wire<k8s.V1PodCondition>;
export type Container = Wire<k8s.V1Container>;
export type ContainerStatus = Wire<k8s.V1ContainerStatus>;
export type Volume = Wire<k8s.V1Volume>;
export type Probe = Wire<k8s.V1Probe>;
export type Toleration = Wire<k8s.V1Toleration>;
export type Taint = Wire<k8s.V1Taint>;
export type NodeCondition = Wire<k8s.V1NodeCondition>;
export type ServicePort = Wire<k8s.V1ServicePort>;
export type Endpoint = Wire<k8s.V1Endpoint>;
export type LabelSelector = Wire<k8s.V1LabelSelector>;
export type ObjectReference = Wire<k8s.V1ObjectReference>;

/** The condition shape that all kinds share. */
export type Condition = {
  type: string;
  status: string;
  reason?: string | undefined;
  message?: string | undefined;
  lastTransitionTime?: string | undefined;
  observedGeneration?: number | undefined;
};

export type ListMeta = { resourceVersion?: string; continue?: string; remainingItemCount?: number };
export type List<T> = { apiVersion?: string; kind?: string; metadata: ListMeta; items: T[] };

/** The body of a failed answer. */
export type Status = {
  kind?: string;
  status?: string;
  message?: string;
  reason?: string;
  code?: number;
  details?: {
    name?: string;
    group?: string;
    kind?: string;
    uid?: string;
    retryAfterSeconds?: number;
    causes?: { reason?: string; message?: string; field?: string }[];
  };
};

/** "namespace/name", or "name" for cluster-scoped objects. */
export function keyOf(object: KubeObject): string {
  const { namespace, name = "" } = object.metadata;
  return namespace ? `${namespace}/${name}` : name;
}

/** The halves of a key made by keyOf. */
export function splitKey(key: string): { namespace: string | undefined; name: string } {
  const slash = key.indexOf("/");
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** The owner reference with `controller: true`, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true);
}
