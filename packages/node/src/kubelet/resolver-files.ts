/** The files a pod's name lookups read: /etc/resolv.conf by dnsPolicy and dnsConfig, /etc/hosts, and the pod's host name. Pure. */
import type { Pod } from "@underlay/kube/objects";

export type DnsSettings = {
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  readonly nodeResolvConf: string;
};

type Resolver = { nameservers: string[]; searches: string[]; options: string[] };

export function resolvConf(pod: Pod, dns: DnsSettings): string {
  const node = parseResolvConf(dns.nodeResolvConf);
  const policy = pod.spec?.dnsPolicy ?? "ClusterFirst";
  const cluster = policy === "ClusterFirstWithHostNet" || (policy === "ClusterFirst" && pod.spec?.hostNetwork !== true);
  let resolver: Resolver;
  if (policy === "None") resolver = { nameservers: [], searches: [], options: [] };
  else if (cluster && dns.clusterDns.length > 0) {
    const searches = [
      `${pod.metadata.namespace}.svc.${dns.clusterDomain}`,
      `svc.${dns.clusterDomain}`,
      dns.clusterDomain,
      ...node.searches,
    ];
    resolver = { nameservers: [...dns.clusterDns], searches, options: ["ndots:5"] };
  } else resolver = node;
  const config = pod.spec?.dnsConfig;
  const options = mergeOptions(
    resolver.options,
    (config?.options ?? []).map((o) => (o.value === undefined ? (o.name ?? "") : `${o.name}:${o.value}`)),
  );
  const nameservers = [...new Set([...resolver.nameservers, ...(config?.nameservers ?? [])])].slice(0, 3);
  const searches = [...new Set([...resolver.searches, ...(config?.searches ?? [])])].slice(0, 32);
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []),
    ...nameservers.map((n) => `nameserver ${n}`),
    ...(options.length > 0 ? [`options ${options.join(" ")}`] : []),
    "",
  ].join("\n");
}

function mergeOptions(base: readonly string[], more: readonly string[]): string[] {
  const byName = new Map(base.map((o) => [o.split(":")[0], o]));
  for (const option of more) byName.set(option.split(":")[0], option);
  return [...byName.values()];
}

function parseResolvConf(text: string): Resolver {
  const resolver: Resolver = { nameservers: [], searches: [], options: [] };
  for (const line of text.split("\n")) {
    const [word, ...rest] = line.trim().split(/\s+/);
    if (word === "nameserver" && rest[0]) resolver.nameservers.push(rest[0]);
    if (word === "search") resolver.searches = rest;
    if (word === "options") resolver.options.push(...rest);
  }
  return resolver;
}

/** The pod's host name: `spec.hostname`, else its name cut to 63 characters. */
export function podHostname(pod: Pod): string {
  return pod.spec?.hostname ?? (pod.metadata.name ?? "").slice(0, 63).replace(/[-.]+$/, "");
}

/** The host's full name where the pod has a subdomain (a headless service). */
export function podDomain(pod: Pod, clusterDomain: string): string | undefined {
  const subdomain = pod.spec?.subdomain;
  return subdomain ? `${podHostname(pod)}.${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}` : undefined;
}

export function hostsFile(pod: Pod, podIps: readonly string[], clusterDomain: string, nodeHosts: string): string {
  const aliases = (pod.spec?.hostAliases ?? []).map((a) => `${a.ip}\t${(a.hostnames ?? []).join("\t")}`);
  const extra = aliases.length > 0 ? ["", "# Entries added by HostAliases.", ...aliases] : [];
  if (pod.spec?.hostNetwork)
    return ["# Kubernetes-managed hosts file (host network).", nodeHosts.trimEnd(), ...extra, ""].join("\n");
  const domain = podDomain(pod, clusterDomain);
  const names = domain ? `${domain}\t${podHostname(pod)}` : podHostname(pod);
  return [
    "# Kubernetes-managed hosts file.",
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
    ...podIps.map((ip) => `${ip}\t${names}`),
    ...extra,
    "",
  ].join("\n");
}
