/**
 * Every environment variable aws-node reads in secondary-IP mode, parsed once into a typed table.
 * Names, defaults and tolerance are upstream's; a mode that is not built is refused by the name of its variable,
 * never ignored. `process.env` is read by the programs (`main.ts`, `init.ts`) only.
 */
import { canonicalCidr, isCidr, parseCidr } from "@underlay/addr/cidr";
import { defaultPlumberSocket } from "./conflist.ts";
import { UnderlayError } from "@underlay/log/underlay-error";

export type RandomizeSnat = "prng" | "hashrandom" | "none";

export type Settings = {
  readonly warmEniTarget: number;
  /** 0 = not set, as upstream. Either of the two IP targets set overrides `warmEniTarget`. */
  readonly warmIpTarget: number;
  readonly minimumIpTarget: number;
  /** undefined = the instance type's own limit. */
  readonly maxEni: number | undefined;
  readonly cooldownMs: number;
  readonly externalSnat: boolean;
  readonly excludeSnatCidrs: readonly string[];
  readonly externalServiceCidrs: readonly string[];
  readonly randomizeSnat: RandomizeSnat;
  readonly nodePortSupport: boolean;
  readonly connmark: number;
  readonly eniMtu: number;
  readonly podMtu: number;
  readonly vethPrefix: string;
  readonly disableTcpEarlyDemux: boolean;
  readonly disablePodV6: boolean;
  readonly bandwidthPlugin: boolean;
  readonly podSecurityGroupEnforcingMode: "strict" | "standard";
  readonly annotatePodIp: boolean;
  /** undefined: the policy agent is not asked. Otherwise every ADD and DEL tells it of the pod. */
  readonly networkPolicyMode: "standard" | "strict" | "none" | undefined;
  readonly subnetDiscovery: boolean;
  readonly clusterName: string;
  readonly additionalEniTags: Readonly<Record<string, string>>;
  readonly manageUntaggedEni: boolean;
  readonly manageEnisNonSchedulable: boolean;
  readonly disableNetworkResourceProvisioning: boolean;
  readonly disableLeakedEniCleanup: boolean;
  readonly httpTimeoutMs: number;
  readonly logLevel: string;
  readonly logFile: string;
  readonly pluginLogFile: string;
  readonly pluginLogLevel: string;
  readonly disableIntrospection: boolean;
  readonly disableMetrics: boolean;
  readonly introspectionBindAddress: string;
  readonly metricsPort: number;
  readonly backingStore: string;
  readonly hostCniBinPath: string;
  readonly hostCniConfDirPath: string;
  readonly nodeName: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly clusterEndpoint: string;
  /** Seconds of AWS per second here: every wait of ipamd is divided by it. 1 on a real node. */
  readonly timeScale: number;
  /** Where ipamd listens for the plugin. */
  readonly plumberSocket: string;
  /** Where the policy agent asks ipamd for its settings. */
  readonly configSocket: string;
  /** Where the policy agent listens. */
  readonly policyAgentSocket: string;
  /** What was odd in the environment and which default replaced it; logged at start. */
  readonly notes: readonly string[];
};

type Env = Readonly<Record<string, string | undefined>>;

const trueWords = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const falseWords = new Set(["0", "f", "F", "FALSE", "false", "False"]);

/** Modes upstream has and this program has not: variable → is it asked for? */
const refusedModes: readonly { name: string; mode: string; asked: (value: string) => boolean }[] = [
  { name: "ENABLE_IPv6", mode: "IPv6 pods", asked: isTrue },
  { name: "ENABLE_PREFIX_DELEGATION", mode: "prefix delegation", asked: isTrue },
  { name: "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", mode: "custom networking", asked: isTrue },
  { name: "ENABLE_POD_ENI", mode: "security groups for pods", asked: isTrue },
  { name: "ENABLE_MULTI_NIC", mode: "pods with several network cards", asked: isTrue },
  { name: "ENABLE_V6_EGRESS", mode: "IPv6 egress", asked: isTrue },
  { name: "ENABLE_IMDS_ONLY_MODE", mode: "running without the EC2 API", asked: isTrue },
];

/** Parses the environment of aws-node. Throws `UnderlayError` where upstream's entry point or ipamd refuses to start. */
export function parseSettings(env: Env): Settings {
  const notes: string[] = [];
  const text = (name: string, fallback: string) => {
    const value = env[name];
    return value === undefined || value === "" ? fallback : value;
  };
  const bool = (name: string, fallback: boolean) => {
    const value = env[name];
    if (value === undefined || value === "") return fallback;
    if (trueWords.has(value)) return true;
    if (falseWords.has(value)) return false;
    notes.push(`${name}: "${value}" is not a boolean, using ${fallback}`);
    return fallback;
  };
  const atLeast = (name: string, least: number, fallback: number) => {
    const value = env[name];
    if (value === undefined || value === "") return fallback;
    const number = parseInteger(value);
    if (number !== undefined && number >= least) return number;
    notes.push(`${name}: "${value}" is not a whole number from ${least} up, using ${fallback}`);
    return fallback;
  };

  refuseUnbuiltModes(env);
  if (env["ENABLE_IPv4"] !== undefined && !bool("ENABLE_IPv4", true)) {
    throw refusal("ENABLE_IPv4", "IPv4 is off and IPv6 is not on", "Set ENABLE_IPv4=true");
  }

  const maxEni = atLeast("MAX_ENI", 1, -1);
  const eniMtu = parseMtu(env, "AWS_VPC_ENI_MTU", 9001);
  const pluginLogFile = env["AWS_VPC_K8S_PLUGIN_LOG_FILE"] ?? "/var/log/aws-routed-eni/plugin.log";
  if (pluginLogFile === "stdout") {
    throw refusal(
      "AWS_VPC_K8S_PLUGIN_LOG_FILE",
      "the plugin's standard output is its answer to the runtime, so its log cannot go there",
      "Name a file or stderr",
    );
  }
  return {
    warmEniTarget: atLeast("WARM_ENI_TARGET", 0, 1),
    warmIpTarget: atLeast("WARM_IP_TARGET", 0, 0),
    minimumIpTarget: atLeast("MINIMUM_IP_TARGET", 0, 0),
    maxEni: maxEni === -1 ? undefined : maxEni,
    cooldownMs: parseCooldown(env) * 1000,
    externalSnat: bool("AWS_VPC_K8S_CNI_EXTERNALSNAT", false),
    excludeSnatCidrs: parseCidrs(env, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", notes),
    externalServiceCidrs: parseCidrs(env, "AWS_EXTERNAL_SERVICE_CIDRS", notes),
    randomizeSnat: parseRandomizeSnat(env, notes),
    nodePortSupport: bool("AWS_VPC_CNI_NODE_PORT_SUPPORT", true),
    connmark: parseConnmark(env, notes),
    eniMtu,
    podMtu: parseMtu(env, "POD_MTU", eniMtu),
    vethPrefix: parseVethPrefix(env),
    disableTcpEarlyDemux: bool("DISABLE_TCP_EARLY_DEMUX", false),
    disablePodV6: bool("DISABLE_POD_V6", false),
    bandwidthPlugin: bool("ENABLE_BANDWIDTH_PLUGIN", false),
    podSecurityGroupEnforcingMode:
      text("POD_SECURITY_GROUP_ENFORCING_MODE", "strict") === "standard" ? "standard" : "strict",
    annotatePodIp: bool("ANNOTATE_POD_IP", false),
    networkPolicyMode: parseNetworkPolicyMode(env),
    subnetDiscovery: bool("ENABLE_SUBNET_DISCOVERY", true),
    clusterName: text("CLUSTER_NAME", ""),
    additionalEniTags: parseTags(env, notes),
    manageUntaggedEni: bool("MANAGE_UNTAGGED_ENI", true),
    manageEnisNonSchedulable: bool("AWS_MANAGE_ENIS_NON_SCHEDULABLE", false),
    disableNetworkResourceProvisioning: bool("DISABLE_NETWORK_RESOURCE_PROVISIONING", false),
    disableLeakedEniCleanup: bool("DISABLE_LEAKED_ENI_CLEANUP", false),
    httpTimeoutMs: atLeast("HTTP_TIMEOUT", 10, 10) * 1000,
    logLevel: text("AWS_VPC_K8S_CNI_LOGLEVEL", "Debug"),
    logFile: text("AWS_VPC_K8S_CNI_LOG_FILE", "/host/var/log/aws-routed-eni/ipamd.log"),
    pluginLogFile,
    pluginLogLevel: text("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "Debug"),
    disableIntrospection: bool("DISABLE_INTROSPECTION", false),
    disableMetrics: bool("DISABLE_METRICS", false),
    introspectionBindAddress: text("INTROSPECTION_BIND_ADDRESS", "127.0.0.1:61679"),
    metricsPort: 61678,
    backingStore: text("AWS_VPC_K8S_CNI_BACKING_STORE", "/var/run/aws-node/ipam.json"),
    hostCniBinPath: text("HOST_CNI_BIN_PATH", "/host/opt/cni/bin"),
    hostCniConfDirPath: text("HOST_CNI_CONFDIR_PATH", "/host/etc/cni/net.d"),
    nodeName: text("MY_NODE_NAME", ""),
    podName: text("MY_POD_NAME", ""),
    podNamespace: text("MY_POD_NAMESPACE", "kube-system"),
    clusterEndpoint: text("CLUSTER_ENDPOINT", ""),
    timeScale: parseTimeScale(env),
    plumberSocket: text("UNDERLAY_PLUMBER_SOCKET", defaultPlumberSocket),
    configSocket: "/var/run/aws-node/ipamd.sock",
    policyAgentSocket: "/var/run/aws-node/npa.sock",
    notes,
  };
}

/** Do the warm-IP or minimum-IP targets rule, so that `WARM_ENI_TARGET` does not? */
export function ipTargetsDefined(settings: Pick<Settings, "warmIpTarget" | "minimumIpTarget">): boolean {
  return settings.warmIpTarget > 0 || settings.minimumIpTarget > 0;
}

function refuseUnbuiltModes(env: Env): void {
  for (const { name, mode, asked } of refusedModes) {
    const value = env[name];
    if (value === undefined || value === "" || !asked(value)) continue;
    throw refusal(
      name,
      `${mode} (the value is "${value}") is not built yet`,
      `kubectl -n kube-system set env daemonset/aws-node ${name}-`,
    );
  }
}

function parseNetworkPolicyMode(env: Env): Settings["networkPolicyMode"] {
  const value = env["NETWORK_POLICY_ENFORCING_MODE"]?.toLowerCase();
  if (value === undefined || value === "") return undefined;
  if (value === "standard" || value === "strict" || value === "none") return value;
  throw refusal(
    "NETWORK_POLICY_ENFORCING_MODE",
    `"${value}" is none of standard, strict, none`,
    "The default of the add-on is standard",
  );
}

function parseCooldown(env: Env): number {
  const value = env["IP_COOLDOWN_PERIOD"];
  if (value === undefined || value === "") return 30;
  const seconds = parseInteger(value);
  if (seconds !== undefined && seconds >= 0) return seconds;
  throw refusal("IP_COOLDOWN_PERIOD", `"${value}" is not a whole number of seconds from 0 up`, "The default is 30");
}

function parseMtu(env: Env, name: string, fallback: number): number {
  const value = env[name];
  if (value === undefined || value === "") return fallback;
  const mtu = parseInteger(value);
  if (mtu !== undefined && mtu >= 576 && mtu <= 9001) return mtu;
  throw refusal(name, `"${value}" is not an MTU between 576 and 9001`, "The default is 9001");
}

function parseVethPrefix(env: Env): string {
  const value = env["AWS_VPC_K8S_CNI_VETHPREFIX"];
  if (value === undefined || value === "") return "eni";
  if (value.length > 4 || value === "eth" || value === "lo" || value === "vlan") {
    throw refusal(
      "AWS_VPC_K8S_CNI_VETHPREFIX",
      `"${value}" is longer than 4 characters or is eth, lo or vlan`,
      "The default is eni",
    );
  }
  return value;
}

function parseRandomizeSnat(env: Env, notes: string[]): RandomizeSnat {
  const value = env["AWS_VPC_K8S_CNI_RANDOMIZESNAT"];
  if (value === undefined || value === "") return "prng";
  if (value === "prng" || value === "hashrandom" || value === "none") return value;
  notes.push(`AWS_VPC_K8S_CNI_RANDOMIZESNAT: "${value}" is none of prng, hashrandom, none; using prng`);
  return "prng";
}

function parseConnmark(env: Env, notes: string[]): number {
  const value = env["AWS_VPC_K8S_CNI_CONNMARK"];
  if (value === undefined || value === "") return 0x80;
  const mark = /^(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[0-9]+)$/.test(value)
    ? Number(value.replace(/^0(?=[0-7])/, "0o"))
    : Number.NaN;
  if (Number.isInteger(mark) && mark >= 1 && mark < 2 ** 32) return mark;
  notes.push(`AWS_VPC_K8S_CNI_CONNMARK: "${value}" is not a mark between 1 and 2^32-1, using 0x80`);
  return 0x80;
}

function parseCidrs(env: Env, name: string, notes: string[]): readonly string[] {
  const kept: string[] = [];
  for (const part of (env[name] ?? "").split(",")) {
    const word = part.trim();
    if (word === "") continue;
    if (isCidr(word) && parseCidr(word).family === 4) kept.push(canonicalCidr(word));
    else notes.push(`${name}: "${word}" is not an IPv4 CIDR, dropped`);
  }
  return kept;
}

function parseTags(env: Env, notes: string[]): Readonly<Record<string, string>> {
  const value = env["ADDITIONAL_ENI_TAGS"];
  if (value === undefined || value === "") return {};
  try {
    const parsed: unknown = JSON.parse(value);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw new TypeError("not an object");
    const entries = Object.entries(parsed);
    if (entries.some(([, tag]) => typeof tag !== "string")) throw new TypeError("a value is not a string");
    return Object.fromEntries(entries.filter(([key]) => !key.includes("k8s.amazonaws.com")));
  } catch (error) {
    notes.push(`ADDITIONAL_ENI_TAGS: not a JSON map of strings (${(error as Error).message}), using {}`);
    return {};
  }
}

function parseTimeScale(env: Env): number {
  const scale = Number(env["UNDERLAY_TIME_SCALE"] ?? "1");
  return Number.isFinite(scale) && scale > 0 ? scale : 1;
}

function parseInteger(value: string): number | undefined {
  return /^[+-]?\d+$/.test(value) ? Number(value) : undefined;
}

function isTrue(value: string): boolean {
  return trueWords.has(value);
}

function refusal(name: string, state: string, hint: string): UnderlayError {
  return new UnderlayError("settings-refused", `Cannot start aws-node with ${name}: ${state}`, {
    hint,
    facts: { variable: name },
  });
}
