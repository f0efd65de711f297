/** What one kubelet needs to know of its node. From IMDS and user data (`bootstrap.ts`), or from a file (`--settings`). */
export type NodeSettings = {
  readonly nodeName: string;
  readonly nodeIp: string;
  readonly instanceId: string;
  readonly instanceType: string;
  readonly region: string;
  readonly zone: string;
  readonly privateDnsName: string;
  readonly clusterName: string;
  readonly apiServer: string;
  /** PEM of the cluster's CA: trusts the API server, and is what 10250 demands of clients. */
  readonly clusterCa: string;
  readonly clusterDns: readonly string[];
  readonly clusterDomain: string;
  readonly version: string;
  readonly maxPods: number;
  readonly cpu: string;
  readonly memory: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  readonly port: number;
  readonly healthPort: number;
  /** Pod shims of our own, or containerd over CRI (a node asks for it by the label `node.underlay.dev/container-runtime`). */
  readonly containerRuntime: "underlay" | "containerd";
  readonly backOff: { readonly initialMs: number; readonly maxMs: number };
};

/** Also visible on the Node: which nodes run their pods in containerd. */
export const runtimeLabel = "node.underlay.dev/container-runtime";

/** What holds where neither IMDS nor user data say otherwise. */
export const defaultSettings = {
  clusterDomain: "cluster.local",
  version: "v1.33.3-eks-3abbec1",
  maxPods: 29,
  cpu: "2",
  memory: "7934420Ki",
  labels: {},
  taints: [],
  port: 10250,
  healthPort: 10248,
  containerRuntime: "underlay",
  backOff: { initialMs: 10_000, maxMs: 300_000 },
} as const;
