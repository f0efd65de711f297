/** `/metrics/resource`: CPU seconds and memory of containers from /proc, in Prometheus's text form. */
import { readFileSync } from "node:fs";
import type { Kubelet } from "./kubelet.ts";

const ticksPerSecond = 100;
const pageBytes = 4096;

export function resourceMetrics(kubelet: Kubelet): string {
  const cpu: string[] = ["# TYPE container_cpu_usage_seconds_total counter"];
  const memory: string[] = ["# TYPE container_memory_working_set_bytes gauge"];
  for (const worker of kubelet.workers.values()) {
    for (const record of worker.records.values()) {
      if (!record.running) continue;
      const labels = `{container="${record.name}",namespace="${worker.pod.metadata.namespace}",pod="${worker.pod.metadata.name}"}`;
      const usage = processUsage(record.running.pid);
      if (!usage) continue;
      cpu.push(`container_cpu_usage_seconds_total${labels} ${usage.cpuSeconds}`);
      memory.push(`container_memory_working_set_bytes${labels} ${usage.memoryBytes}`);
    }
  }
  return `${[...cpu, ...memory].join("\n")}\n`;
}

/** Of the container's first process; children are not added up. */
function processUsage(pid: number): { cpuSeconds: number; memoryBytes: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // After the command name, which may hold spaces: state is field 3, utime 14, stime 15.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const pages = Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);
    return { cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond, memoryBytes: pages * pageBytes };
  } catch {
    return undefined;
  }
}
