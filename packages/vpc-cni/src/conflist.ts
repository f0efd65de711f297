/** The network configuration `10-aws.conflist`: its appearance is what turns a node Ready. Pure. */
import { variables } from "./settings-table.ts";
import type { Settings } from "./settings.ts";

export const conflistName = "10-aws.conflist";

type ConflistSettings = Pick<
  Settings,
  | "vethPrefix"
  | "podMtu"
  | "podSecurityGroupEnforcingMode"
  | "pluginLogFile"
  | "pluginLogLevel"
  | "bandwidthPlugin"
  | "disablePodV6"
  | "plumberSocket"
>;

/** aws-cni, portmap, then bandwidth and tuning where asked for. (egress-cni comes with IPv6 egress.) */
export function formatConflist(settings: ConflistSettings): string {
  const plugins: object[] = [
    {
      name: "aws-cni",
      type: "aws-cni",
      vethPrefix: settings.vethPrefix,
      mtu: String(settings.podMtu),
      podSGEnforcingMode: settings.podSecurityGroupEnforcingMode,
      pluginLogFile: settings.pluginLogFile,
      pluginLogLevel: settings.pluginLogLevel,
      ...(settings.plumberSocket === defaultPlumberSocket ? {} : { plumberSocket: settings.plumberSocket }),
      capabilities: { "io.kubernetes.cri.pod-annotations": true },
    },
    { type: "portmap", capabilities: { portMappings: true }, snat: true },
  ];
  if (settings.bandwidthPlugin) plugins.push({ type: "bandwidth", capabilities: { bandwidth: true } });
  if (settings.disablePodV6) {
    const keys = ["all", "default", "lo"].map((link) => `net.ipv6.conf.${link}.disable_ipv6`);
    plugins.push({ type: "tuning", sysctl: Object.fromEntries(keys.map((key) => [key, "1"])) });
  }
  return `${JSON.stringify({ cniVersion: "0.4.0", name: "aws-cni", disableCheck: true, plugins }, undefined, 2)}\n`;
}

export const defaultPlumberSocket = variables.UNDERLAY_PLUMBER_SOCKET.fallback;
