/**
 * Watches Services, EndpointSlices, this Node and ServiceCIDRs, and keeps the kernel's tables equal to what they say.
 * Nothing is touched before the first complete picture: until then the rules of an earlier process stand.
 */
import { networkInterfaces } from "node:os";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { contains, overlaps, parseCidr } from "@underlay/addr/cidr";
import { familyOf } from "@underlay/addr/ip";
import type { KubeClient } from "@underlay/kube/client";
import { Informer } from "@underlay/kube/informer";
import { keyOf, type EndpointSlice, type KubeObject, type Node, type Service } from "@underlay/kube/objects";
import { endpointSlices, nodes, resource, services } from "@underlay/kube/resources";
import type { Netns } from "@underlay/kernel/netns";
import type { Log } from "@underlay/log/log";
import type { Freshness, ServiceHealth } from "./health.ts";
import { planService, type ServicePlan } from "./plan.ts";
import { ServiceTable } from "./service-table.ts";
import type { TableFacts } from "./ruleset.ts";

type ServiceCIDR = KubeObject & { spec?: { cidrs?: string[] } };
const serviceCidrs = resource<ServiceCIDR>({
  group: "networking.k8s.io",
  version: "v1",
  kind: "ServiceCIDR",
  plural: "servicecidrs",
  namespaced: false,
});

/** Changes that come together go out together. */
const GATHER_MS = 10;
/** At most one write in so long, as long as writes come one after another. */
const APART_MS = 100;
const RETRY_MS = 1000;
const WHOLE_EVERY_MS = 3_600_000;
const PATIENCE_FOR_CIDRS_MS = 2000;

export interface ProxyOptions {
  client: KubeClient;
  nodeName: string;
  podCidrs: readonly string[];
  nodePortAddresses: readonly string[];
  freshness: Freshness;
  registry: Registry;
  log: Log;
  onHealthChecks: (wanted: ServiceHealth[]) => void;
  /** For tests; the process's own otherwise. */
  netns?: Netns;
}

export class Proxy {
  readonly #o: ProxyOptions;
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #node: Informer<Node>;
  readonly #cidrs: Informer<ServiceCIDR>;
  readonly #tables = new Map<4 | 6, ServiceTable>();
  readonly #dirty = new Set<string>();
  #placeText = "";
  #timer: NodeJS.Timeout | undefined;
  #lastSync = 0;
  #isReady = false;
  readonly #metrics: ReturnType<typeof makeMetrics>;

  constructor(options: ProxyOptions) {
    this.#o = options;
    const { client, log } = options;
    this.#services = new Informer(client, services, { log });
    this.#slices = new Informer(client, endpointSlices, { log, indexes: { service: (slice) => serviceOf(slice) } });
    this.#node = new Informer(client, nodes, { log, fieldSelector: `metadata.name=${options.nodeName}` });
    this.#cidrs = new Informer(client, serviceCidrs, {});
    this.#metrics = makeMetrics(options.registry);
  }

  get node(): Node | undefined {
    return this.#node.get(this.#o.nodeName);
  }

  /** Resolves after the first write. */
  async start(signal: AbortSignal): Promise<void> {
    const touch = (keys: string[], counter: Counter): void => {
      counter.inc();
      for (const key of keys) this.#dirty.add(key);
      this.#schedule();
    };
    const { serviceChanges, endpointChanges } = this.#metrics;
    this.#services.on({
      add: (one) => touch([keyOf(one)], serviceChanges),
      update: (_, one) => touch([keyOf(one)], serviceChanges),
      delete: (one) => touch([keyOf(one)], serviceChanges),
    });
    this.#slices.on({
      add: (one) => touch(serviceOf(one), endpointChanges),
      update: (old, one) => touch([...serviceOf(old), ...serviceOf(one)], endpointChanges),
      delete: (one) => touch(serviceOf(one), endpointChanges),
    });
    const placed = (): void => this.#schedule();
    this.#node.on({ add: placed, update: placed, delete: placed });
    this.#cidrs.on({ add: placed, update: placed, delete: placed });
    for (const informer of [this.#services, this.#slices, this.#node, this.#cidrs]) informer.start(signal);
    await Promise.all([this.#services.synced(signal), this.#slices.synced(signal), this.#node.synced(signal)]);
    // Old API servers have no ServiceCIDRs: then unassigned service addresses just find no route.
    await this.#cidrs.synced(AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_FOR_CIDRS_MS)])).catch(() => {});
    signal.throwIfAborted();
    this.#isReady = true;
    this.#sync();
    const whole = setInterval(() => {
      for (const table of this.#tables.values()) table.distrust();
      this.#schedule();
    }, WHOLE_EVERY_MS);
    signal.addEventListener("abort", () => {
      clearInterval(whole);
      clearTimeout(this.#timer);
      for (const table of this.#tables.values()) table.close();
    });
  }

  #schedule(after = GATHER_MS): void {
    this.#o.freshness.queued();
    if (!this.#isReady || this.#timer !== undefined) return;
    const wait = Math.max(after, this.#lastSync + APART_MS - Date.now());
    this.#timer = setTimeout(() => this.#sync(), wait);
  }

  #sync(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const began = performance.now();
    const keys = new Set(this.#dirty);
    try {
      const place = { name: this.#o.nodeName, zone: this.node?.metadata.labels?.["topology.kubernetes.io/zone"] };
      if (JSON.stringify(place) !== this.#placeText) {
        this.#placeText = JSON.stringify(place);
        for (const service of this.#services.list()) keys.add(keyOf(service));
      }
      for (const family of this.#families()) {
        const table = this.#table(family);
        table.setFacts(this.#facts(family));
        const plans = new Map<string, ServicePlan | undefined>();
        for (const key of keys) {
          const service = this.#services.get(key);
          plans.set(
            key,
            service === undefined
              ? undefined
              : planService(service, this.#slices.byIndex("service", key), { family, node: place }, table.plan(key)),
          );
        }
        const done = table.apply(plans);
        if (done.healed)
          this.#o.log.warn("wrote the whole table: a difference was refused", { family, err: done.healed });
        else this.#o.log.debug("synced", { family, services: plans.size, elements: done.elements, full: done.full });
      }
      for (const key of keys) this.#dirty.delete(key);
      this.#o.onHealthChecks(this.#healthChecks());
      this.#o.freshness.updated();
      this.#metrics.lastSync.set(Date.now() / 1000);
    } catch (err) {
      this.#o.log.error("cannot write the service table", { err });
      this.#metrics.failures.inc();
      for (const key of keys) this.#dirty.add(key);
      for (const table of this.#tables.values()) table.distrust();
      this.#lastSync = Date.now();
      this.#schedule(RETRY_MS);
    }
    this.#lastSync = Date.now();
    this.#metrics.duration.observe((performance.now() - began) / 1000);
  }

  #families(): (4 | 6)[] {
    const hasIpv6 = this.#tables.has(6) || this.#nodeAddresses(6).length > 0;
    return hasIpv6 ? [4, 6] : [4];
  }

  #table(family: 4 | 6): ServiceTable {
    const known = this.#tables.get(family);
    if (known !== undefined) return known;
    const made = new ServiceTable(this.#facts(family), this.#o.netns);
    this.#tables.set(family, made);
    // A family that comes later has every service still before it.
    if (family === 6) for (const service of this.#services.list()) this.#dirty.add(keyOf(service));
    return made;
  }

  #facts(family: 4 | 6): TableFacts {
    const ours = (cidr: string): boolean => parseCidr(cidr).family === family;
    const assigned = this.#cidrs
      .list()
      .flatMap((one) => one.spec?.cidrs ?? [])
      .filter(ours);
    return {
      family,
      nodeAddresses: this.#nodeAddresses(family),
      podCidrs: withoutOverlaps(this.#o.podCidrs.filter(ours)),
      serviceCidrs: withoutOverlaps(assigned),
    };
  }

  #nodeAddresses(family: 4 | 6): string[] {
    const blocks = this.#o.nodePortAddresses;
    if (blocks.length > 0) {
      const own = Object.values(networkInterfaces()).flatMap((addresses) =>
        (addresses ?? []).map((one) => one.address),
      );
      return own.filter(
        (address) =>
          familyOf(address) === family &&
          blocks.some((block) => contains(block, address)) &&
          !contains("127.0.0.0/8", address),
      );
    }
    const primary = (this.node?.status?.addresses ?? []).find(
      (one) => one.type === "InternalIP" && familyOf(one.address) === family,
    );
    return primary === undefined ? [] : [primary.address];
  }

  #healthChecks(): ServiceHealth[] {
    return [...this.#tables.values()]
      .flatMap((table) => [...table.plans()])
      .flatMap(([name, plan]) => (plan.healthCheck === undefined ? [] : [{ name, ...plan.healthCheck }]));
  }
}

function serviceOf(slice: EndpointSlice): string[] {
  const name = slice.metadata.labels?.["kubernetes.io/service-name"];
  return name === undefined ? [] : [`${slice.metadata.namespace}/${name}`];
}

/** An interval set refuses overlaps. */
function withoutOverlaps(cidrs: readonly string[]): string[] {
  const widest = [...new Set(cidrs)].sort((a, b) => parseCidr(a).prefixLength - parseCidr(b).prefixLength);
  return widest.filter((cidr, index) => !widest.slice(0, index).some((wider) => overlaps(wider, cidr)));
}

function makeMetrics(registry: Registry) {
  const registers = [registry];
  return {
    duration: new Histogram({
      name: "kubeproxy_sync_proxy_rules_duration_seconds",
      help: "Time of a sync.",
      buckets: [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192],
      registers,
    }),
    lastSync: new Gauge({
      name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
      help: "When the last sync succeeded.",
      registers,
    }),
    serviceChanges: new Counter({
      name: "kubeproxy_sync_proxy_rules_service_changes_total",
      help: "Changes of Services seen.",
      registers,
    }),
    endpointChanges: new Counter({
      name: "kubeproxy_sync_proxy_rules_endpoint_changes_total",
      help: "Changes of EndpointSlices seen.",
      registers,
    }),
    failures: new Counter({
      name: "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
      help: "Syncs that failed.",
      registers,
    }),
  };
}
