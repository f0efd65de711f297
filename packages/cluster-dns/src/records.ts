/**
 * What the names of a cluster's zone mean: a pure function from a question and a view of Services and endpoints to an answer.
 * Follows the Kubernetes DNS specification 1.1.0 and CoreDNS's kubernetes plugin.
 */
import { isIP } from "node:net";
import type { Answer } from "dns-packet";

export type EndpointAddress = {
  readonly address: string;
  readonly hostname: string | undefined;
  readonly ready: boolean;
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
};

export type ServiceRecord = {
  readonly name: string;
  readonly namespace: string;
  /** Cluster addresses; empty for headless and ExternalName. */
  readonly clusterIps: readonly string[];
  readonly externalName: string | undefined;
  readonly headless: boolean;
  readonly publishNotReady: boolean;
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
};

/** The cluster as the resolver sees it. */
export type ClusterView = {
  service(namespace: string, name: string): ServiceRecord | undefined;
  hasNamespace(name: string): boolean;
  endpoints(service: ServiceRecord): readonly EndpointAddress[];
  /** The service (or endpoint of a headless one) an address belongs to. */
  nameOfAddress(address: string): string | undefined;
};

export type ZoneSettings = {
  readonly zone: string;
  readonly podRecords: "disabled" | "insecure";
  readonly ttlSeconds: number;
};

export type Question = { readonly name: string; readonly type: string };

export type ZoneAnswer =
  | { readonly kind: "records"; readonly answers: readonly Answer[]; readonly additionals: readonly Answer[] }
  | { readonly kind: "alias"; readonly answers: readonly Answer[]; readonly follow: Question }
  | { readonly kind: "no-data" }
  | { readonly kind: "no-name" };

const noName = { kind: "no-name" } as const;
const noData = { kind: "no-data" } as const;

/** Answers a question inside `settings.zone` (the caller has checked that it is). */
export function answerZone(question: Question, settings: ZoneSettings, view: ClusterView): ZoneAnswer {
  const name = question.name.toLowerCase();
  const labels = name === settings.zone ? [] : name.slice(0, -settings.zone.length - 1).split(".");
  const top = labels.at(-1);
  if (top === undefined) return noData;
  if (labels.length === 1 && top === "dns-version") {
    return question.type === "TXT" ? records([{ type: "TXT", name, ttl: settings.ttlSeconds, data: "1.1.0" }]) : noData;
  }
  if (top === "svc") return answerService(question, name, labels.slice(0, -1), settings, view);
  if (top === "pod") return answerPod(question, name, labels.slice(0, -1), settings, view);
  return noName;
}

function answerService(
  question: Question,
  name: string,
  labels: readonly string[],
  settings: ZoneSettings,
  view: ClusterView,
): ZoneAnswer {
  const namespace = labels.at(-1);
  if (namespace === undefined) return noData;
  if (labels.length === 1) return view.hasNamespace(namespace) ? noData : noName;
  const service = view.service(namespace, labels.at(-2) ?? "");
  if (!service) return noName;
  const rest = labels.slice(0, -2);
  if (service.externalName)
    return rest.length === 0 ? alias(question, name, service.externalName, settings.ttlSeconds) : noName;

  const endpoints = service.headless
    ? view.endpoints(service).filter((endpoint) => endpoint.ready || service.publishNotReady)
    : [];
  if (service.headless && endpoints.length === 0) return noName;
  if (rest.length === 0) {
    if (question.type === "SRV") return serviceRecords(service.ports, name, service, endpoints, settings);
    return addresses(
      question,
      name,
      service.headless ? endpoints.map(({ address }) => address) : service.clusterIps,
      settings.ttlSeconds,
    );
  }
  if (rest.length === 2 && rest[0]?.startsWith("_") && rest[1]?.startsWith("_")) {
    const ports = service.ports.filter(
      (port) => `_${port.name}` === rest[0] && `_${port.protocol.toLowerCase()}` === rest[1],
    );
    if (ports.length === 0) return noName;
    return question.type === "SRV" ? serviceRecords(ports, name, service, endpoints, settings) : noData;
  }
  if (rest.length === 1 && service.headless) {
    const own = endpoints.filter((endpoint) => endpointLabel(endpoint) === rest[0]);
    return own.length === 0
      ? noName
      : addresses(
          question,
          name,
          own.map(({ address }) => address),
          settings.ttlSeconds,
        );
  }
  return noName;
}

/** `10-0-1-7.<namespace>.pod.<zone>`: the literal address, for a namespace that exists ("pods insecure"). */
function answerPod(
  question: Question,
  name: string,
  labels: readonly string[],
  settings: ZoneSettings,
  view: ClusterView,
): ZoneAnswer {
  const namespace = labels.at(-1);
  if (namespace === undefined) return noData;
  if (settings.podRecords === "disabled" || !view.hasNamespace(namespace)) return noName;
  if (labels.length === 1) return noData;
  const label = labels[0] ?? "";
  const address = [label.replaceAll("-", "."), label.replaceAll("-", ":")].find((candidate) => isIP(candidate) !== 0);
  return labels.length === 2 && address ? addresses(question, name, [address], settings.ttlSeconds) : noName;
}

/** The PTR answer of an address, if a Service or a named endpoint has it. */
export function answerReverse(question: Question, settings: ZoneSettings, view: ClusterView): ZoneAnswer | undefined {
  const address = addressOfReverse(question.name.toLowerCase());
  const target = address && view.nameOfAddress(address);
  if (!target) return undefined;
  return question.type === "PTR"
    ? records([{ type: "PTR", name: question.name, ttl: settings.ttlSeconds, data: target }])
    : noData;
}

/** `4.3.2.1.in-addr.arpa` → `1.2.3.4`; undefined for partial and IPv6 names (those clusters come later). */
export function addressOfReverse(name: string): string | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(name);
  return match ? `${match[4]}.${match[3]}.${match[2]}.${match[1]}` : undefined;
}

/** The label of a headless service's endpoint: its hostname, else its address with dashes. */
export function endpointLabel(endpoint: Pick<EndpointAddress, "address" | "hostname">): string {
  return endpoint.hostname ?? endpoint.address.replace(/[.:]/g, "-");
}

function records(answers: Answer[], additionals: Answer[] = []): ZoneAnswer {
  return { kind: "records", answers, additionals };
}

function alias(question: Question, name: string, target: string, ttl: number): ZoneAnswer {
  const answers: Answer[] = [{ type: "CNAME", name, ttl, data: target.replace(/\.$/, "") }];
  if (question.type === "CNAME") return records(answers);
  if (question.type === "A" || question.type === "AAAA")
    return { kind: "alias", answers, follow: { name: target.replace(/\.$/, ""), type: question.type } };
  return noData;
}

function addresses(question: Question, name: string, all: readonly string[], ttl: number): ZoneAnswer {
  if (question.type !== "A" && question.type !== "AAAA") return noData;
  const type = question.type;
  const matching = [...new Set(all)].filter((address) => address.includes(":") === (type === "AAAA"));
  return matching.length === 0 ? noData : records(matching.map((data) => ({ type, name, ttl, data })));
}

function serviceRecords(
  ports: ServiceRecord["ports"],
  name: string,
  service: ServiceRecord,
  endpoints: readonly EndpointAddress[],
  settings: ZoneSettings,
): ZoneAnswer {
  const base = `${service.name}.${service.namespace}.svc.${settings.zone}`;
  const ttl = settings.ttlSeconds;
  const srv = (target: string, port: number, weight: number): Answer => ({
    type: "SRV",
    name,
    ttl,
    data: { priority: 0, weight, port, target },
  });
  const address = (target: string, data: string): Answer => ({
    type: data.includes(":") ? "AAAA" : "A",
    name: target,
    ttl,
    data,
  });
  if (!service.headless) {
    const answers = ports.map((port) => srv(base, port.port, Math.floor(100 / Math.max(1, ports.length))));
    return answers.length === 0
      ? noData
      : records(
          answers,
          service.clusterIps.map((ip) => address(base, ip)),
        );
  }
  const wanted = new Set(ports.map((port) => `${port.name}/${port.protocol}`));
  const weight = Math.floor(100 / Math.max(1, endpoints.length));
  const answers = new Map<string, Answer>();
  for (const endpoint of endpoints) {
    for (const port of endpoint.ports.filter((candidate) => wanted.has(`${candidate.name}/${candidate.protocol}`))) {
      const target = `${endpointLabel(endpoint)}.${base}`;
      answers.set(`${target}:${port.port}`, srv(target, port.port, weight));
    }
  }
  return answers.size === 0
    ? noData
    : records(
        [...answers.values()],
        endpoints.map((endpoint) => address(`${endpointLabel(endpoint)}.${base}`, endpoint.address)),
      );
}
