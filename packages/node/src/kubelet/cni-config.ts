/** CNI network configuration lists and what each plugin in the chain is given on stdin. Pure, except loading the files. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type PluginConfig = { readonly type: string; readonly [key: string]: unknown };
export type NetworkList = {
  readonly name: string;
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly plugins: readonly PluginConfig[];
};

export type PortMapping = {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: string;
  readonly hostIP?: string;
};

/** The first usable configuration in lexical order, as container runtimes choose; undefined when there is none. */
export function findNetwork(directory: string): NetworkList | undefined {
  let names: string[];
  try {
    names = readdirSync(directory).sort();
  } catch {
    return undefined;
  }
  for (const name of names) {
    if (!/\.(conflist|conf|json)$/.test(name)) continue;
    try {
      return parseNetwork(readFileSync(join(directory, name), "utf8"));
    } catch {
      continue; // an unusable file is passed over, as upstream does
    }
  }
  return undefined;
}

/** Parses a `.conflist` or a single-plugin `.conf`; throws on anything without name, version and a plugin. */
export function parseNetwork(text: string): NetworkList {
  const given = JSON.parse(text) as Record<string, unknown>;
  const plugins = (Array.isArray(given["plugins"]) ? given["plugins"] : [given]) as PluginConfig[];
  if (typeof given["name"] !== "string" || plugins.length === 0 || plugins.some((p) => typeof p?.type !== "string")) {
    throw new Error("Cannot use the CNI configuration: it needs a name and plugins with a type");
  }
  return {
    name: given["name"],
    cniVersion: typeof given["cniVersion"] === "string" ? given["cniVersion"] : "0.1.0",
    disableCheck: given["disableCheck"] === true,
    plugins,
  };
}

/** What a plugin reads on stdin: its own part, the list's name and version, the capabilities it asked for, the result so far. */
export function pluginInput(
  network: NetworkList,
  plugin: PluginConfig,
  capabilities: Readonly<Record<string, unknown>>,
  prevResult: unknown,
): Record<string, unknown> {
  const asked = (plugin["capabilities"] ?? {}) as Record<string, boolean>;
  const runtimeConfig = Object.fromEntries(Object.entries(capabilities).filter(([name]) => asked[name] === true));
  const { capabilities: _asked, ...own } = plugin;
  return {
    ...own,
    name: network.name,
    cniVersion: network.cniVersion,
    ...(Object.keys(runtimeConfig).length > 0 ? { runtimeConfig } : {}),
    ...(prevResult === undefined ? {} : { prevResult }),
  };
}

export type CniResult = {
  readonly ips?: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
  readonly [key: string]: unknown;
};

/** The pod's addresses in a result (0.3.0 and later), without prefix lengths. */
export function resultAddresses(result: CniResult): string[] {
  return (result.ips ?? []).map((ip) => ip.address.split("/")[0] ?? "").filter((a) => a !== "");
}
