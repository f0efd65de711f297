/** Picking up after another kubelet (an earlier run, or before a reboot): records from what the shim says and what the API server last heard. */
import type { ContainerStatus, Pod } from "@underlay/kube/objects";
import { newRecord, type ContainerRecord, type Ended } from "./container-record.ts";
import type { PodRuntime, Sandbox } from "./runtime.ts";
import type { ContainerState } from "./shim-client.ts";

export async function adoptRecords(
  records: Map<string, ContainerRecord>,
  pod: Pod,
  sandbox: Sandbox | undefined,
  runtime: PodRuntime,
): Promise<void> {
  const states = sandbox ? sandbox.containers : await runtime.lastStates(pod.metadata.uid ?? "");
  const spec = pod.spec;
  for (const container of [
    ...(spec?.initContainers ?? []),
    ...(spec?.containers ?? []),
    ...(spec?.ephemeralContainers ?? []),
  ]) {
    const own = states.filter((s) => s.name === container.name).sort((a, b) => b.attempt - a.attempt);
    const reported = reportedStatus(pod, container.name);
    const [latest, before] = own;
    if (!latest && !reported) continue;
    const record = newRecord(container.name, latest?.attempt ?? reported?.restartCount ?? 0);
    const image = await runtime.findImage(container.image ?? "");
    if (image.ok) record.imageId = image.imageId;
    record.image = reported?.image;
    if (latest?.running) {
      record.running = {
        ...latest,
        ...(image.ok
          ? { ...(image.image.user ? { imageUser: image.image.user } : {}), imageWorkingDir: image.image.workingDir }
          : {}),
      };
      // What was started and ready stays so until a probe says otherwise: a restart of the kubelet is no reason to leave a Service.
      record.started = container.startupProbe ? reported?.started === true : true;
      record.ready = container.readinessProbe ? reported?.ready === true : true;
      record.previous = before ? endedOf(before) : lastTerminated(reported?.lastState?.terminated);
    } else if (latest) {
      record.ended = endedOf(latest);
      record.previous = before ? endedOf(before) : undefined;
    } else {
      record.ended =
        lastTerminated(reported?.state?.terminated) ?? (reported?.state?.running ? unknownEnd(reported) : undefined);
      record.previous = lastTerminated(reported?.lastState?.terminated);
    }
    records.set(container.name, record);
  }
  if (!sandbox) forgetSandbox(records, pod);
}

/** After a sandbox was lost every container starts over, except those whose end was final. */
export function forgetSandbox(records: Map<string, ContainerRecord>, pod: Pod): void {
  const policy = pod.spec?.restartPolicy ?? "Always";
  const mains = new Set((pod.spec?.containers ?? []).map((c) => c.name));
  for (const record of records.values()) {
    if (!record.ended) continue;
    const final =
      mains.has(record.name) && (policy === "Never" || (policy === "OnFailure" && record.ended.exitCode === 0));
    record.forgotten = !final;
  }
}

function reportedStatus(pod: Pod, name: string): ContainerStatus | undefined {
  const status = pod.status;
  return [
    ...(status?.containerStatuses ?? []),
    ...(status?.initContainerStatuses ?? []),
    ...(status?.ephemeralContainerStatuses ?? []),
  ].find((s) => s.name === name && (s.containerID || s.restartCount > 0));
}

function endedOf(state: ContainerState): Ended {
  return {
    containerId: state.id,
    exitCode: state.exitCode ?? 137,
    reason: state.reason ?? (state.exitCode === 0 ? "Completed" : "Error"),
    startedAt: state.startedAt,
    finishedAt: state.finishedAt ?? new Date().toISOString(),
  };
}

type Terminated = NonNullable<NonNullable<ContainerStatus["state"]>["terminated"]>;

function lastTerminated(from: Terminated | undefined): Ended | undefined {
  if (!from) return undefined;
  return {
    containerId: plainId(from.containerID),
    exitCode: from.exitCode,
    reason: from.reason ?? "Error",
    ...(from.message ? { message: from.message } : {}),
    startedAt: String(from.startedAt ?? new Date().toISOString()),
    finishedAt: String(from.finishedAt ?? new Date().toISOString()),
  };
}

/** A container that ran when its node went down: how it ended, nobody saw. */
function unknownEnd(reported: ContainerStatus): Ended {
  return {
    containerId: plainId(reported.containerID),
    exitCode: 255,
    reason: "Unknown",
    startedAt: String(reported.state?.running?.startedAt ?? new Date().toISOString()),
    finishedAt: new Date().toISOString(),
  };
}

const plainId = (id: string | undefined) => (id ?? "").replace(/^\w+:\/\//, "");
