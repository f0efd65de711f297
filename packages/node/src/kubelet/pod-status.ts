/** A pod's status as upstream's kubelet reports it: phase, conditions, container statuses. Pure. */
import type { Container, ContainerStatus, Pod, PodCondition, PodStatus } from "@underlay/kube/objects";
import { podQosClass } from "@underlay/kube/pod";
import type { ContainerRecord, Ended } from "./container-record.ts";

export type StatusInput = {
  readonly pod: Pod;
  readonly records: ReadonlyMap<string, ContainerRecord>;
  readonly sandboxReady: boolean;
  readonly podIps: readonly string[];
  readonly hostIp: string;
  readonly startTime: string;
  /** All init containers have ended well, and sidecars have started. */
  readonly initialized: boolean;
  /** The pod is over: set by the worker when nothing will be started any more. */
  readonly terminal: boolean;
  /** Phase forced by the kubelet, e.g. DeadlineExceeded. */
  readonly verdict?: { readonly phase: "Failed"; readonly reason: string; readonly message: string };
  readonly now: string;
  /** `name://version` of the container runtime: the scheme of container ids. */
  readonly runtime: string;
};

/** The whole status; conditions of others (readiness gates) are kept as the pod has them. */
export function podStatus(input: StatusInput): PodStatus {
  const { pod, records } = input;
  const spec = pod.spec;
  const mains = spec?.containers ?? [];
  const inits = spec?.initContainers ?? [];
  const phase = input.verdict?.phase ?? podPhase(input);
  const containerStatuses = mains.map((c) => containerStatus(c, records.get(c.name), input, false));
  const initContainerStatuses = inits.map((c) => containerStatus(c, records.get(c.name), input, true));
  const status: PodStatus = {
    phase,
    conditions: conditions(input, phase, containerStatuses),
    startTime: input.startTime,
    qosClass: podQosClass(pod),
    hostIP: input.hostIp,
    hostIPs: [{ ip: input.hostIp }],
    containerStatuses,
  };
  if (inits.length > 0) status.initContainerStatuses = initContainerStatuses;
  const ephemerals = spec?.ephemeralContainers ?? [];
  if (ephemerals.length > 0) {
    status.ephemeralContainerStatuses = ephemerals.map((c) =>
      containerStatus(c as Container, records.get(c.name), input, false),
    );
  }
  if (input.podIps.length > 0) {
    status.podIP = input.podIps[0];
    status.podIPs = input.podIps.map((ip) => ({ ip }));
  }
  if (input.verdict) {
    status.reason = input.verdict.reason;
    status.message = input.verdict.message;
  }
  return status;
}

function podPhase(input: StatusInput): string {
  const { pod, records } = input;
  const policy = pod.spec?.restartPolicy ?? "Always";
  const mains = (pod.spec?.containers ?? []).map((c) => records.get(c.name));
  const regularInits = (pod.spec?.initContainers ?? []).filter((c) => c.restartPolicy !== "Always");
  const initFailed = regularInits.some(
    (c) => (records.get(c.name)?.ended?.exitCode ?? 0) !== 0 && records.get(c.name)?.running === undefined,
  );
  if (!input.initialized && !input.terminal) return initFailed && policy === "Never" ? "Failed" : "Pending";
  if (input.terminal) {
    if (!input.initialized && initFailed) return "Failed";
    const ended = mains.map((r) => r?.ended);
    return ended.every((e) => e !== undefined && e.exitCode === 0) ? "Succeeded" : "Failed";
  }
  const began = mains.filter(
    (r) => r?.running !== undefined || r?.ended !== undefined || r?.previous !== undefined,
  ).length;
  return began < mains.length &&
    mains.some((r) => r === undefined || (r.running === undefined && r.ended === undefined && r.previous === undefined))
    ? "Pending"
    : "Running";
}

function containerStatus(
  container: Container,
  record: ContainerRecord | undefined,
  input: StatusInput,
  init: boolean,
): ContainerStatus {
  const running = record?.running;
  const sidecar = init && container.restartPolicy === "Always";
  const base = {
    name: container.name,
    image: container.image ?? "",
    imageID: record?.imageId ?? "",
    restartCount: record?.restarts ?? 0,
    ready: isReady(record, init, sidecar),
    started: running !== undefined && (init && !sidecar ? true : record?.started === true),
    ...(running
      ? { containerID: containerId(running.id, input.runtime) }
      : record?.ended
        ? { containerID: containerId(record.ended.containerId, input.runtime) }
        : {}),
    lastState: record?.previous ? { terminated: terminated(record.previous, input.runtime) } : {},
  };
  if (running) return { ...base, state: { running: { startedAt: seconds(running.startedAt) } } };
  if (record?.waiting) {
    // While a container waits for its next start, the run that ended is its last state.
    const last = record.ended ?? record.previous;
    return {
      ...base,
      lastState: last ? { terminated: terminated(last, input.runtime) } : {},
      state: { waiting: record.waiting },
    };
  }
  if (record?.ended) return { ...base, state: { terminated: terminated(record.ended, input.runtime) } };
  const initsPending = !init && !input.initialized && (input.pod.spec?.initContainers ?? []).length > 0;
  return { ...base, state: { waiting: { reason: initsPending || init ? "PodInitializing" : "ContainerCreating" } } };
}

/** An init container is ready once it has ended well; others while they run, have started, and their readiness probe agrees. */
function isReady(record: ContainerRecord | undefined, init: boolean, sidecar: boolean): boolean {
  if (!record) return false;
  if (init && !sidecar) return record.running === undefined && record.ended?.exitCode === 0;
  return record.running !== undefined && record.started && record.ready;
}

function terminated(end: Ended, runtime: string) {
  return {
    exitCode: end.exitCode,
    ...(end.signal ? { signal: end.signal } : {}),
    reason: end.reason,
    ...(end.message ? { message: end.message } : {}),
    startedAt: seconds(end.startedAt),
    finishedAt: seconds(end.finishedAt),
    containerID: containerId(end.containerId, runtime),
  };
}

const containerId = (id: string, runtime: string): string => `${runtime.slice(0, runtime.indexOf("://"))}://${id}`;
/** RFC 3339 without a fraction, as API times are. */
export const seconds = (time: string): string => `${time.slice(0, 19)}Z`;

function conditions(input: StatusInput, phase: string, statuses: readonly ContainerStatus[]): PodCondition[] {
  const { pod } = input;
  const terminal = phase === "Succeeded" || phase === "Failed";
  const unready = statuses.filter((s) => !s.ready).map((s) => s.name);
  const over = terminal ? { reason: "PodCompleted" } : {};
  const list =
    unready.length > 0
      ? { reason: "ContainersNotReady", message: `containers with unready status: [${unready.join(" ")}]` }
      : {};
  const containersReady = unready.length === 0 && !terminal;
  const why = terminal ? over : list;
  const gate = (pod.spec?.readinessGates ?? []).find(
    (g) => pod.status?.conditions?.find((c) => c.type === g.conditionType)?.status !== "True",
  );
  const gateWhy = gate ? gateReason(pod, gate.conditionType) : {};
  const notInitialized = (pod.spec?.initContainers ?? []).filter((c) => {
    const record = input.records.get(c.name);
    return c.restartPolicy === "Always" ? !record?.started : record?.ended?.exitCode !== 0;
  });
  const own: [string, boolean, { reason?: string; message?: string }][] = [
    ["PodReadyToStartContainers", input.sandboxReady, {}],
    [
      "Initialized",
      input.initialized,
      input.initialized
        ? terminal && phase === "Succeeded"
          ? over
          : {}
        : {
            reason: "ContainersNotInitialized",
            message: `containers with incomplete status: [${notInitialized.map((c) => c.name).join(" ")}]`,
          },
    ],
    ["Ready", containersReady && !gate, containersReady ? gateWhy : why],
    ["ContainersReady", containersReady, containersReady ? {} : why],
  ];
  return own.map(([type, ok, more]) => {
    const status = ok ? "True" : "False";
    const before = pod.status?.conditions?.find((c) => c.type === type);
    return {
      type,
      status,
      lastTransitionTime:
        before?.status === status && before.lastTransitionTime ? before.lastTransitionTime : seconds(input.now),
      // null removes an earlier reason in a strategic merge patch.
      reason: (more.reason ?? null) as never,
      message: (more.message ?? null) as never,
    };
  });
}

function gateReason(pod: Pod, type: string): { reason: string; message: string } {
  const found = pod.status?.conditions?.find((c) => c.type === type);
  const message = found
    ? `the status of pod readiness gate "${type}" is not "True", but ${found.status}`
    : `corresponding condition of pod readiness gate "${type}" does not exist.`;
  return { reason: "ReadinessGatesNotReady", message };
}
