/** What runs of a cluster, read from pid files and the two APIs. Changes nothing. */
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { listNetns } from "@underlay/kernel/netns";
import { findAdopted } from "@underlay/kernel/processes";
import { readinessOf, type Readiness } from "./kube-access.ts";
import type { ClusterRecord, Places } from "./places.ts";

export type Status = {
  readonly cluster: string;
  readonly clusterId: string;
  readonly awsApi: string;
  readonly kubeApi: string;
  readonly processes: readonly { readonly name: string; readonly pid: number | undefined }[];
  readonly namespaces: readonly string[];
  /** Absent when the Kubernetes API does not answer; then `problem` says why. */
  readonly readiness?: Readiness;
  readonly problem?: string;
};

export async function readStatus(places: Places, record: ClusterRecord): Promise<Status> {
  const pidFiles = globSync("**/*.pid", {
    cwd: places.stateDir,
    exclude: (path) => String(path).includes("/root/"),
  }).sort();
  const processes = pidFiles.map((file) => ({
    name: basename(file, ".pid"),
    pid: findAdopted(join(places.stateDir, file))?.pid,
  }));
  const base = {
    cluster: record.plan.name,
    clusterId: record.clusterId,
    awsApi: `http://127.0.0.1:${record.apiPort}`,
    kubeApi: `https://127.0.0.1:${record.kubePort}`,
    processes,
    namespaces: listNetns(`ul-${record.clusterId}-`),
  };
  try {
    return { ...base, readiness: await readinessOf(places) };
  } catch (err) {
    return { ...base, problem: (err as Error).message };
  }
}
