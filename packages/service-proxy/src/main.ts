/**
 * kube-proxy: `main.ts [--config FILE] [--kubeconfig FILE] [--hostname-override NAME] …` (settings.ts has all flags).
 * Ends on SIGTERM and leaves the rules in force; the next process takes them over.
 */
import { Registry } from "prom-client";
import { Nft } from "@underlay/kernel/nft";
import { isNotFound } from "@underlay/kernel/errors";
import { writeSysctl } from "@underlay/kernel/sysctl";
import { KubeClient } from "@underlay/kube/client";
import { defaultKubeConfig } from "@underlay/kube/config";
import { createLog } from "@underlay/log/log";
import { Freshness, ServiceHealthServers, serveHealth, serveMetrics } from "./health.ts";
import { Proxy } from "./proxy.ts";
import { TABLE } from "./ruleset.ts";
import { readSettings, type Settings } from "./settings.ts";

const log = createLog("kube-proxy");
const settings = readSettings(process.argv.slice(2));
if (settings.cleanup) removeTables();
else await run(settings);

async function run(settings: Settings): Promise<void> {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      stop.abort();
      process.exit(0);
    });
  }
  setSysctls(settings);
  const freshness = new Freshness(Date.now);
  const registry = new Registry();
  const serviceHealth = new ServiceHealthServers(freshness, log);
  const client = new KubeClient(
    await defaultKubeConfig(settings.kubeconfig === undefined ? {} : { file: settings.kubeconfig }),
    { userAgent: "kube-proxy" },
  );
  const proxy = new Proxy({
    client,
    nodeName: settings.nodeName,
    podCidrs: settings.podCidrs,
    nodePortAddresses: settings.nodePortAddresses,
    freshness,
    registry,
    log,
    onHealthChecks: (wanted) => serviceHealth.set(wanted),
  });
  serveHealth(settings.healthz, freshness, () => proxy.node, log);
  serveMetrics(settings.metrics, registry, log);
  log.info("starting", { node: settings.nodeName, mode: "nftables" });
  const began = Date.now();
  await proxy.start(stop.signal);
  log.info("service table is in force", { tookMs: Date.now() - began });
}

/** What proxying depends on. One that cannot be set (a read-only /proc/sys, a sysctl of the first namespace) is told, not fatal. */
function setSysctls({ conntrack }: Settings): void {
  const wanted: Record<string, number | undefined> = {
    "net.ipv4.ip_forward": 1,
    "net.netfilter.nf_conntrack_tcp_timeout_established": conntrack.tcpEstablishedSeconds,
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": conntrack.tcpCloseWaitSeconds,
    // Out-of-window packets of a translated flow would reach the client with the pod's address and reset it.
    "net.netfilter.nf_conntrack_tcp_be_liberal": 1,
  };
  for (const [key, value] of Object.entries(wanted)) {
    if (value === undefined) continue;
    try {
      writeSysctl(undefined, key, value);
    } catch (err) {
      log.warn("cannot set a sysctl", { key, value, err });
    }
  }
}

function removeTables(): void {
  const nft = Nft.open();
  for (const family of ["ip", "ip6"]) {
    try {
      nft.run(`delete table ${family} ${TABLE}`);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  nft.close();
}
