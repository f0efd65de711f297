/** Where one cluster keeps what, on the machine. Nothing else in the project knows these paths. */
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { UnderlayError } from "@underlay/log/underlay-error";
import type { ClusterPlan } from "./cluster-file.ts";

/** What `up` decided once for a cluster and every later command reads. */
export type ClusterRecord = {
  /** Four hex digits that mark everything of this cluster in the kernel. */
  readonly clusterId: string;
  readonly accountId: string;
  readonly apiPort: number;
  readonly kubePort: number;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly plan: ClusterPlan;
};

export type Places = {
  readonly clusterName: string;
  readonly stateDir: string;
  readonly repoDir: string;
  readonly nodeBinary: string;
  readonly record: string;
  readonly caCert: string;
  readonly caKey: string;
  readonly cloudSettings: string;
  readonly adminKubeconfig: string;
  readonly logs: string;
  readonly pids: string;
};

/** The folder that holds every cluster's state. */
export function stateRoot(env: Readonly<Record<string, string | undefined>>): string {
  return resolve(env["UNDERLAY_STATE"] || "/var/lib/underlay");
}

export function placesOf(root: string, clusterName: string): Places {
  const stateDir = join(root, clusterName);
  return {
    clusterName,
    stateDir,
    repoDir: resolve(import.meta.dirname, "../../.."),
    nodeBinary: process.execPath,
    record: join(stateDir, "cluster.json"),
    caCert: join(stateDir, "pki/ca.crt"),
    caKey: join(stateDir, "pki/ca.key"),
    cloudSettings: join(stateDir, "cloud/settings.json"),
    adminKubeconfig: join(stateDir, "eks", clusterName, "admin.kubeconfig"),
    logs: join(stateDir, "logs"),
    pids: join(stateDir, "pids"),
  };
}

/** Names of the clusters that have state here. */
export function listClusters(root: string): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root).filter((name) => existsSync(join(root, name, "cluster.json")));
}

export function readRecord(places: Places): ClusterRecord | undefined {
  if (!existsSync(places.record)) return undefined;
  return JSON.parse(readFileSync(places.record, "utf8")) as ClusterRecord;
}

/** The record of a cluster that must exist; throws `NoCluster` with what to do. */
export function requireRecord(places: Places): ClusterRecord {
  const record = readRecord(places);
  if (record) return record;
  throw new UnderlayError(
    "NoCluster",
    `Cannot find cluster ${places.clusterName}: there is no state at ${places.stateDir}`,
    {
      hint: "Start one: ./underlay up",
    },
  );
}

/** Writes a file as a whole or not at all. */
export function writeWhole(path: string, content: string, mode = 0o644): void {
  mkdirSync(resolve(path, ".."), { recursive: true });
  writeFileSync(`${path}.new`, content, { mode });
  renameSync(`${path}.new`, path);
}
