/** The agent's flags, named and defaulted as upstream's; what has no meaning without eBPF is accepted, what is not built is refused. */
import { UnderlayError } from "@underlay/log/underlay-error";

export type Settings = {
  readonly enabled: boolean;
  readonly eventLogs: boolean;
  readonly logFile: string;
  readonly logLevel: string;
  readonly metrics: HostPort;
  readonly health: HostPort;
  readonly nodeName: string;
  readonly vethPrefix: string;
  /** Leave established connections alone when a policy turns against them, as upstream's agent does. */
  readonly keepEstablished: boolean;
  /** Where the plugin's side asks. */
  readonly agentSocket: string;
  /** Where ipamd tells the mode. */
  readonly ipamdSocket: string;
};

export type HostPort = { readonly host: string | undefined; readonly port: number };

const defaults: Readonly<Record<string, string>> = {
  "enable-network-policy": "false",
  "enable-policy-event-logs": "false",
  "enable-cloudwatch-logs": "false",
  "enable-ipv6": "false",
  "log-level": "debug",
  "log-file": "/var/log/aws-routed-eni/network-policy-agent.log",
  "metrics-bind-addr": ":8162",
  "health-probe-bind-addr": ":8163",
  "conntrack-cache-cleanup-period": "300",
  "conntrack-cache-table-size": "524288",
  "max-concurrent-reconciles": "3",
  "keep-established-connections": "false",
};

export function readSettings(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Settings {
  const values = readFlags(argv);
  const text = (name: string): string => values.get(name) ?? (defaults[name] as string);
  const flag = (name: string): boolean => {
    const value = text(name);
    if (/^(1|t|true)$/i.test(value)) return true;
    if (/^(0|f|false)$/i.test(value)) return false;
    throw refusal(name, `"${value}" is not a boolean`);
  };
  if (flag("enable-cloudwatch-logs"))
    throw refusal(
      "enable-cloudwatch-logs",
      "there is no CloudWatch Logs here yet; use --enable-policy-event-logs and the log file",
    );
  const tableSize = Number(text("conntrack-cache-table-size"));
  if (!(tableSize >= 32 * 1024 && tableSize <= 1024 * 1024))
    throw refusal("conntrack-cache-table-size", "must be between 32K and 1024K");
  return {
    enabled: flag("enable-network-policy"),
    eventLogs: flag("enable-policy-event-logs"),
    logFile: text("log-file"),
    logLevel: text("log-level"),
    metrics: hostPort("metrics-bind-addr", text("metrics-bind-addr")),
    health: hostPort("health-probe-bind-addr", text("health-probe-bind-addr")),
    nodeName: env["MY_NODE_NAME"] ?? "",
    vethPrefix: env["AWS_VPC_K8S_CNI_VETHPREFIX"] || "eni",
    keepEstablished: flag("keep-established-connections"),
    agentSocket: "/var/run/aws-node/npa.sock",
    ipamdSocket: "/var/run/aws-node/ipamd.sock",
  };
}

/** `--name=value`, `--name value`, and `--name` alone for true. */
function readFlags(argv: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  for (let i = 0; i < argv.length; i++) {
    const [, name = "", , value] = /^--?([a-z0-9-]+)(=(.*))?$/.exec(argv[i] as string) ?? [];
    if (!(name in defaults)) throw refusal(name || (argv[i] as string), "is unknown");
    const next = argv[i + 1];
    if (value !== undefined) values.set(name, value);
    else if (next !== undefined && !next.startsWith("-")) {
      values.set(name, next);
      i++;
    } else values.set(name, "true");
  }
  return values;
}

function hostPort(flag: string, text: string): HostPort {
  const colon = text.lastIndexOf(":");
  const port = Number(text.slice(colon + 1));
  if (colon < 0 || !Number.isInteger(port) || port < 0 || port > 65535)
    throw refusal(flag, `"${text}" is not host:port`);
  const host = text.slice(0, colon).replace(/^\[|\]$/g, "");
  return { host: host === "" ? undefined : host, port };
}

function refusal(flag: string, why: string): UnderlayError {
  return new UnderlayError("BadFlag", `Cannot start the network policy agent: --${flag} ${why}`);
}
