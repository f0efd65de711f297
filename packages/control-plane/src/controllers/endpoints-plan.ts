/** The Endpoints object of a Service (the old form of the same data), for readers that know no EndpointSlices. Pure. */
import type { V1EndpointAddress, V1EndpointSubset } from "@kubernetes/client-node";
import type { Endpoints, Pod, Service, Wire } from "@underlay/kube/objects";
import { isPodReady, isPodTerminal, isPodTerminating, podAddresses } from "@underlay/kube/pod";
import { endpointPorts, publishesNotReady } from "./endpointslice-plan.ts";
import { canonical } from "./template-hash.ts";

type Address = Wire<V1EndpointAddress>;
type Subset = Wire<V1EndpointSubset>;

const mostAddresses = 1000;

export function desiredEndpoints(service: Service, pods: readonly Pod[]): Endpoints {
  const groups = new Map<string, Required<Pick<Subset, "ports">> & { ready: Address[]; notReady: Address[] }>();
  const family = service.spec?.ipFamilies?.[0] ?? "IPv4";
  for (const pod of pods.slice(0, mostAddresses)) {
    const ip = podAddresses(pod).find((one) => one.includes(":") === (family === "IPv6"));
    if (ip === undefined || isPodTerminal(pod) || (isPodTerminating(pod) && !publishesNotReady(service))) continue;
    const ports = endpointPorts(service, pod).map(({ name, ...port }) => ({
      ...port,
      port: port.port ?? 0,
      ...(name ? { name } : {}),
    }));
    const group = groups.get(canonical(ports)) ?? { ports, ready: [], notReady: [] };
    groups.set(canonical(ports), group);
    const { hostname, subdomain } = pod.spec ?? {};
    const address: Address = {
      ip,
      ...(hostname && subdomain === service.metadata.name ? { hostname } : {}),
      ...(pod.spec?.nodeName ? { nodeName: pod.spec.nodeName } : {}),
      targetRef: { kind: "Pod", namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid },
    };
    (publishesNotReady(service) || isPodReady(pod) ? group.ready : group.notReady).push(address);
  }
  const byIp = (a: Address, b: Address) => (a.ip < b.ip ? -1 : 1);
  const subsets = [...groups.values()].map(({ ports, ready, notReady }) => ({
    ...(ready.length > 0 ? { addresses: ready.sort(byIp) } : {}),
    ...(notReady.length > 0 ? { notReadyAddresses: notReady.sort(byIp) } : {}),
    ...(ports && ports.length > 0 ? { ports } : {}),
  }));
  const headless = service.spec?.clusterIP === "None" ? { "service.kubernetes.io/headless": "" } : {};
  return {
    metadata: {
      name: service.metadata.name,
      namespace: service.metadata.namespace,
      labels: { ...service.metadata.labels, ...headless, "endpoints.kubernetes.io/managed-by": "endpoint-controller" },
    },
    subsets,
  };
}

/** Equal in what this controller writes. */
export function sameEndpoints(a: Endpoints, b: Endpoints): boolean {
  return canonical([a.subsets, a.metadata.labels]) === canonical([b.subsets, b.metadata.labels]);
}
