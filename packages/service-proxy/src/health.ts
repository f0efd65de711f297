/** The HTTP answers of kube-proxy: /healthz and /livez (10256), metrics (10249), and a port per service that asks for one. */
import http from "node:http";
import type { Registry } from "prom-client";
import type { Log } from "@underlay/log/log";
import type { Node } from "@underlay/kube/objects";
import type { HostPort } from "./settings.ts";

/** Changes waiting longer than this make the proxy unhealthy. */
const STALE_MS = 60_000;
const AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler";

/** Whether what is in the kernel is what was asked for lately. */
export class Freshness {
  #oldestPending: number | undefined;
  #lastUpdated: number;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
    this.#lastUpdated = now();
  }

  queued(): void {
    this.#oldestPending ??= this.#now();
  }

  updated(): void {
    this.#oldestPending = undefined;
    this.#lastUpdated = this.#now();
  }

  get isHealthy(): boolean {
    return this.#oldestPending === undefined || this.#now() - this.#oldestPending < STALE_MS;
  }

  /** With nothing pending the state is as fresh as can be. */
  get lastUpdated(): number {
    return this.#oldestPending === undefined ? this.#now() : this.#lastUpdated;
  }
}

/** A node on its way out should get no more traffic from load balancers. */
export function isEligible(node: Node | undefined): boolean {
  if (node === undefined) return true;
  return (
    node.metadata.deletionTimestamp === undefined &&
    !(node.spec?.taints ?? []).some((taint) => taint.key === AUTOSCALER_TAINT)
  );
}

export function serveHealth(at: HostPort, freshness: Freshness, node: () => Node | undefined, log: Log): void {
  serve(at, log, (path) => {
    if (path !== "/healthz" && path !== "/livez") return undefined;
    const eligible = isEligible(node());
    const isOk = freshness.isHealthy && (path === "/livez" || eligible);
    const stamp = (ms: number): string => new Date(ms).toISOString();
    const body = { lastUpdated: stamp(freshness.lastUpdated), currentTime: stamp(Date.now()), nodeEligible: eligible };
    return { code: isOk ? 200 : 503, type: "application/json", body: JSON.stringify(body) };
  });
}

export function serveMetrics(at: HostPort, registry: Registry, log: Log): void {
  serve(at, log, async (path) => {
    if (path === "/metrics") return { code: 200, type: registry.contentType, body: await registry.metrics() };
    if (path === "/proxyMode") return { code: 200, type: "text/plain; charset=utf-8", body: "nftables" };
    if (path === "/healthz") return { code: 200, type: "text/plain; charset=utf-8", body: "ok" };
    return undefined;
  });
}

interface Answer {
  code: number;
  type: string;
  body: string;
  headers?: Record<string, string>;
}

function serve(
  at: HostPort,
  log: Log,
  answer: (path: string) => Answer | undefined | Promise<Answer | undefined>,
): http.Server {
  const server = http.createServer(async (request, response) => {
    const found = await answer((request.url ?? "/").split("?")[0] as string);
    if (found === undefined) {
      response.writeHead(404, { "content-type": "text/plain; charset=utf-8" }).end("404 page not found\n");
      return;
    }
    response
      .writeHead(found.code, { "content-type": found.type, "x-content-type-options": "nosniff", ...found.headers })
      .end(found.body);
  });
  // As upstream: a taken port is told, and tried again; it does not stop the proxying.
  server.on("error", (err) => {
    log.error("cannot listen", { address: `${at.host}:${at.port}`, err });
    setTimeout(() => server.listen(at.port, at.host), 5000).unref();
  });
  server.listen(at.port, at.host);
  return server;
}

export interface ServiceHealth {
  readonly name: string;
  readonly port: number;
  readonly localEndpoints: number;
}

/** healthCheckNodePorts: a server each, telling load balancers whether this node has an endpoint. */
export class ServiceHealthServers {
  readonly #servers = new Map<number, { server: http.Server; facts: ServiceHealth }>();
  readonly #freshness: Freshness;
  readonly #log: Log;

  constructor(freshness: Freshness, log: Log) {
    this.#freshness = freshness;
    this.#log = log;
  }

  set(wanted: readonly ServiceHealth[]): void {
    const ports = new Map(wanted.map((facts) => [facts.port, facts]));
    for (const [port, { server }] of this.#servers) {
      if (ports.has(port)) continue;
      server.close();
      server.closeAllConnections();
      this.#servers.delete(port);
    }
    for (const [port, facts] of ports) {
      const open = this.#servers.get(port);
      if (open !== undefined) open.facts = facts;
      else
        this.#servers.set(port, {
          facts,
          server: serve({ host: "0.0.0.0", port }, this.#log, () => this.#answer(port)),
        });
    }
  }

  #answer(port: number): Answer | undefined {
    const facts = this.#servers.get(port)?.facts;
    if (facts === undefined) return undefined;
    const [namespace, name] = facts.name.split("/");
    const isHealthy = this.#freshness.isHealthy;
    return {
      code: facts.localEndpoints > 0 && isHealthy ? 200 : 503,
      type: "application/json",
      headers: { "x-load-balancing-endpoint-weight": `${facts.localEndpoints}` },
      body: JSON.stringify({
        service: { namespace, name },
        localEndpoints: facts.localEndpoints,
        serviceProxyHealthy: isHealthy,
      }),
    };
  }
}
