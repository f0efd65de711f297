/** What kube-proxy is told: upstream's flags, and a KubeProxyConfiguration file, whose values flags override. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { parseArgs } from "node:util";
import { parse } from "yaml";

export interface Settings {
  readonly kubeconfig: string | undefined;
  readonly nodeName: string;
  /** Sources regarded as pods. EKS leaves it empty. */
  readonly podCidrs: readonly string[];
  /** Blocks of node addresses that answer node ports; empty: the primary address. */
  readonly nodePortAddresses: readonly string[];
  readonly healthz: HostPort;
  readonly metrics: HostPort;
  /** Values for the conntrack sysctls; undefined leaves one as it is. */
  readonly conntrack: {
    readonly tcpEstablishedSeconds: number | undefined;
    readonly tcpCloseWaitSeconds: number | undefined;
  };
  readonly cleanup: boolean;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** The part of kubeproxy.config.k8s.io/v1alpha1 that changes what we do; the rest is accepted and has no meaning here. */
interface Configuration {
  kind?: string;
  clientConnection?: { kubeconfig?: string };
  hostnameOverride?: string;
  clusterCIDR?: string;
  nodePortAddresses?: string[] | null;
  healthzBindAddress?: string;
  metricsBindAddress?: string;
  conntrack?: { tcpEstablishedTimeout?: string; tcpCloseWaitTimeout?: string };
}

export function readSettings(argv: readonly string[]): Settings {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: {
      config: { type: "string" },
      kubeconfig: { type: "string" },
      "hostname-override": { type: "string" },
      "cluster-cidr": { type: "string" },
      "nodeport-addresses": { type: "string" },
      "healthz-bind-address": { type: "string" },
      "metrics-bind-address": { type: "string" },
      "conntrack-tcp-timeout-established": { type: "string" },
      "conntrack-tcp-timeout-close-wait": { type: "string" },
      cleanup: { type: "boolean", default: false },
      // Accepted as upstream has them; there is one mode here, and logs have a level of their own.
      v: { type: "string" },
      "proxy-mode": { type: "string" },
      master: { type: "string" },
    },
  });
  const file = values.config === undefined ? {} : readConfiguration(values.config);
  const list = (text: string | undefined): string[] =>
    (text ?? "")
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== "");
  return {
    kubeconfig: values.kubeconfig ?? (file.clientConnection?.kubeconfig || undefined),
    nodeName: (values["hostname-override"] || file.hostnameOverride || hostname()).trim().toLowerCase(),
    podCidrs: list(values["cluster-cidr"] ?? file.clusterCIDR),
    nodePortAddresses: (values["nodeport-addresses"] === undefined
      ? (file.nodePortAddresses ?? [])
      : list(values["nodeport-addresses"])
    ).filter((one) => one !== "primary"),
    healthz: parseHostPort(values["healthz-bind-address"] ?? file.healthzBindAddress ?? "", {
      host: "0.0.0.0",
      port: 10256,
    }),
    metrics: parseHostPort(values["metrics-bind-address"] ?? file.metricsBindAddress ?? "", {
      host: "127.0.0.1",
      port: 10249,
    }),
    conntrack: {
      tcpEstablishedSeconds: parseDuration(
        values["conntrack-tcp-timeout-established"] ?? file.conntrack?.tcpEstablishedTimeout ?? "24h",
      ),
      tcpCloseWaitSeconds: parseDuration(
        values["conntrack-tcp-timeout-close-wait"] ?? file.conntrack?.tcpCloseWaitTimeout ?? "1h",
      ),
    },
    cleanup: values.cleanup,
  };
}

function readConfiguration(path: string): Configuration {
  const document = parse(readFileSync(path, "utf8")) as Configuration | null;
  if (document?.kind !== "KubeProxyConfiguration") {
    throw new Error(
      `Cannot read ${path}: its kind is ${document?.kind ?? "missing"}; hint: it must be KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)`,
    );
  }
  return document;
}

/** 'host:port', '[::]:port', ':port', 'host' or nothing. */
export function parseHostPort(text: string, usual: HostPort): HostPort {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(text.trim());
  if (match === null) throw new Error(`Cannot read ${JSON.stringify(text)} as host:port`);
  return { host: match[1] || match[2] || usual.host, port: match[3] === undefined ? usual.port : Number(match[3]) };
}

/** Seconds of a Go duration ('24h0m0s'); undefined for zero, which means "leave it". */
export function parseDuration(text: string): number | undefined {
  const units: Record<string, number> = { h: 3600, m: 60, s: 1 };
  const seconds = [...text.matchAll(/(\d+(?:\.\d+)?)([hms])/g)].reduce(
    (sum, [, number, unit]) => sum + Number(number) * (units[unit as string] ?? 0),
    0,
  );
  return seconds === 0 ? undefined : Math.round(seconds);
}
