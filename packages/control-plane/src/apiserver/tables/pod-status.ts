/** The Status and Restarts cells of a pod, decided from its containers as kubectl users know them. */
import { shortDuration } from "./age.ts";
import type { Stored } from "./columns.ts";

export type PodSummary = { ready: string; status: string; restarts: string };

/** Pure: what `kubectl get pods` says of a pod. */
export function summarizePod(pod: Stored, now: number): PodSummary {
  const statuses: Stored[] = pod.status?.containerStatuses ?? [];
  const sidecars = new Set<string>(
    (pod.spec?.initContainers ?? []).filter((c: Stored) => c.restartPolicy === "Always").map((c: Stored) => c.name),
  );
  const total = (pod.spec?.containers ?? []).length + sidecars.size;
  const init = summarizeInit(pod, sidecars);
  let ready = init.readySidecars;
  let restarts = init.restarts;
  let lastRestart = init.lastRestart;
  let status: string = pod.status?.reason || pod.status?.phase || "Unknown";

  if (pod.status?.conditions?.some((c: Stored) => c.type === "PodScheduled" && c.reason === "SchedulingGated")) {
    status = "SchedulingGated";
  }
  if (init.reason) {
    status = init.reason;
  } else {
    restarts = init.sidecarRestarts;
    lastRestart = init.lastSidecarRestart;
    let hasRunning = false;
    for (const container of [...statuses].reverse()) {
      restarts += container.restartCount ?? 0;
      lastRestart = Math.max(lastRestart, finishedAt(container));
      const waiting = container.state?.waiting;
      const terminated = container.state?.terminated;
      if (waiting?.reason) status = waiting.reason;
      else if (terminated) status = terminatedReason(terminated);
      else if (container.ready && container.state?.running) {
        hasRunning = true;
        ready++;
      }
    }
    if (status === "Completed" && hasRunning) status = isReady(pod) ? "Running" : "NotReady";
  }

  if (pod.metadata?.deletionTimestamp) {
    const ended = pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";
    if (pod.status?.reason === "NodeLost") status = "Unknown";
    else if (!ended) status = "Terminating";
  }
  const ago = restarts > 0 && lastRestart > 0 ? ` (${shortDuration(now - lastRestart)} ago)` : "";
  return { ready: `${ready}/${total}`, status, restarts: `${restarts}${ago}` };
}

function summarizeInit(pod: Stored, sidecars: ReadonlySet<string>) {
  const specs: Stored[] = pod.spec?.initContainers ?? [];
  const found = {
    reason: "",
    restarts: 0,
    lastRestart: 0,
    sidecarRestarts: 0,
    lastSidecarRestart: 0,
    readySidecars: 0,
  };
  const statuses: Stored[] = pod.status?.initContainerStatuses ?? [];
  for (const [index, container] of statuses.entries()) {
    found.restarts += container.restartCount ?? 0;
    found.lastRestart = Math.max(found.lastRestart, finishedAt(container));
    const sidecar = sidecars.has(container.name);
    if (sidecar) {
      found.sidecarRestarts += container.restartCount ?? 0;
      found.lastSidecarRestart = Math.max(found.lastSidecarRestart, finishedAt(container));
    }
    const terminated = container.state?.terminated;
    const waiting = container.state?.waiting;
    if (terminated && (terminated.exitCode ?? 0) === 0) continue;
    if (sidecar && container.started) {
      if (container.ready) found.readySidecars++;
      continue;
    }
    if (terminated) found.reason = `Init:${terminatedReason(terminated)}`;
    else if (waiting?.reason && waiting.reason !== "PodInitializing") found.reason = `Init:${waiting.reason}`;
    else found.reason = `Init:${index}/${specs.length}`;
    break;
  }
  return found;
}

function terminatedReason(terminated: Stored): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode ?? 0}`;
}

function finishedAt(container: Stored): number {
  const at = container.lastState?.terminated?.finishedAt;
  return at ? Date.parse(at) : 0;
}

function isReady(pod: Stored): boolean {
  return (pod.status?.conditions ?? []).some((c: Stored) => c.type === "Ready" && c.status === "True");
}
