/**
 * Cluster DNS, as the coredns add-on runs it: `-conf <Corefile>`. Answers the cluster's zones from the API server's Services and
 * EndpointSlices and forwards the rest to the VPC resolver. Health, readiness and metrics where the Corefile puts them.
 */
import { readFileSync, watchFile } from "node:fs";
import http from "node:http";
import { parseArgs } from "node:util";
import { KubeClient } from "@underlay/kube/client";
import { inClusterConfig } from "@underlay/kube/config";
import { createLog } from "@underlay/log/log";
import { Counter, Histogram, Registry } from "prom-client";
import { WatchedCluster } from "./cluster-view.ts";
import { parseCorefile } from "./corefile.ts";
import { Forwarder, upstreamAddresses } from "./forwarder.ts";
import { createResolver, type Resolver } from "./resolver.ts";
import { serveDns } from "./server.ts";

const log = createLog("coredns");
const { conf } = parseArgs({
  args: process.argv.slice(2).map((arg) => (arg === "-conf" ? "--conf" : arg)),
  options: { conf: { type: "string", default: "/etc/coredns/Corefile" } },
}).values;

let settings = parseCorefile(readFileSync(conf, "utf8"));
const registry = new Registry();
const requests = new Counter({
  name: "coredns_dns_requests_total",
  help: "DNS requests.",
  labelNames: ["proto", "type"],
  registers: [registry],
});
const responses = new Counter({
  name: "coredns_dns_responses_total",
  help: "DNS responses.",
  labelNames: ["rcode"],
  registers: [registry],
});
const durations = new Histogram({
  name: "coredns_dns_request_duration_seconds",
  help: "Time a DNS request took.",
  buckets: [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096],
  registers: [registry],
});

const client = new KubeClient(await inClusterConfig(), { userAgent: "coredns" });
const view = new WatchedCluster(client, settings.zone);
const stop = new AbortController();
view.start(stop.signal);

let resolver = build();
function build(): Resolver {
  const forwarder = new Forwarder({
    upstreams: upstreamAddresses(settings.upstream),
    cacheSeconds: settings.cacheSeconds,
    now: Date.now,
  });
  return createResolver({ settings, view, forwarder });
}

await serveDns({
  port: settings.port,
  address: "0.0.0.0",
  resolve: (question) => resolver(question),
  observe: ({ type, rcode, tookMs, transport, name }) => {
    requests.inc({ proto: transport, type });
    responses.inc({ rcode });
    durations.observe(tookMs / 1000);
    if (settings.logQueries) log.info("query", { name, type, rcode, tookMs });
  },
});

let leaving = false;
serveStatus(settings.healthPort, "/health", () => (leaving ? undefined : "OK"));
serveStatus(settings.readyPort, "/ready", () => (view.hasSynced() && !leaving ? "OK" : undefined));
serveStatus(settings.metricsPort, "/metrics", () => registry.metrics());
log.info("serving", { zone: settings.zone, upstream: settings.upstream });

if (settings.reload) {
  watchFile(conf, { interval: 15_000 }, () => {
    try {
      settings = parseCorefile(readFileSync(conf, "utf8"));
      resolver = build();
      log.info("read the Corefile again");
    } catch (err) {
      log.error("keeping the former Corefile", { err });
    }
  });
}

process.on("SIGTERM", () => {
  leaving = true;
  setTimeout(() => process.exit(0), settings.lameduckMs);
});

function serveStatus(port: number | undefined, path: string, answer: () => string | undefined | Promise<string>): void {
  if (port === undefined) return;
  http
    .createServer(async (request, response) => {
      if (request.url !== path) {
        response.writeHead(404).end();
        return;
      }
      const body = await answer();
      response.writeHead(body === undefined ? 503 : 200, { "content-type": "text/plain" }).end(body);
    })
    .listen(port, "0.0.0.0");
}
