/** From what the kubelet wants to start (`ShimContainer`, the same for every runtime) to CRI's messages. Pure. */
import { basename, dirname, join } from "node:path";
import type { Pod } from "@underlay/kube/objects";
import { quantityMilli, quantityValue } from "@underlay/kube/quantity";
import { capabilityName } from "../kubelet/container-user.ts";
import { podHostname } from "../kubelet/resolver-files.ts";
import { portMappings } from "../kubelet/sandbox.ts";
import { podLogDir, type Places } from "../kubelet/places.ts";
import type { ShimContainer } from "../kubelet/shim-client.ts";
import type { ContainerConfig, PodSandboxConfig } from "./cri-client.ts";

export const uidLabel = "io.kubernetes.pod.uid";
const cpuPeriod = 100_000;

export function sandboxConfig(pod: Pod, places: Places, attempt: number): PodSandboxConfig {
  const { name = "", namespace = "", uid = "" } = pod.metadata;
  const annotations = Object.entries(pod.metadata.annotations ?? {}).filter(([key]) =>
    /^kubernetes\.io\/(in|e)gress-bandwidth$/.test(key),
  );
  return {
    metadata: { name, namespace, uid, attempt },
    hostname: pod.spec?.hostNetwork ? "" : podHostname(pod),
    logDirectory: podLogDir(places, { name, namespace, uid }),
    portMappings: portMappings(pod).map((port) => ({
      protocol: port.protocol.toUpperCase(),
      containerPort: port.containerPort,
      hostPort: port.hostPort,
      ...(port.hostIP ? { hostIp: port.hostIP } : {}),
    })),
    labels: podLabels(pod),
    annotations: Object.fromEntries(annotations),
    linux: {
      cgroupParent: `/kubepods/pod${uid}`,
      securityContext: {
        namespaceOptions: namespaces(pod),
        privileged: (pod.spec?.containers ?? []).some((container) => container.securityContext?.privileged),
      },
      sysctls: Object.fromEntries(
        (pod.spec?.securityContext?.sysctls ?? []).map(({ name: key, value }) => [key, value]),
      ),
    },
  };
}

export function containerConfig(
  pod: Pod,
  spec: ShimContainer,
  image: { readonly reference: string; readonly mounts: readonly { source: string; target: string }[] },
): ContainerConfig {
  const wanted =
    pod.spec?.containers?.find(({ name }) => name === spec.name) ??
    pod.spec?.initContainers?.find(({ name }) => name === spec.name);
  const propagation = {
    None: "PROPAGATION_PRIVATE",
    HostToContainer: "PROPAGATION_HOST_TO_CONTAINER",
    Bidirectional: "PROPAGATION_BIDIRECTIONAL",
  };
  return {
    metadata: { name: spec.name, attempt: spec.attempt },
    image: { image: image.reference },
    command: spec.argv,
    workingDir: spec.cwd,
    envs: spec.env.map((entry) => ({
      key: entry.slice(0, entry.indexOf("=")),
      value: entry.slice(entry.indexOf("=") + 1),
    })),
    mounts: [
      ...image.mounts.map(({ source, target }) => ({ hostPath: source, containerPath: target, readonly: true })),
      ...spec.mounts.map((mount) => ({
        hostPath: mount.source,
        containerPath: mount.target,
        ...(mount.readOnly ? { readonly: true } : {}),
        ...(mount.propagation ? { propagation: propagation[mount.propagation] } : {}),
      })),
    ],
    labels: { ...podLabels(pod), "io.kubernetes.container.name": spec.name },
    logPath: join(basename(dirname(spec.logPath)), basename(spec.logPath)),
    ...(spec.stdin ? { stdin: true } : {}),
    ...(spec.stdinOnce ? { stdinOnce: true } : {}),
    ...(spec.tty ? { tty: true } : {}),
    linux: {
      resources: resources(wanted?.resources),
      securityContext: {
        ...(spec.capabilities
          ? { capabilities: { addCapabilities: spec.capabilities.map(capabilityName), dropCapabilities: ["ALL"] } }
          : {}),
        ...(spec.privileged ? { privileged: true } : {}),
        namespaceOptions: {
          ...namespaces(pod),
          ...(spec.sharePid && !pod.spec?.hostPID ? { pid: "POD" as const } : {}),
        },
        runAsUser: { value: spec.uid },
        runAsGroup: { value: spec.gid },
        ...(spec.readOnlyRoot ? { readonlyRootfs: true } : {}),
        supplementalGroups: spec.groups,
        ...(spec.noNewPrivs ? { noNewPrivs: true } : {}),
      },
    },
  };
}

function podLabels(pod: Pod): Record<string, string> {
  const { name = "", namespace = "", uid = "" } = pod.metadata;
  return { "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace, [uidLabel]: uid };
}

function namespaces(pod: Pod): PodSandboxConfig["linux"]["securityContext"]["namespaceOptions"] {
  return {
    network: pod.spec?.hostNetwork ? "NODE" : "POD",
    pid: pod.spec?.hostPID ? "NODE" : pod.spec?.shareProcessNamespace ? "POD" : "CONTAINER",
    ipc: pod.spec?.hostIPC ? "NODE" : "POD",
  };
}

/** Upstream's conversion: a millicore is 1024/1000 shares (at least 2) and 100 µs of each 100 ms (at least 1 ms). */
export function resources(
  of: { requests?: Record<string, string> | undefined; limits?: Record<string, string> | undefined } | undefined,
): ContainerConfig["linux"]["resources"] {
  const requested = of?.requests?.["cpu"] ?? of?.limits?.["cpu"];
  const cpuLimit = of?.limits?.["cpu"];
  const memoryLimit = of?.limits?.["memory"];
  return {
    cpuShares: requested ? Math.max(2, Math.round((quantityMilli(requested) * 1024) / 1000)) : 2,
    ...(cpuLimit
      ? { cpuPeriod, cpuQuota: Math.max(1000, Math.round((quantityMilli(cpuLimit) * cpuPeriod) / 1000)) }
      : {}),
    ...(memoryLimit ? { memoryLimitInBytes: quantityValue(memoryLimit) } : {}),
  };
}
