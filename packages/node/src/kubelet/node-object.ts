/** The Node object as this kubelet registers and reports it. Pure. */
import type { Node, NodeCondition } from "@underlay/kube/objects";
import type { NodeSettings } from "./settings.ts";

export type NodeFacts = {
  readonly kernelVersion: string;
  readonly osImage: string;
  readonly machineId: string;
  readonly bootId: string;
  readonly architecture: "amd64" | "arm64";
  /** `name://version` */
  readonly runtime: string;
};

export const notReadyTaint = { key: "node.kubernetes.io/not-ready", effect: "NoSchedule" } as const;

export function nodeLabels(settings: NodeSettings, facts: NodeFacts): Record<string, string> {
  return {
    "beta.kubernetes.io/arch": facts.architecture,
    "beta.kubernetes.io/instance-type": settings.instanceType,
    "beta.kubernetes.io/os": "linux",
    "failure-domain.beta.kubernetes.io/region": settings.region,
    "failure-domain.beta.kubernetes.io/zone": settings.zone,
    "kubernetes.io/arch": facts.architecture,
    "kubernetes.io/hostname": settings.nodeName,
    "kubernetes.io/os": "linux",
    "node.kubernetes.io/instance-type": settings.instanceType,
    "topology.kubernetes.io/region": settings.region,
    "topology.kubernetes.io/zone": settings.zone,
    ...settings.labels,
  };
}

export function nodeObject(settings: NodeSettings, facts: NodeFacts): Node {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: settings.nodeName,
      labels: nodeLabels(settings, facts),
      annotations: {
        "alpha.kubernetes.io/provided-node-ip": settings.nodeIp,
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
      },
    },
    spec: {
      providerID: `aws:///${settings.zone}/${settings.instanceId}`,
      taints: [
        ...settings.taints.map((t) => ({
          key: t.key,
          effect: t.effect,
          ...(t.value === undefined ? {} : { value: t.value }),
        })),
        notReadyTaint,
      ],
    },
  };
}

/** What EKS leaves to pods of an m5.large-like machine: the rest is reserved for system and kubelet. */
export function allocatable(settings: NodeSettings): Record<string, string> {
  const reservedMemoryKi = 11 * settings.maxPods * 1024 + 255 * 1024 + 100 * 1024;
  const memoryKi = Number(settings.memory.replace(/Ki$/, ""));
  return {
    cpu: `${Number(settings.cpu) * 1000 - 70}m`,
    memory: `${memoryKi - reservedMemoryKi}Ki`,
    pods: String(settings.maxPods),
    "ephemeral-storage": "18242267924",
    "hugepages-1Gi": "0",
    "hugepages-2Mi": "0",
  };
}

export function nodeStatus(
  settings: NodeSettings,
  facts: NodeFacts,
  conditions: readonly NodeCondition[],
): NonNullable<Node["status"]> {
  return {
    capacity: {
      cpu: settings.cpu,
      memory: settings.memory,
      pods: String(settings.maxPods),
      "ephemeral-storage": "20893676Ki",
      "hugepages-1Gi": "0",
      "hugepages-2Mi": "0",
    },
    allocatable: allocatable(settings),
    conditions: [...conditions],
    addresses: [
      { type: "InternalIP", address: settings.nodeIp },
      { type: "InternalDNS", address: settings.privateDnsName },
      { type: "Hostname", address: settings.privateDnsName },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: settings.port } },
    nodeInfo: {
      machineID: facts.machineId,
      systemUUID: facts.machineId,
      bootID: facts.bootId,
      kernelVersion: facts.kernelVersion,
      osImage: facts.osImage,
      containerRuntimeVersion: facts.runtime,
      kubeletVersion: settings.version,
      kubeProxyVersion: "",
      operatingSystem: "linux",
      architecture: facts.architecture,
    },
  };
}

/** The kubelet's own conditions; times of unchanged ones are kept. Conditions of others are left alone by the patch. */
export function nodeConditions(ready: boolean, before: readonly NodeCondition[], now: string): NodeCondition[] {
  const why =
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";
  const own: [string, string, string, string][] = [
    ["MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
    ["DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    ["PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"],
    ready
      ? ["Ready", "True", "KubeletReady", "kubelet is posting ready status"]
      : ["Ready", "False", "KubeletNotReady", why],
  ];
  return own.map(([type, status, reason, message]) => {
    const old = before.find((c) => c.type === type);
    const lastTransitionTime = old?.status === status && old.lastTransitionTime ? old.lastTransitionTime : now;
    return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime };
  });
}
