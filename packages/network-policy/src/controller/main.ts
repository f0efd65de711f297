/**
 * network-policy-controller, as EKS runs it beside the API server: `main.ts <settings.json>` (the control plane's), or on any cluster
 * `main.ts --kubeconfig FILE`. Acts while ConfigMap kube-system/amazon-vpc-cni has `enable-network-policy-controller: "true"`;
 * turned off, it takes its PolicyEndpoints and finalizers back. One of several leads. Ends on SIGTERM and leaves everything as it is.
 */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeClient } from "@underlay/kube/client";
import { defaultKubeConfig } from "@underlay/kube/config";
import { isNotFound } from "@underlay/kube/errors";
import { runAsLeader } from "@underlay/kube/leader-election";
import { createLog } from "@underlay/log/log";
import { policyEndpoints } from "../api/policy-endpoint.ts";
import { PolicyController } from "./controller.ts";
import { serveMetrics } from "./metrics.ts";
import { readSettings } from "./settings.ts";
import { followSwitch } from "./switch.ts";

const log = createLog("network-policy-controller");
const settings = readSettings(process.argv.slice(2));
const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stop.abort());

try {
  const { kubeconfig } = settings;
  // The API server writes it when it starts, which may be after us.
  while (kubeconfig && !existsSync(kubeconfig)) await sleep(100, undefined, { signal: stop.signal });
  const client = new KubeClient(await defaultKubeConfig(kubeconfig ? { file: kubeconfig } : {}), {
    userAgent: "amazon-network-policy-controller-k8s",
  });
  await untilServed(client, stop.signal);
  await runAsLeader(client, {
    namespace: "kube-system",
    name: "amazon-network-policy-controller-k8s",
    identity: settings.identity,
    signal: stop.signal,
    lead: (signal) => lead(client, signal),
  });
  if (!stop.signal.aborted) {
    log.warn("lost the lease");
    process.exit(1);
  }
} catch (err) {
  if (!stop.signal.aborted) {
    log.error("controller failed", { err });
    process.exit(1);
  }
}
process.exit(0);

async function lead(client: KubeClient, signal: AbortSignal): Promise<void> {
  if (!settings.checkConfigMap) return work(client, signal);
  await followSwitch(client, log, signal, {
    on: (until) => work(client, until),
    off: async () => {
      const cleared = await PolicyController.clear(client);
      log.info("network policies are off", { cleared });
    },
  });
}

async function work(client: KubeClient, signal: AbortSignal): Promise<void> {
  const controller = new PolicyController({ client, log, ...settings });
  if (settings.metricsSocket) serveMetrics(settings.metricsSocket, controller.metrics.registry, log, signal);
  await controller.run(signal);
}

/** The API server may come up after us, and the definition of PolicyEndpoint after that. */
async function untilServed(client: KubeClient, signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      await client.list(policyEndpoints, { limit: 1, retryForMs: 0, timeoutMs: 2_000, signal });
      return;
    } catch (err) {
      signal.throwIfAborted();
      if (!isNotFound(err)) log.debug("waiting for the API server", { err });
      await sleep(200, undefined, { signal });
    }
  }
}
