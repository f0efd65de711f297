/** ipamd's view of Kubernetes: its Node object by a watch, events and annotations by calls. The API server may be away. */
import type { KubeClient } from "@underlay/kube/client";
import { EventRecorder } from "@underlay/kube/events";
import { Informer } from "@underlay/kube/informer";
import type { KubeObject } from "@underlay/kube/objects";
import { nodes, pods, type Resource } from "@underlay/kube/resources";
import type { Log } from "@underlay/log/log";
import { findEniConfig, type EniConfigAnswer } from "./eni-config.ts";
import type { NodeFacts } from "./ipamd.ts";
import type { Settings } from "./settings.ts";

type EniConfigObject = KubeObject & { readonly spec?: unknown };

const eniConfigResource: Resource<EniConfigObject> = {
  group: "crd.k8s.amazonaws.com",
  version: "v1alpha1",
  kind: "ENIConfig",
  plural: "eniconfigs",
  namespaced: false,
};

const annotation = "vpc.amazonaws.com/pod-ips";
const cordonTaint = "node.kubernetes.io/unschedulable";

/** Starts watching the node; every answer before the first contact is "unknown" or "schedulable". */
export function watchNode(options: {
  readonly client: KubeClient;
  readonly settings: Settings;
  readonly log: Log;
  readonly signal: AbortSignal;
}): NodeFacts {
  const { client, settings, log, signal } = options;
  const { nodeName, customNetworking } = settings;
  const ownPod = { namespace: settings.podNamespace, name: settings.podName };
  const informer = new Informer(client, nodes, { fieldSelector: `metadata.name=${nodeName}` });
  if (nodeName) informer.start(signal);
  const eniConfigs = new Informer<EniConfigObject>(client, eniConfigResource);
  if (customNetworking) eniConfigs.start(signal);
  const recorder = new EventRecorder(client, { component: "aws-node", host: nodeName });
  const node = () => informer.get(nodeName);

  const about = async (namespace: string, name: string, uid: string): Promise<KubeObject> =>
    uid === ""
      ? { apiVersion: "v1", kind: "Pod", metadata: (await client.get(pods, name, { namespace })).metadata }
      : { apiVersion: "v1", kind: "Pod", metadata: { namespace, name, uid } };
  const record = (namespace: string, name: string, uid: string, reason: string, message: string) => {
    if (name === "") return;
    void about(namespace, name, uid)
      .then((pod) => recorder.event(pod, "Warning", reason, message))
      .catch((error: unknown) => log.warn("cannot record an event", { reason, err: error }));
  };
  const annotate = (namespace: string, name: string, value: string) =>
    client.patch(
      pods,
      name,
      { type: "merge", body: { metadata: { annotations: { [annotation]: value } } } },
      { namespace },
    );

  return {
    maxPods() {
      const capacity = Number(node()?.status?.capacity?.["pods"]);
      return Number.isInteger(capacity) && capacity > 0 ? capacity : undefined;
    },
    eniConfig: () => findEniConfig(node()?.metadata, settings, (name) => eniConfigs.get(name)),
    isSchedulable: () =>
      !(node()?.spec?.taints ?? []).some((taint) => taint.key === cordonTaint && taint.effect === "NoSchedule"),
    warn: (reason, message) => record(ownPod.namespace, ownPod.name, "", reason, message),
    warnPod: record,
    annotatePodAddress(namespace, name, address) {
      annotate(namespace, name, address).catch((error: unknown) =>
        log.warn("cannot annotate a pod", { pod: `${namespace}/${name}`, err: error }),
      );
    },
    clearPodAddress(namespace, name, address) {
      client
        .find(pods, name, { namespace })
        .then(async (pod) => {
          if (pod?.metadata.annotations?.[annotation] === address) await annotate(namespace, name, "");
        })
        .catch((error: unknown) =>
          log.warn("cannot clear a pod's annotation", { pod: `${namespace}/${name}`, err: error }),
        );
    },
  };
}

/** Facts of a node without a Kubernetes: what tests and a bare ipamd use. */
export const nodeWithoutApi: NodeFacts = {
  maxPods: () => undefined,
  eniConfig: (): EniConfigAnswer => ({ ok: false, why: "there is no Kubernetes API to read ENIConfigs from" }),
  isSchedulable: () => true,
  warn: () => {},
  warnPod: () => {},
  annotatePodAddress: () => {},
  clearPodAddress: () => {},
};
