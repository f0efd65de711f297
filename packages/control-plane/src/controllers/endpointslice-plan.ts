/** Which EndpointSlices a Service should have, and the smallest change that gets there. Pure. */
import type { Wire } from "@underlay/kube/objects";
import type { DiscoveryV1EndpointPort } from "@kubernetes/client-node";
import type { Endpoint, EndpointSlice, Node, Pod, Service } from "@underlay/kube/objects";
import { containerPortNumber, isPodReady, isPodTerminal, isPodTerminating, podAddresses } from "@underlay/kube/pod";
import { services } from "@underlay/kube/resources";
import { ownerReferenceTo } from "./claim.ts";
import { canonical } from "./template-hash.ts";

export type EndpointPort = Wire<DiscoveryV1EndpointPort>;
export type SlicePlan = { create: EndpointSlice[]; update: EndpointSlice[]; delete: EndpointSlice[] };
type Group = { addressType: "IPv4" | "IPv6"; ports: EndpointPort[]; endpoints: Endpoint[] };
export type ZoneOf = (node: string) => Node | undefined;

export const managedBy = "endpointslice-controller.k8s.io";
export const serviceNameLabel = "kubernetes.io/service-name";
const managedByLabel = "endpointslice.kubernetes.io/managed-by";
const headlessLabel = "service.kubernetes.io/headless";
const endpointsPerSlice = 100;

export function planEndpointSlices(
  service: Service,
  pods: readonly Pod[],
  existing: readonly EndpointSlice[],
  nodeOf: ZoneOf,
): SlicePlan {
  const plan: SlicePlan = { create: [], update: [], delete: [] };
  const ours = existing.filter((slice) => slice.metadata.deletionTimestamp === undefined);
  const spare = new Set(ours);
  for (const group of groupsOf(service, pods, nodeOf)) {
    const same = ours.filter((slice) => slice.addressType === group.addressType && samePorts(slice.ports, group.ports));
    for (const slice of same) spare.delete(slice);
    planGroup(service, group, same, plan);
  }
  plan.delete.push(...spare);
  return plan;
}

/** Endpoints stay in the slice they are in; new ones fill slices with room, then new slices. */
function planGroup(service: Service, group: Group, slices: readonly EndpointSlice[], plan: SlicePlan): void {
  const wanted = new Map(group.endpoints.map((endpoint) => [identityOf(endpoint), endpoint]));
  const kept = slices.map((slice) => {
    const endpoints: Endpoint[] = [];
    for (const old of slice.endpoints ?? []) {
      const current = wanted.get(identityOf(old));
      if (!current) continue;
      endpoints.push(current);
      wanted.delete(identityOf(old));
    }
    return { slice, endpoints };
  });
  const left = [...wanted.values()];
  for (const { endpoints } of kept) endpoints.push(...left.splice(0, endpointsPerSlice - endpoints.length));
  const used = kept.filter(({ endpoints }) => endpoints.length > 0);
  // Without any endpoint one empty slice stays, so that readers know the Service was looked at.
  const [placeholder] = kept;
  const keep = used.length > 0 || left.length > 0 || !placeholder ? used : [placeholder];
  for (const one of kept) if (!keep.includes(one)) plan.delete.push(one.slice);
  for (const { slice, endpoints } of keep) {
    const next = { ...slice, endpoints, metadata: { ...slice.metadata, labels: labelsOf(service) } };
    const changed =
      canonical(next.endpoints) !== canonical(slice.endpoints) ||
      canonical(next.metadata.labels) !== canonical(slice.metadata.labels);
    if (changed) plan.update.push(next);
  }
  while (
    left.length > 0 ||
    (keep.length === 0 &&
      !plan.create.some((made) => made.addressType === group.addressType && samePorts(made.ports, group.ports)))
  ) {
    plan.create.push(newSlice(service, group, left.splice(0, endpointsPerSlice)));
  }
}

function newSlice(service: Service, group: Group, endpoints: Endpoint[]): EndpointSlice {
  return {
    metadata: {
      generateName: `${service.metadata.name}-`,
      namespace: service.metadata.namespace,
      labels: labelsOf(service),
      ownerReferences: [ownerReferenceTo(service, services)],
    },
    addressType: group.addressType,
    ports: group.ports,
    endpoints,
  };
}

function labelsOf(service: Service): Record<string, string> {
  const { [headlessLabel]: _, ...copied } = service.metadata.labels ?? {};
  return {
    ...copied,
    ...(service.spec?.clusterIP === "None" ? { [headlessLabel]: "" } : {}),
    [serviceNameLabel]: service.metadata.name ?? "",
    [managedByLabel]: managedBy,
  };
}

/** Endpoints by address family and by the port numbers their pods resolve to. */
function groupsOf(service: Service, pods: readonly Pod[], nodeOf: ZoneOf): Group[] {
  const groups = new Map<string, Group>();
  const families = service.spec?.ipFamilies ?? ["IPv4"];
  for (const family of families) {
    const addressType = family === "IPv6" ? "IPv6" : "IPv4";
    let found = false;
    for (const pod of pods) {
      const address = podAddresses(pod).find((one) => one.includes(":") === (addressType === "IPv6"));
      if (address === undefined || isPodTerminal(pod)) continue;
      found = true;
      const ports = endpointPorts(service, pod);
      const key = `${addressType}/${canonical(ports)}`;
      const group = groups.get(key) ?? { addressType, ports, endpoints: [] };
      group.endpoints.push(endpointOf(service, pod, address, nodeOf));
      groups.set(key, group);
    }
    if (!found) groups.set(addressType, { addressType, ports: [], endpoints: [] });
  }
  for (const group of groups.values()) addHints(service, group);
  return [...groups.values()];
}

/** The Service's ports as numbers on this pod; a name the pod does not declare is left out. */
export function endpointPorts(service: Service, pod: Pod): EndpointPort[] {
  return (service.spec?.ports ?? []).flatMap(({ name = "", port, targetPort, protocol = "TCP", appProtocol }) => {
    const number = containerPortNumber(pod, targetPort ?? port, protocol);
    return number === undefined
      ? []
      : [{ name, port: number || port, protocol, ...(appProtocol ? { appProtocol } : {}) }];
  });
}

export function publishesNotReady(service: Service): boolean {
  return (
    service.spec?.publishNotReadyAddresses === true ||
    service.metadata.annotations?.["service.alpha.kubernetes.io/tolerate-unready-endpoints"] === "true"
  );
}

function endpointOf(service: Service, pod: Pod, address: string, nodeOf: ZoneOf): Endpoint {
  const serving = isPodReady(pod);
  const terminating = isPodTerminating(pod);
  const node = pod.spec?.nodeName;
  const zone = node ? nodeOf(node)?.metadata.labels?.["topology.kubernetes.io/zone"] : undefined;
  const { hostname, subdomain } = pod.spec ?? {};
  return {
    addresses: [address],
    conditions: { ready: publishesNotReady(service) || (serving && !terminating), serving, terminating },
    ...(hostname && subdomain === service.metadata.name ? { hostname } : {}),
    ...(node ? { nodeName: node } : {}),
    ...(zone ? { zone } : {}),
    targetRef: { kind: "Pod", namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid },
  };
}

function addHints(service: Service, { endpoints }: Group): void {
  const distribution = service.spec?.trafficDistribution;
  const sameNode = distribution === "PreferSameNode";
  if (!sameNode && distribution !== "PreferClose" && distribution !== "PreferSameZone") return;
  for (const endpoint of endpoints) {
    const forZones = endpoint.zone ? { forZones: [{ name: endpoint.zone }] } : {};
    const forNodes = sameNode && endpoint.nodeName ? { forNodes: [{ name: endpoint.nodeName }] } : {};
    if (endpoint.zone || sameNode) endpoint.hints = { ...forZones, ...forNodes };
  }
}

function identityOf(endpoint: Endpoint): string {
  return `${endpoint.targetRef?.uid ?? ""}/${endpoint.addresses.join(",")}`;
}

function samePorts(a: readonly EndpointPort[] | undefined, b: readonly EndpointPort[]): boolean {
  const text = (ports: readonly EndpointPort[] = []) =>
    ports
      .map((port) => canonical({ ...port, name: port.name ?? "" }))
      .sort()
      .join();
  return text(a) === text(b);
}
