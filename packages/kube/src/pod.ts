/** What components ask a pod: is it ready, over, available; what does it request; where does it listen. */
import { findCondition } from "./conditions.ts";
import type { Container, Pod, PodCondition, PodSpec } from "./objects.ts";
import { parseQuantity, quantityMilli, quantityValue } from "./quantity.ts";

/** Amounts by resource name: cpu in thousandths, everything else in whole units. */
export type ResourceAmounts = Record<string, number>;

export function podCondition(pod: Pod, type: string): PodCondition | undefined {
  return findCondition(pod.status?.conditions, type);
}

export function isPodReady(pod: Pod): boolean {
  return podCondition(pod, "Ready")?.status === "True";
}

/** Ready for at least minReadySeconds. */
export function isPodAvailable(pod: Pod, minReadySeconds: number, now: Date): boolean {
  return isPodReady(pod) && availableInMs(pod, minReadySeconds, now) <= 0;
}

/** How long a ready pod still has to stay so before it counts as available. */
export function availableInMs(pod: Pod, minReadySeconds: number, now: Date): number {
  const since = podCondition(pod, "Ready")?.lastTransitionTime;
  if (minReadySeconds === 0 || !since) return 0;
  return Date.parse(since) + minReadySeconds * 1000 - now.getTime();
}

/** Succeeded or Failed: it will never run again. */
export function isPodTerminal(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

export function isPodTerminating(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp !== undefined;
}

/** Neither over nor being deleted. */
export function isPodActive(pod: Pod): boolean {
  return !isPodTerminal(pod) && !isPodTerminating(pod);
}

/** Its addresses, one a family; empty before the sandbox is up. */
export function podAddresses(pod: Pod): string[] {
  const all = (pod.status?.podIPs ?? []).map((entry) => entry.ip).filter((ip) => ip !== undefined && ip !== "");
  if (all.length > 0) return all;
  return pod.status?.podIP ? [pod.status.podIP] : [];
}

/** What the scheduler counts: the larger of all containers together and any moment of initialisation, plus overhead. */
export function podRequests(pod: { spec?: PodSpec | undefined }): ResourceAmounts {
  return podResources(pod, "requests");
}

export function podLimits(pod: { spec?: PodSpec | undefined }): ResourceAmounts {
  return podResources(pod, "limits");
}

function podResources(pod: { spec?: PodSpec | undefined }, which: "requests" | "limits"): ResourceAmounts {
  const total: ResourceAmounts = {};
  for (const container of pod.spec?.containers ?? []) addAmounts(total, containerResources(container, which));
  // Sidecars (restartable init containers) run on beside everything that starts after them.
  const sidecars: ResourceAmounts = {};
  let peak: ResourceAmounts = {};
  for (const container of pod.spec?.initContainers ?? []) {
    const own = containerResources(container, which);
    if (container.restartPolicy === "Always") {
      addAmounts(sidecars, own);
      addAmounts(total, own);
      peak = maxAmounts(peak, sidecars);
    } else {
      const moment = { ...sidecars };
      addAmounts(moment, own);
      peak = maxAmounts(peak, moment);
    }
  }
  const result = maxAmounts(total, peak);
  addAmounts(result, amountsOf(pod.spec?.overhead));
  return result;
}

function containerResources(container: Container, which: "requests" | "limits"): ResourceAmounts {
  return amountsOf(container.resources?.[which]);
}

/** Quantities as amounts. */
export function amountsOf(quantities: Record<string, string> | undefined): ResourceAmounts {
  const amounts: ResourceAmounts = {};
  for (const [name, quantity] of Object.entries(quantities ?? {})) {
    amounts[name] = name === "cpu" ? quantityMilli(quantity) : quantityValue(quantity);
  }
  return amounts;
}

function addAmounts(into: ResourceAmounts, from: ResourceAmounts): void {
  for (const [name, amount] of Object.entries(from)) into[name] = (into[name] ?? 0) + amount;
}

function maxAmounts(a: ResourceAmounts, b: ResourceAmounts): ResourceAmounts {
  const result = { ...a };
  for (const [name, amount] of Object.entries(b)) result[name] = Math.max(result[name] ?? 0, amount);
  return result;
}

/** Ports taken on the node itself. With hostNetwork every declared container port is one. */
export function podHostPorts(pod: Pod): { protocol: string; hostIP: string; port: number }[] {
  const containers = [
    ...(pod.spec?.containers ?? []),
    ...(pod.spec?.initContainers ?? []).filter((c) => c.restartPolicy === "Always"),
  ];
  return containers.flatMap((container) =>
    (container.ports ?? []).flatMap(({ hostPort, containerPort, protocol = "TCP", hostIP = "0.0.0.0" }) => {
      const port = hostPort || (pod.spec?.hostNetwork ? containerPort : 0);
      return port > 0 ? [{ protocol, hostIP: hostIP === "" ? "0.0.0.0" : hostIP, port }] : [];
    }),
  );
}

/** A port number for a Service's targetPort or a probe's port, resolving names by the containers' declared ports. */
export function containerPortNumber(pod: Pod, port: number | string, protocol = "TCP"): number | undefined {
  if (typeof port === "number") return port;
  if (/^\d+$/.test(port)) return Number(port);
  for (const container of [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])]) {
    const named = container.ports?.find((one) => one.name === port && (one.protocol ?? "TCP") === protocol);
    if (named) return named.containerPort;
  }
  return undefined;
}

export function podQosClass(pod: Pod): "Guaranteed" | "Burstable" | "BestEffort" {
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  let any = false;
  let guaranteed = true;
  for (const { resources } of containers) {
    for (const name of ["cpu", "memory"]) {
      const limit = parseQuantity(resources?.limits?.[name] ?? 0);
      const request = parseQuantity(resources?.requests?.[name] ?? resources?.limits?.[name] ?? 0);
      if (limit > 0 || request > 0) any = true;
      if (limit === 0 || request !== limit) guaranteed = false;
    }
  }
  return any ? (guaranteed ? "Guaranteed" : "Burstable") : "BestEffort";
}
