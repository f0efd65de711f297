/**
 * The settings file of the API server (ARCHITECTURE.md, "control plane start"), written by the cloud's EKS service.
 * Alone on any machine only `stateDir` is needed: everything else has a default, and without `netns` just the host door opens.
 */
import type { JsonObject } from "./api-object.ts";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export type Settings = {
  readonly clusterName: string;
  readonly clusterId: string;
  readonly stateDir: string;
  readonly netns: string | undefined;
  readonly xenis: readonly { readonly address: string; readonly subnetId: string }[];
  readonly publicAddress: string | undefined;
  /** `https://<host>` of the cluster, as describe-cluster shows it. */
  readonly endpoint: string | undefined;
  /** Kubernetes version, `1.33`. */
  readonly version: string;
  readonly serviceCidr: string;
  /** Port of the host door on 127.0.0.1; 0 takes a free one. */
  readonly kubePort: number;
  /** Absent: a CA is made under `<stateDir>/pki`. */
  readonly caCertFile: string | undefined;
  readonly caKeyFile: string | undefined;
  readonly region: string;
  readonly accountId: string;
  /** Issuer of service account tokens. */
  readonly oidcIssuer: string;
  /** How bearer tokens of `aws eks get-token` are verified; absent: they are refused. */
  readonly sts:
    | { readonly host: string; readonly connect: { readonly address: string; readonly port: number } }
    | undefined;
  readonly accessEntriesFile: string | undefined;
  readonly time: { readonly scale: number };
};

/** Reads and completes a settings file; throws when it has no `stateDir`. */
export function readSettings(file: string): Settings {
  return completeSettings(JSON.parse(readFileSync(file, "utf8")), file);
}

export function completeSettings(given: JsonObject, file = "settings"): Settings {
  if (typeof given["stateDir"] !== "string") {
    throw new Error(`Cannot use ${file}: it has no stateDir; give a folder for the server's state`);
  }
  const clusterName = given["clusterName"] ?? "local";
  return {
    clusterName,
    clusterId: given["clusterId"] ?? "0000",
    stateDir: given["stateDir"],
    netns: given["netns"] || undefined,
    xenis: given["xenis"] ?? [],
    publicAddress: given["publicAddress"],
    endpoint: given["endpoint"],
    version: given["version"] ?? "1.33",
    serviceCidr: given["serviceCidr"] ?? "172.20.0.0/16",
    kubePort: given["kubePort"] ?? 6443,
    caCertFile: given["caCertFile"],
    caKeyFile: given["caKeyFile"],
    region: given["region"] ?? "us-west-2",
    accountId: given["accountId"] ?? "111122223333",
    oidcIssuer: given["oidcIssuer"] ?? "https://kubernetes.default.svc",
    sts: given["sts"],
    accessEntriesFile: given["accessEntriesFile"] ?? join(given["stateDir"], "access-entries.json"),
    time: { scale: given["time"]?.scale ?? 1 },
  };
}
