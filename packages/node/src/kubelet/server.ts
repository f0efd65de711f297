/**
 * Port 10250: what the API server asks of a node (logs, exec, attach, port-forward), over TLS and only for clients with a certificate of
 * the cluster's CA that speak as system:masters (or as the kubelet API's own client). Port 10248 on loopback says `ok` to anyone.
 */
import http from "node:http";
import https from "node:https";
import type { TLSSocket } from "node:tls";
import type { Kubelet } from "./kubelet.ts";
import { parseRoute } from "./kubelet-route.ts";
import { serveLogs } from "./log-server.ts";
import { firstServingPair, requestServingPair } from "./serving-certificate.ts";
import { resourceMetrics } from "./resource-metrics.ts";

export async function startServer(kubelet: Kubelet, signal: AbortSignal): Promise<{ close(): void }> {
  const { context } = kubelet;
  const { settings, log } = context;
  const { pair, signed } = await firstServingPair(context);
  const server = https.createServer(
    { ...pair, ca: settings.clusterCa, requestCert: true, rejectUnauthorized: false },
    (request, response) => {
      handle(kubelet, request, response).catch((err: unknown) => {
        log.warn("request failed", { path: request.url, err });
        if (!response.headersSent) response.writeHead(500);
        response.end(err instanceof Error ? err.message : String(err));
      });
    },
  );
  server.on("upgrade", (request, socket, head) => {
    if (!isAllowed(request)) return void socket.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n");
    // Loaded at the first exec: most kubelets of a cluster never need it.
    import("./stream-server.ts")
      .then(({ serveUpgrade }) => serveUpgrade(kubelet, request, socket, head))
      .catch((err: unknown) => {
        log.warn("stream failed", { path: request.url, err });
        socket.destroy();
      });
  });
  server.on("tlsClientError", () => {});
  server.on("error", (err) => log.error("cannot serve", { err, port: settings.port }));
  server.listen(settings.port, "0.0.0.0");
  const health = http.createServer((_request, response) => void response.end("ok"));
  health.on("error", (err) => log.warn("cannot serve health", { err }));
  health.listen(settings.healthPort, "127.0.0.1");
  if (!signed)
    void requestServingPair(context, (next) => server.setSecureContext({ ...next, ca: settings.clusterCa }), signal);
  return {
    close: () => {
      server.close();
      server.closeAllConnections();
      health.close();
    },
  };
}

async function handle(kubelet: Kubelet, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "https://kubelet");
  if (url.pathname === "/healthz") return void response.end("ok");
  if (!isAllowed(request)) return void response.writeHead(401).end("Unauthorized");
  if (url.pathname === "/pods" || url.pathname === "/pods/") {
    const items = [...kubelet.workers.values()].map((w) => w.pod);
    response.setHeader("Content-Type", "application/json");
    return void response.end(JSON.stringify({ kind: "PodList", apiVersion: "v1", metadata: {}, items }));
  }
  if (url.pathname === "/metrics/resource") {
    response.setHeader("Content-Type", "text/plain; version=0.0.4");
    return void response.end(resourceMetrics(kubelet));
  }
  const route = parseRoute(url.pathname);
  if (!route) return void response.writeHead(404).end("404 page not found\n");
  const worker = kubelet.findWorker(route.namespace, route.pod);
  if (!worker) return void response.writeHead(404).end(`pod "${route.pod}" not found`);
  if (route.kind === "containerLogs")
    return serveLogs(kubelet.context, worker, route.container, url.searchParams, response);
  if (route.kind === "run") {
    const argv =
      url.searchParams.getAll("command").length > 0
        ? url.searchParams.getAll("command")
        : (url.searchParams.get("cmd") ?? "").split(" ");
    const result = await kubelet.context.runtime.execAndCollect(worker.execTarget(route.container), argv, 60_000);
    if (result.code !== 0) response.writeHead(500);
    return void response.end(result.error ?? result.output);
  }
  response.writeHead(400).end("you must specify at least 1 of stdin, stdout, stderr, over a WebSocket");
}

/** A certificate of the cluster's CA, of the API server (or an administrator). */
function isAllowed(request: http.IncomingMessage): boolean {
  const socket = request.socket as TLSSocket;
  if (!socket.authorized) return false;
  const subject = socket.getPeerCertificate().subject as unknown as Record<string, string | string[]> | undefined;
  const groups = [subject?.["O"] ?? []].flat();
  return groups.includes("system:masters") || subject?.["CN"] === "kube-apiserver-kubelet-client";
}
