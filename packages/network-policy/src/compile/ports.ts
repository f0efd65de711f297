/** Ports of rules, with names resolved: a name stands for what the destination pod's containers call so, with the same protocol. */
import type { Pod, Service } from "@underlay/kube/objects";
import type { PolicyEndpointPort } from "../api/policy-endpoint.ts";
import type { RulePort } from "./cluster-view.ts";

/** The ports of a rule, apart: those that mean the same for every destination, and names. */
export type RulePorts = {
  /** The rule has no port list: every port of every protocol. */
  readonly every: boolean;
  readonly fixed: readonly PolicyEndpointPort[];
  readonly named: readonly NamedPort[];
};
export type NamedPort = { readonly name: string; readonly protocol: string };

export function rulePorts(ports: readonly RulePort[] | undefined): RulePorts {
  const list = ports ?? [];
  const fixed: PolicyEndpointPort[] = [];
  const named: NamedPort[] = [];
  for (const { protocol = "TCP", port, endPort } of list) {
    if (port === undefined || port === null) fixed.push({ protocol });
    else if (typeof port === "number") fixed.push(endPort ? { protocol, port, endPort } : { protocol, port });
    else named.push({ name: port, protocol });
  }
  return { every: list.length === 0, fixed, named };
}

/** The ports towards one pod; undefined when no port of the rule exists there, so that the rule allows nothing. */
export function portsTowardsPod(ports: RulePorts, pod: Pod): PolicyEndpointPort[] | undefined {
  return resolved(ports, (named) => numbersOf(pod, named));
}

/** The ports towards something without names: an address block. */
export function portsWithoutNames(ports: RulePorts): PolicyEndpointPort[] | undefined {
  return resolved(ports, () => []);
}

/** The ports of `ports` when every name stands for the numbers that `lookUp` says. */
export function resolved(
  ports: RulePorts,
  lookUp: (named: NamedPort) => readonly number[],
): PolicyEndpointPort[] | undefined {
  if (ports.every) return [];
  const list = [...ports.fixed];
  for (const named of ports.named) {
    for (const port of lookUp(named)) list.push({ protocol: named.protocol, port });
  }
  return list.length > 0 ? list : undefined;
}

/** What a pod's containers call by this name. Native sidecars run as long as the containers do, so they serve too. */
export function numbersOf(pod: Pod, { name, protocol }: NamedPort): number[] {
  const sidecars = (pod.spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  const numbers = new Set<number>();
  for (const container of [...(pod.spec?.containers ?? []), ...sidecars]) {
    for (const port of container.ports ?? []) {
      if (port.name === name && (port.protocol ?? "TCP") === protocol) numbers.add(port.containerPort);
    }
  }
  return [...numbers].sort((a, b) => a - b);
}

/**
 * The ports of a Service that lead to what a rule allows on the pods behind it; undefined when none does. An agent that sees packets
 * before the Service's address is translated needs them, as upstream's does.
 */
export function portsOfService(
  ports: RulePorts,
  service: Service,
  backends: Iterable<Pod>,
): PolicyEndpointPort[] | undefined {
  if (ports.every) return [];
  const list = ports.fixed.filter(({ port }) => port === undefined);
  const pods = [...backends];
  for (const { port, protocol = "TCP", targetPort = port } of service.spec?.ports ?? []) {
    const numbers = typeof targetPort === "number" ? [targetPort] : targetNumbers(pods, targetPort, protocol);
    const allowed =
      ports.fixed.some((one) => one.protocol === protocol && numbers.some((number) => inRange(one, number))) ||
      ports.named.some((one) => one.protocol === protocol && leadsToName(one, targetPort, numbers, pods));
    if (allowed) list.push({ protocol, port });
  }
  return list.length > 0 ? list : undefined;
}

function inRange({ port, endPort = port }: PolicyEndpointPort, number: number): boolean {
  return port !== undefined && endPort !== undefined && port <= number && number <= endPort;
}

function leadsToName(named: NamedPort, targetPort: number | string, numbers: readonly number[], pods: Pod[]): boolean {
  if (targetPort === named.name) return true;
  return pods.some((pod) => numbersOf(pod, named).some((number) => numbers.includes(number)));
}

function targetNumbers(pods: readonly Pod[], name: string, protocol: string): number[] {
  return pods.flatMap((pod) => numbersOf(pod, { name, protocol }));
}
