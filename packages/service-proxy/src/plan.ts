/**
 * One service as nftables elements and, where it needs them, chains of its own. Pure: the same service, endpoints and node give
 * the same plan, and what changes in the kernel is the difference of two plans.
 *
 * Most services are elements only. Their verdict names a chain by how many endpoints there are (`d3`: pick one of three), and
 * the endpoints stand in one map a protocol under (address, protocol, port, index). The chains by count are in ruleset.ts.
 *
 *   d<n>        pick one of n                         np<n>       the same for a node port, masqueraded
 *   m<n>        masquerade, then d<n>                 nl<c>-<l>   node port, policy Local: l here, c in the cluster
 *   xl<c>-<l>   external address, policy Local        npu<n>      np<n> without masquerade
 */
import { createHash } from "node:crypto";
import { isIpv6 } from "@underlay/addr/ipv6";
import {
  ip,
  port as portPart,
  proto,
  u32,
  type Element,
  type KeyPart,
  type Verdict,
} from "@underlay/kernel/nft-elements";
import type { EndpointSlice, Service } from "@underlay/kube/objects";
import { chooseEndpoints, keepPositions, type Endpoint, type EndpointChoice, type NodePlace } from "./endpoints.ts";

export type Protocol = "tcp" | "udp" | "sctp";

/** Endpoints by key and index. */
export type EndpointMap = `${"vip_ep" | "vip_local" | "np_ep" | "np_local"}_${Protocol}`;

export type SetName =
  | EndpointMap
  | "cluster_ips"
  | "hairpin"
  | "services"
  | "nodeports"
  | "dead_vips"
  | "dead_nps"
  | "ranged";

export interface PlannedElement {
  readonly set: SetName;
  readonly key: string;
  /** Text of what it maps to; empty for sets. */
  readonly value: string;
  readonly element: Element;
}

export interface ServicePlan {
  readonly elements: PlannedElement[];
  /** Chains by count that verdicts name. */
  readonly sharedChains: string[];
  /** Chains and sets of this service only, as nft text of their bodies. */
  readonly ownChains: Map<string, string>;
  readonly ownSets: Map<string, string>;
  /** Endpoint order by port id, for the next plan. */
  readonly order: Map<string, Endpoint[]>;
  readonly udp: { address: string | undefined; port: number; endpoints: Endpoint[] }[];
  readonly healthCheck: { port: number; localEndpoints: number } | undefined;
}

export interface PlanSettings {
  readonly family: 4 | 6;
  readonly node: NodePlace;
}

const PROTOCOLS = { TCP: "tcp", UDP: "udp", SCTP: "sctp" } as const;

export function planService(
  service: Service,
  slices: readonly EndpointSlice[],
  settings: PlanSettings,
  before?: ServicePlan,
): ServicePlan {
  const draft = new Draft();
  const spec = service.spec;
  const vip = [spec?.clusterIP, ...(spec?.clusterIPs ?? [])].find(
    (address) => address && address !== "None" && familyOfText(address) === settings.family,
  );
  const name = `${service.metadata.namespace}/${service.metadata.name}`;
  let localReady = 0;
  if (
    spec !== undefined &&
    spec.type !== "ExternalName" &&
    vip !== undefined &&
    service.metadata.labels?.["service.kubernetes.io/service-proxy-name"] === undefined
  ) {
    const ofFamily = slices.filter((slice) => slice.addressType === (settings.family === 4 ? "IPv4" : "IPv6"));
    draft.add("cluster_ips", [ip(vip)]);
    for (const port of spec.ports ?? []) {
      const protocol = port.protocol ?? "TCP";
      const id = `${name}:${port.name ?? ""}:${protocol}`;
      const fresh = chooseEndpoints(ofFamily, port, settings.node);
      const choice: EndpointChoice = {
        ...fresh,
        cluster: keepPositions(before?.order.get(id) ?? [], fresh.cluster),
        local: keepPositions(before?.order.get(`${id}/local`) ?? [], fresh.local),
      };
      localReady = Math.max(localReady, fresh.localReady);
      draft.order.set(id, choice.cluster).set(`${id}/local`, choice.local);
      planPort(draft, {
        id,
        service,
        choice,
        vip,
        port: port.port,
        nodePort: port.nodePort,
        protocol: PROTOCOLS[protocol as keyof typeof PROTOCOLS] ?? "tcp",
        family: settings.family,
      });
    }
  }
  const healthCheckNodePort = spec?.externalTrafficPolicy === "Local" ? spec.healthCheckNodePort : undefined;
  return draft.finish(healthCheckNodePort ? { port: healthCheckNodePort, localEndpoints: localReady } : undefined);
}

interface PortFacts {
  id: string;
  service: Service;
  choice: EndpointChoice;
  vip: string;
  port: number;
  nodePort: number | undefined;
  protocol: Protocol;
  family: 4 | 6;
}

function planPort(draft: Draft, facts: PortFacts): void {
  const { service, choice, protocol } = facts;
  const spec = service.spec;
  const sticky = spec?.sessionAffinity === "ClientIP" ? planSticky(draft, facts) : undefined;
  planVip(draft, facts, facts.vip, spec?.internalTrafficPolicy === "Local" ? "local-only" : "cluster", sticky);
  const etp = spec?.externalTrafficPolicy === "Local" ? "local" : "masqueraded";
  for (const address of externalAddresses(service, facts.family))
    planVip(draft, facts, address.ip, etp, sticky, address.ranges);
  if (facts.nodePort) planNodePort(draft, facts, facts.nodePort, etp, sticky);
  for (const one of choice.cluster) {
    // Only a pod of this node can meet itself here.
    if (one.isLocal) draft.add("hairpin", [ip(one.address), ip(one.address), proto(protocol), portPart(one.port)]);
  }
  if (protocol !== "udp") return;
  for (const address of [facts.vip, ...externalAddresses(service, facts.family).map((one) => one.ip)])
    draft.udp.push({ address, port: facts.port, endpoints: choice.cluster.concat(choice.local) });
  if (facts.nodePort)
    draft.udp.push({ address: undefined, port: facts.nodePort, endpoints: choice.cluster.concat(choice.local) });
}

type Form = "cluster" | "local-only" | "masqueraded" | "local";

/** One virtual address and port. */
function planVip(
  draft: Draft,
  facts: PortFacts,
  address: string,
  form: Form,
  sticky: Sticky | undefined,
  ranges: string[] = [],
): void {
  const { choice, protocol } = facts;
  const key = [ip(address), proto(protocol), portPart(facts.port)];
  if (ranges.length > 0) draft.add("ranged", key, { verdict: "goto", chain: planRanges(draft, facts, ranges) });
  const cluster = form === "local-only" ? choice.local : choice.cluster;
  if (cluster.length === 0 && !(form === "local" && choice.local.length > 0)) {
    // Nobody anywhere: refuse at once. Somebody, but not where the policy looks: silence, so that balancers steer away.
    draft.add(
      "dead_vips",
      key,
      choice.any && form === "local-only" ? { verdict: "drop" } : { verdict: "goto", chain: "rej" },
    );
    return;
  }
  if (form === "local" && choice.local.length === 0) draft.add("dead_vips", key, { verdict: "drop" });
  if (sticky !== undefined) {
    draft.add("services", key, {
      verdict: "goto",
      chain: sticky.chainFor(
        form === "local-only"
          ? "local"
          : form === "cluster"
            ? "plain"
            : form === "local"
              ? "local-or-cluster"
              : "masqueraded",
      ),
    });
    return;
  }
  cluster.forEach((one, index) =>
    draft.add(`vip_ep_${protocol}`, [...key, u32(index)], [ip(one.address), portPart(one.port)]),
  );
  if (form === "local")
    choice.local.forEach((one, index) =>
      draft.add(`vip_local_${protocol}`, [...key, u32(index)], [ip(one.address), portPart(one.port)]),
    );
  const chain =
    form === "masqueraded"
      ? `m${cluster.length}`
      : form === "local"
        ? `xl${cluster.length}-${choice.local.length}`
        : `d${cluster.length}`;
  draft.add("services", key, { verdict: "goto", chain: draft.shared(chain) });
}

function planNodePort(
  draft: Draft,
  facts: PortFacts,
  nodePort: number,
  form: "local" | "masqueraded",
  sticky: Sticky | undefined,
): void {
  const { choice, protocol } = facts;
  const key = [proto(protocol), portPart(nodePort)];
  if (choice.cluster.length === 0 && !(form === "local" && choice.local.length > 0)) {
    draft.add("dead_nps", key, { verdict: "goto", chain: "rej" });
    return;
  }
  if (form === "local" && choice.local.length === 0) draft.add("dead_nps", key, { verdict: "drop" });
  if (sticky !== undefined) {
    draft.add("nodeports", key, {
      verdict: "goto",
      chain: sticky.chainFor(form === "local" ? "local-or-cluster" : "masqueraded"),
    });
    return;
  }
  choice.cluster.forEach((one, index) =>
    draft.add(`np_ep_${protocol}`, [...key, u32(index)], [ip(one.address), portPart(one.port)]),
  );
  if (form === "local")
    choice.local.forEach((one, index) =>
      draft.add(`np_local_${protocol}`, [...key, u32(index)], [ip(one.address), portPart(one.port)]),
    );
  const chain = form === "local" ? `nl${choice.cluster.length}-${choice.local.length}` : `np${choice.cluster.length}`;
  draft.add("nodeports", key, { verdict: "goto", chain: draft.shared(chain) });
}

interface Sticky {
  chainFor(form: "plain" | "local" | "masqueraded" | "local-or-cluster"): string;
}

/**
 * ClientIP affinity: an own chain that first looks where this client went before. The sets of clients belong to the service
 * port, so all its addresses stick together; their names hold the endpoint, so they survive changes of the others.
 */
function planSticky(draft: Draft, facts: PortFacts): Sticky {
  const tag = tagOf(facts.id);
  const seconds = facts.service.spec?.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800;
  const family = facts.family === 4 ? "ip" : "ip6";
  const chainOver = (name: string, endpoints: readonly Endpoint[]): string => {
    const tagged = endpoints.map((one) => ({ one, tag: `${tag}_${tagOf(`${one.address} ${one.port}`)}` }));
    for (const { one, tag: own } of tagged) {
      draft.ownSets.set(
        `sticky_${own}`,
        `type ${family === "ip" ? "ipv4_addr" : "ipv6_addr"}; size 65535; flags dynamic,timeout; timeout ${seconds}s;`,
      );
      const to = facts.family === 4 ? `${one.address}:${one.port}` : `[${one.address}]:${one.port}`;
      draft.ownChains.set(
        `ep_${own}`,
        `update @sticky_${own} { ${family} saddr }\nmeta l4proto ${facts.protocol} dnat to ${to}`,
      );
    }
    const known = tagged.map(({ tag: own }) => `${family} saddr @sticky_${own} goto ep_${own}`);
    const fresh = tagged.map(({ tag: own }, index) => `${index} : goto ep_${own}`);
    draft.ownChains.set(
      name,
      [...known, ...(fresh.length > 0 ? [`numgen random mod ${fresh.length} vmap { ${fresh.join(", ")} }`] : [])].join(
        "\n",
      ),
    );
    return name;
  };
  return {
    chainFor(form) {
      switch (form) {
        case "plain":
          return chainOver(`sc_${tag}`, facts.choice.cluster);
        case "local":
          return chainOver(`sl_${tag}`, facts.choice.local);
        case "masqueraded":
          draft.ownChains.set(
            `sm_${tag}`,
            `meta mark set meta mark or 0x4000\ngoto ${chainOver(`sc_${tag}`, facts.choice.cluster)}`,
          );
          return `sm_${tag}`;
        case "local-or-cluster":
          draft.ownChains.set(
            `sx_${tag}`,
            `fib saddr type local goto ${this.chainFor("masqueraded")}\ngoto ${this.chainFor("local")}`,
          );
          return `sx_${tag}`;
      }
    },
  };
}

function planRanges(draft: Draft, facts: PortFacts, ranges: string[]): string {
  const family = facts.family === 4 ? "ip" : "ip6";
  const chain = `from_${tagOf(facts.id)}`;
  draft.ownChains.set(chain, [...ranges.map((range) => `${family} saddr ${range} return`), "drop"].join("\n"));
  return chain;
}

/** externalIPs, and load balancer addresses that are not to be left to a proxy; only the latter have source ranges. */
function externalAddresses(service: Service, family: 4 | 6): { ip: string; ranges: string[] }[] {
  const ranges = (service.spec?.loadBalancerSourceRanges ?? [])
    .map((range) => range.trim())
    .filter((range) => (range.includes(":") ? 6 : 4) === family);
  const balanced = service.spec?.type === "LoadBalancer" ? (service.status?.loadBalancer?.ingress ?? []) : [];
  return [
    ...(service.spec?.externalIPs ?? []).map((address) => ({ ip: address, ranges: [] })),
    ...balanced.flatMap((one) => (one.ip && one.ipMode !== "Proxy" ? [{ ip: one.ip, ranges }] : [])),
  ].filter((one) => familyOfText(one.ip) === family);
}

class Draft {
  readonly elements: PlannedElement[] = [];
  readonly sharedChains = new Set<string>();
  readonly ownChains = new Map<string, string>();
  readonly ownSets = new Map<string, string>();
  readonly order = new Map<string, Endpoint[]>();
  readonly udp: ServicePlan["udp"] = [];

  add(set: SetName, key: KeyPart[], data?: KeyPart[] | Verdict): void {
    const value =
      data === undefined
        ? ""
        : Array.isArray(data)
          ? textOf(data)
          : `${data.verdict}${"chain" in data ? ` ${data.chain}` : ""}`;
    this.elements.push({ set, key: textOf(key), value, element: { key, ...(data === undefined ? {} : { data }) } });
  }

  shared(chain: string): string {
    this.sharedChains.add(chain);
    return chain;
  }

  finish(healthCheck: ServicePlan["healthCheck"]): ServicePlan {
    return {
      elements: this.elements,
      sharedChains: [...this.sharedChains],
      ownChains: this.ownChains,
      ownSets: this.ownSets,
      order: this.order,
      udp: this.udp,
      healthCheck,
    };
  }
}

const textOf = (parts: readonly KeyPart[]): string => parts.map((part) => part.text).join(" . ");
const tagOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 10);
const familyOfText = (address: string): 4 | 6 => (isIpv6(address) ? 6 : 4);
