/** User data of an EKS node: a `NodeConfig` (node.eks.aws/v1alpha1), bare or as a part of a MIME message. Pure. */
import { defaultSettings, runtimeLabel, type NodeSettings } from "./settings.ts";

export type NodeConfig = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly spec: {
    readonly cluster: {
      readonly name: string;
      readonly apiServerEndpoint: string;
      readonly certificateAuthority: string;
      readonly cidr?: string;
    };
    readonly kubelet?: { readonly config?: KubeletConfig; readonly flags?: readonly string[] };
  };
};

type KubeletConfig = {
  readonly maxPods?: number;
  readonly clusterDNS?: readonly string[];
  readonly clusterDomain?: string;
  readonly registerWithTaints?: NodeSettings["taints"];
  readonly [key: string]: unknown;
};

export type NodeIdentity = {
  readonly instanceId: string;
  readonly instanceType: string;
  readonly region: string;
  readonly zone: string;
  readonly privateIp: string;
  readonly privateDnsName: string;
};

/** The (merged) NodeConfig in user data; throws when there is none. */
export function findNodeConfig(userData: string, parseYaml: (text: string) => unknown): NodeConfig {
  const found = parts(userData)
    .map((part) => parseYaml(part) as NodeConfig | undefined)
    .filter((config) => config?.kind === "NodeConfig");
  const merged = found.reduce<NodeConfig | undefined>((all, next) => merge(all, next) as NodeConfig, undefined);
  if (!merged?.spec?.cluster?.name)
    throw new Error("Cannot join a cluster: user data holds no NodeConfig with spec.cluster.name");
  return merged;
}

export function settingsFrom(config: NodeConfig, identity: NodeIdentity): NodeSettings {
  const { cluster, kubelet } = config.spec;
  const flags = parseFlags(kubelet?.flags ?? []);
  const clusterDns = kubelet?.config?.clusterDNS ?? (cluster.cidr ? [dnsAddress(cluster.cidr)] : []);
  const labels = Object.fromEntries(
    (flags.get("node-labels") ?? "")
      .split(",")
      .filter(Boolean)
      .map((pair) => splitAt(pair, "=")),
  );
  const size = sizes[identity.instanceType.split(".")[1] ?? ""] ?? sizes["large"];
  return {
    ...defaultSettings,
    ...size,
    nodeName: identity.privateDnsName,
    nodeIp: identity.privateIp,
    instanceId: identity.instanceId,
    instanceType: identity.instanceType,
    region: identity.region,
    zone: identity.zone,
    privateDnsName: identity.privateDnsName,
    clusterName: cluster.name,
    apiServer: cluster.apiServerEndpoint.replace(/\/$/, ""),
    clusterCa: Buffer.from(cluster.certificateAuthority, "base64").toString("utf8"),
    clusterDns,
    clusterDomain: kubelet?.config?.clusterDomain ?? defaultSettings.clusterDomain,
    maxPods: kubelet?.config?.maxPods ?? (Number(flags.get("max-pods")) || defaultSettings.maxPods),
    labels,
    containerRuntime: labels[runtimeLabel] === "containerd" ? "containerd" : "underlay",
    taints: [...(kubelet?.config?.registerWithTaints ?? []), ...parseTaints(flags.get("register-with-taints") ?? "")],
  };
}

/** Capacity of the m5 sizes, as kubelets on EKS report it. */
const sizes: Record<string, { cpu: string; memory: string }> = {
  medium: { cpu: "1", memory: "3955716Ki" },
  large: { cpu: "2", memory: "7934420Ki" },
  xlarge: { cpu: "4", memory: "15896988Ki" },
  "2xlarge": { cpu: "8", memory: "31977128Ki" },
  "4xlarge": { cpu: "16", memory: "64052500Ki" },
};

/** The tenth address of the service range, where EKS puts cluster DNS. */
function dnsAddress(cidr: string): string {
  const octets = (cidr.split("/")[0] ?? "").split(".");
  return [...octets.slice(0, 3), "10"].join(".");
}

function parts(userData: string): string[] {
  const boundary = /boundary="?([^"\s;]+)"?/i.exec(userData)?.[1];
  if (!boundary || !/^(MIME-Version|Content-Type):/im.test(userData)) return [userData];
  return userData
    .split(`--${boundary}`)
    .slice(1)
    .filter((part) => !part.startsWith("--"))
    .filter((part) => /content-type:\s*application\/node\.eks\.aws/i.test(part))
    .map((part) => part.replace(/^[\s\S]*?\r?\n\r?\n/, ""));
}

function merge(a: unknown, b: unknown): unknown {
  if (!isObject(a) || !isObject(b)) return b ?? a;
  const result: Record<string, unknown> = { ...a };
  for (const [key, value] of Object.entries(b)) result[key] = merge(result[key], value);
  return result;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function parseFlags(flags: readonly string[]): Map<string, string> {
  return new Map(flags.map((flag) => splitAt(flag.replace(/^--/, ""), "=")));
}

/** `key=value:Effect,…` */
function parseTaints(text: string): NodeSettings["taints"] {
  return text
    .split(",")
    .filter(Boolean)
    .map((entry) => {
      const [pair, effect] = splitAt(entry, ":");
      const [key, value] = splitAt(pair, "=");
      return { key, effect, ...(value ? { value } : {}) };
    });
}

function splitAt(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
