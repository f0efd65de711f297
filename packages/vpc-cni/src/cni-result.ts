/** The CNI result in every version's shape, and the odd fields upstream's result carries so that DEL works without ipamd. */
import type { Assignment } from "./datastore.ts";

export const supportedVersions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof supportedVersions)[number];

export function isSupportedVersion(version: string): version is CniVersion {
  return (supportedVersions as readonly string[]).includes(version);
}

export type ResultInput = {
  readonly version: CniVersion;
  readonly hostVeth: string;
  readonly podSuffix: string;
  readonly ifName: string;
  readonly netns: string;
  readonly mtu: number;
  readonly assignment: Pick<Assignment, "address" | "deviceNumber" | "routeTable">;
};

/**
 * interfaces: host veth, container interface (its `mac` is the decimal route table), and a dummy whose `sandbox` is the
 * device number and whose `mac` is "0" (the VLAN id of pods with a branch ENI).
 */
export function formatResult(input: ResultInput): string {
  const { address, deviceNumber, routeTable } = input.assignment;
  if (input.version === "0.1.0" || input.version === "0.2.0") {
    return JSON.stringify({ cniVersion: input.version, ip4: { ip: `${address}/32` }, dns: {} });
  }
  const withVersion = input.version.startsWith("0.");
  const withMtu = input.version === "1.1.0";
  const mtu = withMtu ? { mtu: input.mtu } : {};
  return JSON.stringify({
    cniVersion: input.version,
    interfaces: [
      { name: input.hostVeth, ...mtu },
      { name: input.ifName, mac: String(routeTable), sandbox: input.netns, ...mtu },
      { name: `dummy${input.podSuffix}`, mac: "0", sandbox: String(deviceNumber) },
    ],
    ips: [{ ...(withVersion ? { version: "4" } : {}), interface: 1, address: `${address}/32` }],
    dns: {},
  });
}

/** The spec's error codes that occur here. */
export const cniCode = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  ioFailure: 5,
  undecodable: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  pluginNotAvailable: 50,
  pluginFailed: 999,
} as const;

export class CniError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: number, message: string, details = "") {
    super(message);
    this.name = "CniError";
    this.code = code;
    this.details = details;
  }
}

export function formatError(version: string, error: CniError): string {
  return JSON.stringify({
    cniVersion: version,
    code: error.code,
    msg: error.message,
    ...(error.details ? { details: error.details } : {}),
  });
}
