/** What the plugin sends for one call of the runtime, parsed once: environment, CNI_ARGS and the network configuration. */
import { CniError, cniCode, isSupportedVersion, type CniVersion } from "./cni-result.ts";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC";

/** The line on the plugin's socket: the environment as it was, and stdin as text. */
export type PluginMessage = {
  readonly command: string;
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  readonly args: string;
  readonly config: string;
};

export type CniRequest = {
  readonly command: CniCommand;
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  readonly version: CniVersion;
  readonly networkName: string;
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly vethPrefix: string;
  readonly mtu: number;
  /** ADD within a chain; CHECK and DEL: what ADD answered. */
  readonly prevResult: unknown;
  /** GC: the attachments that must stay. */
  readonly validAttachments: readonly { readonly containerId: string; readonly ifName: string }[];
};

const commands: readonly string[] = ["ADD", "DEL", "CHECK", "STATUS", "GC"];

/** Parses and validates; throws `CniError` with the spec's code. */
export function parseCniRequest(message: PluginMessage): CniRequest {
  const config = parseConfig(message.config);
  const version = typeof config["cniVersion"] === "string" ? config["cniVersion"] : "0.1.0";
  if (!isSupportedVersion(version)) {
    throw new CniError(cniCode.incompatibleVersion, "incompatible CNI versions", `config is "${version}"`);
  }
  if (!commands.includes(message.command)) {
    throw new CniError(cniCode.invalidEnvironment, `unknown CNI_COMMAND: ${message.command}`);
  }
  const command = message.command as CniCommand;
  const networkName = typeof config["name"] === "string" ? config["name"] : "";
  if (networkName === "") throw new CniError(cniCode.invalidConfig, "missing network name");
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(networkName)) {
    throw new CniError(cniCode.invalidConfig, `invalid characters found in network name: "${networkName}"`);
  }
  if (command === "CHECK" && version.localeCompare("0.4.0", "en", { numeric: true }) < 0) {
    throw new CniError(cniCode.incompatibleVersion, "config version does not allow CHECK", `config is "${version}"`);
  }
  if ((command === "STATUS" || command === "GC") && version !== "1.1.0") {
    throw new CniError(
      cniCode.incompatibleVersion,
      `config version does not allow ${command}`,
      `config is "${version}"`,
    );
  }
  const pod = parseArgs(message.args);
  if (command === "ADD" && (pod.name === "" || pod.namespace === "")) {
    throw new CniError(
      cniCode.invalidEnvironment,
      "CNI_ARGS names no pod",
      "K8S_POD_NAME and K8S_POD_NAMESPACE are needed",
    );
  }
  return {
    command,
    containerId: message.containerId,
    netns: message.netns,
    ifName: message.ifName,
    version,
    networkName,
    pod,
    vethPrefix: parsePrefix(config["vethPrefix"]),
    mtu: parseMtu(config["mtu"]),
    prevResult: config["prevResult"],
    validAttachments: parseAttachments(config["cni.dev/valid-attachments"] ?? config["cni.dev/attachments"]),
  };
}

function parseConfig(text: string): Record<string, unknown> {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new CniError(cniCode.undecodable, "error unmarshaling the network configuration", (error as Error).message);
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new CniError(cniCode.undecodable, "the network configuration is not a JSON object");
  }
  return config as Record<string, unknown>;
}

/** `K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;…`; unknown keys are left alone. */
function parseArgs(args: string): { namespace: string; name: string; uid: string } {
  const values = new Map<string, string>();
  for (const part of args.split(";")) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    if (equals <= 0) throw new CniError(cniCode.invalidEnvironment, `invalid CNI_ARGS pair "${part}"`);
    values.set(part.slice(0, equals), part.slice(equals + 1));
  }
  return {
    namespace: values.get("K8S_POD_NAMESPACE") ?? "",
    name: values.get("K8S_POD_NAME") ?? "",
    uid: values.get("K8S_POD_UID") ?? "",
  };
}

function parsePrefix(value: unknown): string {
  if (value === undefined || value === "") return "eni";
  if (typeof value !== "string") throw new CniError(cniCode.invalidConfig, "vethPrefix is not a string");
  if (value.length > 4) throw new CniError(cniCode.invalidConfig, `vethPrefix "${value}" is longer than 4 characters`);
  return value;
}

/** A string in the conflist; garbage means the default, as upstream's plugin does. */
function parseMtu(value: unknown): number {
  const mtu = typeof value === "string" || typeof value === "number" ? Number(value) : Number.NaN;
  return Number.isInteger(mtu) && mtu >= 576 && mtu <= 9001 ? mtu : 9001;
}

function parseAttachments(value: unknown): readonly { containerId: string; ifName: string }[] {
  if (!Array.isArray(value)) return [];
  return value.map((item: unknown) => {
    const { containerID, ifname } = (item ?? {}) as { containerID?: unknown; ifname?: unknown };
    if (typeof containerID !== "string" || typeof ifname !== "string") {
      throw new CniError(cniCode.invalidConfig, "cni.dev/valid-attachments: an entry has no containerID or ifname");
    }
    return { containerId: containerID, ifName: ifname };
  });
}
