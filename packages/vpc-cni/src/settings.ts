/**
 * The environment of aws-node as typed settings, parsed once by `settings-table.ts`. Names, defaults and tolerance are
 * upstream's; a mode that is not built is refused by the name of its variable, never ignored. `process.env` is read by the
 * programs (`main.ts`, `init.ts`) only.
 */
import { canonicalCidr, isCidr, parseCidr } from "@underlay/addr/cidr";
import { UnderlayError } from "@underlay/log/underlay-error";
import { variables, type Variable, type VariableName } from "./settings-table.ts";

export type RandomizeSnat = "prng" | "hashrandom" | "none";

export type Settings = {
  readonly prefixDelegation: boolean;
  readonly customNetworking: boolean;
  readonly eniConfigAnnotation: string;
  readonly eniConfigLabel: string;
  readonly warmEniTarget: number;
  /** 0 = not set, as upstream. Either of the two IP targets set overrides `warmEniTarget`. */
  readonly warmIpTarget: number;
  readonly minimumIpTarget: number;
  /** Spare, wholly free prefixes; prefix delegation only. */
  readonly warmPrefixTarget: number;
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
  readonly disablePodV6: boolean;
  readonly bandwidthPlugin: boolean;
  readonly podSecurityGroupEnforcingMode: "strict" | "standard";
  readonly annotatePodIp: boolean;
  readonly subnetDiscovery: boolean;
  readonly clusterName: string;
  readonly additionalEniTags: Readonly<Record<string, string>>;
  readonly manageUntaggedEni: boolean;
  readonly manageEnisNonSchedulable: boolean;
  readonly disableNetworkResourceProvisioning: boolean;
  readonly disableLeakedEniCleanup: boolean;
  readonly imdsOnly: boolean;
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
  /** What was odd in the environment and which default replaced it; logged at start. */
  readonly notes: readonly string[];
};

type Env = Readonly<Record<string, string | undefined>>;

const trueWords = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const falseWords = new Set(["0", "f", "F", "FALSE", "false", "False"]);

/** Names of the table by kind, so that a setting cannot be read as something the table does not say. */
type NameOf<K extends Variable["kind"]> = {
  [N in VariableName]: (typeof variables)[N] extends { kind: K } ? N : never;
}[VariableName];

/** Reads variables as the table says; what had to be replaced by a default is noted. */
class Reader {
  readonly notes: string[] = [];
  readonly #env: Env;

  constructor(env: Env) {
    this.#env = env;
  }

  flag(name: NameOf<"boolean">): boolean {
    const { fallback } = variables[name];
    const value = this.#env[name];
    if (value === undefined || value === "") return fallback;
    if (trueWords.has(value)) return true;
    if (falseWords.has(value)) return false;
    this.notes.push(`${name}: "${value}" is not a boolean, using ${fallback}`);
    return fallback;
  }

  text(name: NameOf<"text">): string {
    return this.#env[name] || variables[name].fallback;
  }

  integer(name: NameOf<"integer">): number {
    const variable: Variable & { kind: "integer" } = variables[name];
    const { fallback, least, most } = variable;
    const value = this.#env[name];
    if (value === undefined || value === "") return fallback;
    const number = parseInteger(value);
    if (number !== undefined && number >= least && number <= (most ?? Infinity)) return number;
    const range = most === undefined ? `from ${least} up` : `from ${least} to ${most}`;
    if (variable.refuse) throw refusal(name, `"${value}" is not a whole number ${range}`, `The default is ${fallback}`);
    this.notes.push(`${name}: "${value}" is not a whole number ${range}, using ${fallback}`);
    return fallback;
  }

  choice(name: NameOf<"choice">): string {
    const { fallback, choices } = variables[name] as Variable & { kind: "choice" };
    const value = this.#env[name];
    if (value === undefined || value === "") return fallback;
    if (choices.includes(value)) return value;
    this.notes.push(`${name}: "${value}" is none of ${choices.join(", ")}; using ${fallback}`);
    return fallback;
  }
}

/** Parses the environment of aws-node. Throws `UnderlayError` where upstream's entry point or ipamd refuses to start. */
export function parseSettings(env: Env): Settings {
  const read = new Reader(env);
  const { notes } = read;
  refuseUnbuiltModes(env);
  if (!read.flag("ENABLE_IPv4")) throw refusal("ENABLE_IPv4", "IPv4 is off and IPv6 is not on", "Set ENABLE_IPv4=true");
  refusePrefixesWithoutTarget(env, read.flag("ENABLE_PREFIX_DELEGATION"));
  const imdsOnly = read.flag("ENABLE_IMDS_ONLY_MODE");
  const maxEni = read.integer("MAX_ENI");
  const eniMtu = read.integer("AWS_VPC_ENI_MTU");
  const pluginLogFile = env["AWS_VPC_K8S_PLUGIN_LOG_FILE"] ?? variables.AWS_VPC_K8S_PLUGIN_LOG_FILE.fallback;
  if (pluginLogFile === "stdout") {
    throw refusal(
      "AWS_VPC_K8S_PLUGIN_LOG_FILE",
      "the plugin's standard output is its answer to the runtime, so its log cannot go there",
      "Name a file or stderr",
    );
  }
  return {
    prefixDelegation: read.flag("ENABLE_PREFIX_DELEGATION"),
    customNetworking: read.flag("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
    eniConfigAnnotation: read.text("ENI_CONFIG_ANNOTATION_DEF"),
    eniConfigLabel: read.text("ENI_CONFIG_LABEL_DEF"),
    warmEniTarget: read.integer("WARM_ENI_TARGET"),
    warmIpTarget: read.integer("WARM_IP_TARGET"),
    minimumIpTarget: read.integer("MINIMUM_IP_TARGET"),
    warmPrefixTarget: read.integer("WARM_PREFIX_TARGET"),
    maxEni: maxEni === -1 ? undefined : maxEni,
    cooldownMs: read.integer("IP_COOLDOWN_PERIOD") * 1000,
    externalSnat: read.flag("AWS_VPC_K8S_CNI_EXTERNALSNAT"),
    excludeSnatCidrs: parseCidrs(env, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", notes),
    externalServiceCidrs: parseCidrs(env, "AWS_EXTERNAL_SERVICE_CIDRS", notes),
    randomizeSnat: read.choice("AWS_VPC_K8S_CNI_RANDOMIZESNAT") as RandomizeSnat,
    nodePortSupport: read.flag("AWS_VPC_CNI_NODE_PORT_SUPPORT"),
    connmark: parseConnmark(env, notes),
    eniMtu,
    podMtu: parsePodMtu(env, eniMtu),
    vethPrefix: parseVethPrefix(env),
    disablePodV6: read.flag("DISABLE_POD_V6"),
    bandwidthPlugin: read.flag("ENABLE_BANDWIDTH_PLUGIN"),
    podSecurityGroupEnforcingMode: read.choice("POD_SECURITY_GROUP_ENFORCING_MODE") as "strict" | "standard",
    annotatePodIp: read.flag("ANNOTATE_POD_IP"),
    subnetDiscovery: read.flag("ENABLE_SUBNET_DISCOVERY"),
    clusterName: read.text("CLUSTER_NAME"),
    additionalEniTags: parseTags(env, notes),
    manageUntaggedEni: read.flag("MANAGE_UNTAGGED_ENI"),
    manageEnisNonSchedulable: read.flag("AWS_MANAGE_ENIS_NON_SCHEDULABLE"),
    disableNetworkResourceProvisioning: imdsOnly || read.flag("DISABLE_NETWORK_RESOURCE_PROVISIONING"),
    disableLeakedEniCleanup: imdsOnly || read.flag("DISABLE_LEAKED_ENI_CLEANUP"),
    imdsOnly,
    httpTimeoutMs: read.integer("HTTP_TIMEOUT") * 1000,
    logLevel: read.text("AWS_VPC_K8S_CNI_LOGLEVEL"),
    logFile: read.text("AWS_VPC_K8S_CNI_LOG_FILE"),
    pluginLogFile,
    pluginLogLevel: read.text("AWS_VPC_K8S_PLUGIN_LOG_LEVEL"),
    disableIntrospection: read.flag("DISABLE_INTROSPECTION"),
    disableMetrics: read.flag("DISABLE_METRICS"),
    introspectionBindAddress: read.text("INTROSPECTION_BIND_ADDRESS"),
    metricsPort: 61678,
    backingStore: read.text("AWS_VPC_K8S_CNI_BACKING_STORE"),
    hostCniBinPath: read.text("HOST_CNI_BIN_PATH"),
    hostCniConfDirPath: read.text("HOST_CNI_CONFDIR_PATH"),
    nodeName: read.text("MY_NODE_NAME"),
    podName: read.text("MY_POD_NAME"),
    podNamespace: read.text("MY_POD_NAMESPACE"),
    clusterEndpoint: read.text("CLUSTER_ENDPOINT"),
    timeScale: parseTimeScale(env),
    plumberSocket: read.text("UNDERLAY_PLUMBER_SOCKET"),
    notes,
  };
}

/** What the init container reads. */
export function parseInitSettings(env: Env): { hostCniBinPath: string; disableTcpEarlyDemux: boolean } {
  const read = new Reader(env);
  return {
    hostCniBinPath: read.text("HOST_CNI_BIN_PATH"),
    disableTcpEarlyDemux: read.flag("DISABLE_TCP_EARLY_DEMUX"),
  };
}

/** Do the warm-IP or minimum-IP targets rule, so that `WARM_ENI_TARGET` does not? */
export function ipTargetsDefined(settings: Pick<Settings, "warmIpTarget" | "minimumIpTarget">): boolean {
  return settings.warmIpTarget > 0 || settings.minimumIpTarget > 0;
}

function refuseUnbuiltModes(env: Env): void {
  for (const [name, variable] of Object.entries(variables as Record<string, Variable>)) {
    if (variable.unbuilt !== undefined && trueWords.has(env[name] ?? "")) throw unbuilt(name, variable.unbuilt, env);
  }
  const policy = env["NETWORK_POLICY_ENFORCING_MODE"] ?? "";
  if (policy !== "" && policy.toLowerCase() !== "none")
    throw unbuilt("NETWORK_POLICY_ENFORCING_MODE", "network policy", env);
}

/** Upstream's entry point compares the words and not the numbers: "00" passes, "-1" does not. */
function refusePrefixesWithoutTarget(env: Env, prefixDelegation: boolean): void {
  const names = ["WARM_IP_TARGET", "WARM_PREFIX_TARGET", "MINIMUM_IP_TARGET"];
  if (!prefixDelegation || names.some((name) => (env[name] || "0") > "0")) return;
  throw refusal(
    "ENABLE_PREFIX_DELEGATION",
    "prefix delegation is on while WARM_IP_TARGET, WARM_PREFIX_TARGET and MINIMUM_IP_TARGET are all 0",
    "Set WARM_PREFIX_TARGET=1, as the add-on does",
  );
}

function parsePodMtu(env: Env, eniMtu: number): number {
  const value = env["POD_MTU"];
  if (value === undefined || value === "") return eniMtu;
  const mtu = parseInteger(value);
  if (mtu !== undefined && mtu >= 576 && mtu <= 9001) return mtu;
  throw refusal("POD_MTU", `"${value}" is not an MTU from 576 to 9001`, "The default is AWS_VPC_ENI_MTU's value");
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

function unbuilt(name: string, mode: string, env: Env): UnderlayError {
  return refusal(
    name,
    `${mode} (the value is "${env[name]}") is not built yet`,
    `kubectl -n kube-system set env daemonset/aws-node ${name}-`,
  );
}

function refusal(name: string, state: string, hint: string): UnderlayError {
  return new UnderlayError("settings-refused", `Cannot start aws-node with ${name}: ${state}`, {
    hint,
    facts: { variable: name },
  });
}
