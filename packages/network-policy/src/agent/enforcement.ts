/** Everything of the agent that costs memory: loaded only when network policy is on. */
import { KubeClient } from "@underlay/kube/client";
import { defaultKubeConfig } from "@underlay/kube/config";
import { readNflog } from "@underlay/kernel/nflog";
import type { AgentLog } from "./agent-log.ts";
import { PolicyAgent } from "./agent.ts";
import { formatFlowEvent, readFlowEvent } from "./flow-log.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import type { Mode } from "./plan.ts";
import { PolicyTable } from "./policy-table.ts";
import type { Settings } from "./settings.ts";

const LOG_GROUP = 11;

export type Enforcement = { readonly agent: PolicyAgent; readonly table: PolicyTable; readonly metrics: Metrics };

/** Resolves once the watches run; `agent.isReady` tells when their first picture is in force. */
export async function startEnforcement(
  settings: Settings,
  mode: Mode,
  log: AgentLog,
  signal: AbortSignal,
): Promise<Enforcement> {
  const metrics = createMetrics();
  const logged = settings.eventLogs
    ? { logGroup: LOG_GROUP, logAccepted: settings.logLevel.toLowerCase() === "debug" }
    : {};
  if (settings.eventLogs) logEvents(metrics, log, signal);
  const table = new PolicyTable({ ...logged, keepEstablished: settings.keepEstablished });
  const client = new KubeClient(await defaultKubeConfig(), { userAgent: "aws-network-policy-agent" });
  const agent = new PolicyAgent({
    client,
    nodeName: settings.nodeName,
    mode,
    vethPrefix: settings.vethPrefix,
    table,
    metrics,
    log,
  });
  agent.start(signal).catch((err: unknown) => {
    if (!signal.aborted) log.event("error", "the agent stopped", { err });
  });
  return { agent, table, metrics };
}

/** Takes back what an agent with policies on left in the kernel. */
export function removePolicyTable(): void {
  const table = new PolicyTable({});
  table.remove();
  table.close();
}

function logEvents(metrics: Metrics, log: AgentLog, signal: AbortSignal): void {
  const reader = readNflog({
    group: LOG_GROUP,
    onPacket: (packet) => {
      const event = readFlowEvent(packet);
      if (event === undefined) return;
      if (event.verdict === "DENY") {
        metrics.drops.inc({ direction: event.direction });
        metrics.dropBytes.inc({ direction: event.direction }, event.bytes);
      }
      log.write(event.verdict === "DENY" ? "info" : "debug", formatFlowEvent(event));
    },
    onLost: () => log.event("warn", "policy events were lost: packets came faster than they were read"),
  });
  signal.addEventListener("abort", () => reader.close());
}
