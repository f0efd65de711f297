/**
 * Keeps the programs of each cluster's control plane, and moves clusters along: CREATING → ACTIVE when the API server says
 * it is ready; DELETING → gone when its programs have ended.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Keeper } from "@underlay/kernel/keeper";
import type { Log } from "@underlay/log/log";
import { writeAccessEntries } from "../eks/access-entries.ts";
import { finishClusterDeletion, oidcIssuer, setClusterStatus, type Cluster } from "../eks/clusters.ts";
import type { Settings } from "../settings.ts";
import type { World } from "../store/kinds.ts";
import { askApiServer } from "./kubernetes-door.ts";
import { startLoop, type ReconcileLoop } from "./reconcile-loop.ts";

/** Where the API servers reach STS: the AWS endpoints' address on the internet side. */
const awsEndpointAddress = "198.51.100.10";
const pollMs = 100;

export type ClusterLifecycleOptions = {
  readonly world: World;
  readonly settings: Settings;
  readonly clusterNetns: (name: string) => string;
  readonly settled: () => Promise<void>;
  readonly log: Log;
};

export type ClusterLifecycle = ReconcileLoop & {
  /** Called in the commit that changed entries: the API server must see them before the caller sees the answer. */
  writeEntries(clusterName: string): void;
};

export function startClusterLifecycle(options: ClusterLifecycleOptions): ClusterLifecycle {
  const { world, settings, log } = options;
  const keeper = new Keeper({
    onEvent: ({ name, what, ...fields }) => log.info(`${what} a control plane program`, { keeps: name, ...fields }),
  });
  const kept = new Set<string>();
  const loop = startLoop({ name: "clusters", log, pass });
  return {
    kick: loop.kick,
    async close() {
      await loop.close();
      keeper.letGo();
    },
    writeEntries: (name) => writeAccessEntries(world, name, join(directoryOf(settings, name), "access-entries.json")),
  };

  async function pass(): Promise<number | undefined> {
    const clusters = world.store.all("cluster");
    if (clusters.some(({ id }) => !kept.has(id))) await options.settled();
    for (const cluster of clusters) {
      if (cluster.status === "DELETING") await end(cluster);
      else if (!kept.has(cluster.id)) start(cluster);
    }
    let waiting = false;
    for (const { id, status } of world.store.all("cluster")) {
      if (status !== "CREATING") continue;
      const ready = await isReady(id);
      if (ready) world.store.transaction(() => setClusterStatus(world, id, "ACTIVE"));
      else waiting = true;
    }
    return waiting ? pollMs : undefined;
  }

  function start(cluster: Cluster): void {
    const directory = directoryOf(settings, cluster.id);
    mkdirSync(directory, { recursive: true });
    writeAccessEntries(world, cluster.id, join(directory, "access-entries.json"));
    const file = join(directory, "settings.json");
    writeFileSync(`${file}.new`, `${JSON.stringify(controlPlaneSettings(cluster, directory), null, 2)}\n`);
    renameSync(`${file}.new`, file);
    for (const program of settings.controlPlane.programs) {
      const name = `eks-${cluster.id}-${program.name}`;
      keeper.keep(name, {
        argv: [...program.argv, file],
        pidFile: join(settings.stateDir, "pids", `${name}.pid`),
        logFile: join(settings.stateDir, "logs", `${name}.log`),
        env: programEnv(),
        cwd: "/",
      });
    }
    kept.add(cluster.id);
  }

  async function end(cluster: Cluster): Promise<void> {
    // Adopting first: a keeper that just started knows no program, but they may run.
    if (!kept.has(cluster.id)) start(cluster);
    const names = settings.controlPlane.programs.map((program) => `eks-${cluster.id}-${program.name}`);
    await Promise.all(names.map((name) => keeper.stop(name)));
    kept.delete(cluster.id);
    world.store.transaction(() => finishClusterDeletion(world, cluster));
    rmSync(directoryOf(settings, cluster.id), { recursive: true, force: true });
    log.info("deleted a cluster", { cluster: cluster.id });
  }

  function controlPlaneSettings(cluster: Cluster, directory: string): Record<string, unknown> {
    const enis = cluster.eniIds.map((id) => world.store.get("eni", id));
    return {
      clusterName: cluster.id,
      clusterId: settings.clusterId,
      stateDir: directory,
      netns: options.clusterNetns(cluster.id),
      xenis: enis.map((eni) => ({ address: eni?.addresses[0]?.address ?? "", subnetId: eni?.subnetId ?? "" })),
      publicAddress: cluster.publicAddress,
      endpoint: `https://${cluster.endpointName}`,
      version: cluster.version,
      serviceCidr: cluster.serviceCidr,
      kubePort: cluster.kubePort,
      caCertFile: settings.caCertFile,
      caKeyFile: settings.caKeyFile,
      region: settings.region,
      accountId: settings.accountId,
      oidcIssuer: oidcIssuer(world, cluster.endpointName.split(".")[0] ?? ""),
      sts: { host: `sts.${settings.region}.amazonaws.com`, connect: { address: awsEndpointAddress, port: 443 } },
      accessEntriesFile: join(directory, "access-entries.json"),
      time: settings.time,
    };
  }

  async function isReady(name: string): Promise<boolean> {
    const answer = await askApiServer(directoryOf(settings, name), "/readyz").catch(() => undefined);
    return answer?.status === 200;
  }
}

export function directoryOf(settings: Pick<Settings, "stateDir">, clusterName: string): string {
  return join(settings.stateDir, "eks", clusterName);
}

function programEnv(): Record<string, string> {
  const level = process.env["UNDERLAY_LOG_LEVEL"];
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ...(level === undefined ? {} : { UNDERLAY_LOG_LEVEL: level }),
  };
}
