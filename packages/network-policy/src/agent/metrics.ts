/** The agent's metrics under upstream's names, for what there is of them without eBPF. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = ReturnType<typeof createMetrics>;

const upTo = (from: number, to: number, step: number): number[] =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step);

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    drops: new Counter({
      name: "network_policy_drop_count_total",
      help: "Total number of packets dropped by network policies",
      labelNames: ["direction"],
      registers,
    }),
    dropBytes: new Counter({
      name: "network_policy_drop_bytes_total",
      help: "Total number of bytes dropped by network policies",
      labelNames: ["direction"],
      registers,
    }),
    setupLatency: new Gauge({
      name: "awsnodeagent_policy_setup_latency_ms",
      help: "policy configuration setup call latency in ms",
      labelNames: ["name", "namespace"],
      registers,
    }),
    teardownLatency: new Gauge({
      name: "awsnodeagent_policy_teardown_latency_ms",
      help: "policy configuration teardown call latency in ms",
      labelNames: ["name", "namespace"],
      registers,
    }),
    programmingLatency: new Histogram({
      name: "awsnodeagent_policy_programming_latency_seconds",
      help: "Time from a change in the cluster to its enforcement on this node",
      buckets: [0.25, 0.5, ...upTo(1, 59, 1), ...upTo(60, 115, 5), ...upTo(120, 300, 30)],
      registers,
    }),
    writes: new Counter({
      name: "network_policy_table_writes_total",
      help: "Transactions on the node's policy table",
      labelNames: ["kind"],
      registers,
    }),
    cutFlows: new Counter({
      name: "network_policy_cut_connections_total",
      help: "Established connections cut because a policy turned against them",
      registers,
    }),
    failures: new Counter({
      name: "network_policy_table_failures_total",
      help: "Writes of the policy table that failed",
      registers,
    }),
    isolatedPods: new Gauge({
      name: "network_policy_isolated_pods",
      help: "Pods of this node that a policy isolates in at least one direction",
      registers,
    }),
  };
}
