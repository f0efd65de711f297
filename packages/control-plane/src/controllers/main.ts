/**
 * kube-controller-manager and kube-scheduler in one process.
 * Argument: the control plane's settings.json; kubeconfigs lie beside it. Stops on SIGTERM.
 * A crash loses nothing: all state is in the API server, and every controller starts from what it sees.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeClient } from "@underlay/kube/client";
import { loadKubeConfig } from "@underlay/kube/config";
import { EventRecorder } from "@underlay/kube/events";
import { namespaces, nodes, persistentVolumeClaims, podDisruptionBudgets, pods } from "@underlay/kube/resources";
import { createLog } from "@underlay/log/log";
import { runScheduler } from "../scheduler/scheduler.ts";
import { SharedInformers, type ControllerContext } from "./context.ts";
import { controllers } from "./controllers.ts";

const settingsFile = process.argv[2];
if (!settingsFile) {
  process.stderr.write("Cannot start the controllers: no settings file given. Usage: main.ts <settings.json>\n");
  process.exit(64);
}
const log = createLog("controller-manager");
const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stop.abort());

const settings = JSON.parse(await readFile(settingsFile, "utf8")) as {
  stateDir: string;
  caCertFile?: string;
  caKeyFile?: string;
};
const beside = (name: string) => join(dirname(settingsFile), name);

try {
  const client = await clientFor("controller-manager.kubeconfig", "kube-controller-manager");
  const schedulerClient = await clientFor("scheduler.kubeconfig", "kube-scheduler");
  await serving(client);
  const pki = join(settings.stateDir, "pki");
  const context: ControllerContext = {
    client,
    informers: new SharedInformers(client, log, stop.signal),
    log,
    signal: stop.signal,
    authority: {
      cert: await readFile(settings.caCertFile ?? join(pki, "ca.crt"), "utf8"),
      key: await readFile(settings.caKeyFile ?? join(pki, "ca.key"), "utf8"),
    },
    recorder: (component) => new EventRecorder(client, { component, log }),
  };
  const { informers } = context;
  const scheduling = runScheduler({
    client: schedulerClient,
    recorder: new EventRecorder(schedulerClient, { component: "default-scheduler", log }),
    log: log.child({ controller: "scheduler" }),
    signal: stop.signal,
    informers: {
      pods: informers.of(pods),
      nodes: informers.of(nodes),
      namespaces: informers.of(namespaces),
      claims: informers.of(persistentVolumeClaims),
      budgets: informers.of(podDisruptionBudgets),
    },
  });
  log.info("controllers started", { controllers: Object.keys(controllers) });
  await Promise.all([scheduling, ...Object.values(controllers).map((run) => run(context))]);
} catch (err) {
  if (!stop.signal.aborted) {
    log.error("controllers failed", { err });
    process.exit(1);
  }
}
process.exit(0);

/** The API server writes the kubeconfigs when it starts, which may be after us. */
async function clientFor(file: string, userAgent: string): Promise<KubeClient> {
  while (!existsSync(beside(file))) await sleep(100, undefined, { signal: stop.signal });
  return new KubeClient(await loadKubeConfig(beside(file)), { userAgent });
}

async function serving(client: KubeClient): Promise<void> {
  for (;;) {
    try {
      await client.request("GET", "/readyz", { timeoutMs: 2_000, retryForMs: 0, signal: stop.signal });
      return;
    } catch (err) {
      stop.signal.throwIfAborted();
      log.debug("waiting for the API server", { err });
      await sleep(100, undefined, { signal: stop.signal });
    }
  }
}
