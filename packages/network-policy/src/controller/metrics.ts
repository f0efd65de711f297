/** Upstream's metrics, and a page of them on a unix socket. */
import { rmSync } from "node:fs";
import { createServer } from "node:http";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Log } from "@underlay/log/log";

export type ControllerMetrics = ReturnType<typeof controllerMetrics>;

export function controllerMetrics(countPolicies: () => number) {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    reconciliations: new Counter({
      name: "network_policy_reconciliations_total",
      help: "Looks at a policy, by result",
      labelNames: ["policy_type", "result"],
      registers,
    }),
    duration: new Histogram({
      name: "network_policy_reconcile_duration_seconds",
      help: "Time of one look at a policy, with its writes",
      labelNames: ["policy_type"],
      buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
    objects: new Gauge({
      name: "network_policy_objects_total",
      help: "Policies known",
      labelNames: ["policy_type"],
      registers,
      collect() {
        this.set({ policy_type: policyType }, countPolicies());
      },
    }),
  };
}

/** Value of the label `policy_type`; the other kinds of policies do not exist here. */
export const policyType = "NetworkPolicy";

/** Serves `GET /metrics` until the signal aborts. A socket that cannot be opened is told, not fatal. */
export function serveMetrics(socket: string, registry: Registry, log: Log, signal: AbortSignal): void {
  rmSync(socket, { force: true });
  const server = createServer((request, response) => {
    if (request.url !== "/metrics") return void response.writeHead(404).end();
    registry.metrics().then(
      (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.on("error", (err) => log.warn("cannot serve metrics", { socket, err }));
  server.listen(socket);
  signal.addEventListener("abort", () => server.close(), { once: true });
}
