/** Services and endpoint slices of the API server, as the resolver asks for them. Kept by informers; reads are map look-ups. */
import type { KubeClient } from "@underlay/kube/client";
import { Informer } from "@underlay/kube/informer";
import type { EndpointSlice, Service } from "@underlay/kube/objects";
import { endpointSlices, namespaces, services } from "@underlay/kube/resources";
import { endpointLabel, type ClusterView, type EndpointAddress, type ServiceRecord } from "./records.ts";

export class WatchedCluster implements ClusterView {
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #namespaces;
  readonly #zone: string;

  constructor(client: KubeClient, zone: string) {
    this.#zone = zone;
    this.#services = new Informer(client, services, { indexes: { address: (service) => clusterIpsOf(service) } });
    this.#slices = new Informer(client, endpointSlices, {
      indexes: {
        service: (slice) => [serviceKeyOf(slice)],
        address: (slice) =>
          (slice.endpoints ?? []).flatMap((endpoint) => (endpoint.hostname ? endpoint.addresses : [])),
      },
    });
    this.#namespaces = new Informer(client, namespaces);
  }

  start(signal: AbortSignal): void {
    this.#services.start(signal);
    this.#slices.start(signal);
    this.#namespaces.start(signal);
  }

  hasSynced(): boolean {
    return this.#services.hasSynced() && this.#slices.hasSynced() && this.#namespaces.hasSynced();
  }

  service(namespace: string, name: string): ServiceRecord | undefined {
    const service = this.#services.get(`${namespace}/${name}`);
    return service && recordOf(service);
  }

  hasNamespace(name: string): boolean {
    return this.#namespaces.get(name) !== undefined;
  }

  endpoints(service: ServiceRecord): readonly EndpointAddress[] {
    const seen = new Map<string, EndpointAddress>();
    for (const slice of this.#slices.byIndex("service", `${service.namespace}/${service.name}`)) {
      const ports = (slice.ports ?? []).map((port) => ({
        name: port.name ?? "",
        protocol: port.protocol ?? "TCP",
        port: port.port ?? 0,
      }));
      for (const endpoint of slice.endpoints ?? []) {
        for (const address of endpoint.addresses) {
          const known = seen.get(address);
          seen.set(address, {
            address,
            hostname: endpoint.hostname ?? known?.hostname,
            ready: endpoint.conditions?.ready !== false || known?.ready === true,
            ports: [...(known?.ports ?? []), ...ports],
          });
        }
      }
    }
    return [...seen.values()];
  }

  nameOfAddress(address: string): string | undefined {
    const [service] = this.#services.byIndex("address", address);
    if (service) return `${service.metadata.name}.${service.metadata.namespace}.svc.${this.#zone}`;
    const [slice] = this.#slices.byIndex("address", address);
    const endpoint = slice?.endpoints?.find((candidate) => candidate.addresses.includes(address));
    if (!slice || !endpoint) return undefined;
    const [namespace, name] = serviceKeyOf(slice).split("/");
    return `${endpointLabel({ address, hostname: endpoint.hostname })}.${name}.${namespace}.svc.${this.#zone}`;
  }
}

function serviceKeyOf(slice: EndpointSlice): string {
  return `${slice.metadata.namespace}/${slice.metadata.labels?.["kubernetes.io/service-name"] ?? ""}`;
}

function clusterIpsOf(service: Service): string[] {
  const ips = service.spec?.clusterIPs ?? (service.spec?.clusterIP ? [service.spec.clusterIP] : []);
  return ips.filter((ip) => ip !== "None" && ip !== "");
}

function recordOf(service: Service): ServiceRecord {
  return {
    name: service.metadata.name ?? "",
    namespace: service.metadata.namespace ?? "",
    clusterIps: clusterIpsOf(service),
    externalName: service.spec?.type === "ExternalName" ? service.spec.externalName : undefined,
    headless: service.spec?.clusterIP === "None",
    publishNotReady: service.spec?.publishNotReadyAddresses === true,
    ports: (service.spec?.ports ?? []).map((port) => ({
      name: port.name ?? "",
      protocol: port.protocol ?? "TCP",
      port: port.port,
    })),
  };
}
