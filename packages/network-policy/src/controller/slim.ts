/** What the controller keeps of pods and Services: only what the compiler reads, since a cluster has many. */
import type { Container, KubeObject, Pod, Service } from "@underlay/kube/objects";

const annotation = "vpc.amazonaws.com/pod-ips";

export function slimPod({ metadata, spec, status }: Pod): Pod {
  const { name, namespace, uid, resourceVersion, labels } = metadata;
  const addresses = metadata.annotations?.[annotation];
  const container = ({ name: own, ports, restartPolicy }: Container): Container => ({
    name: own,
    ports,
    restartPolicy,
  });
  return {
    metadata: {
      name,
      namespace,
      uid,
      resourceVersion,
      labels,
      ...(addresses ? { annotations: { [annotation]: addresses } } : {}),
    },
    spec: {
      hostNetwork: spec?.hostNetwork,
      containers: (spec?.containers ?? []).map(container),
      initContainers: spec?.initContainers?.filter(({ restartPolicy }) => restartPolicy === "Always").map(container),
    },
    status: {
      // Of the phases, only "over" makes a difference.
      phase: status?.phase === "Succeeded" || status?.phase === "Failed" ? status.phase : "Running",
      hostIP: status?.hostIP,
      podIP: status?.podIP,
      podIPs: status?.podIPs,
    },
  };
}

export function slimService({ metadata, spec }: Service): Service {
  const { name, namespace, uid, resourceVersion } = metadata;
  return {
    metadata: { name, namespace, uid, resourceVersion },
    spec: { clusterIP: spec?.clusterIP, selector: spec?.selector, ports: spec?.ports },
  };
}

/** Equal text: nothing changed that the compiler would see. */
export function readText({ metadata, spec, status }: KubeObject & { spec?: unknown; status?: unknown }): string {
  return JSON.stringify([metadata.labels, metadata.annotations, spec, status]);
}
