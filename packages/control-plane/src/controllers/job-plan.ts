/** What a Job does next: pods to make or delete, whether it is over and why, and its status. Pure. */
import { setCondition, wireTime } from "@underlay/kube/conditions";
import type { Job, Pod } from "@underlay/kube/objects";
import { isPodReady, isPodTerminal, isPodTerminating } from "@underlay/kube/pod";

export const trackingFinalizer = "batch.kubernetes.io/job-tracking";
export const indexAnnotation = "batch.kubernetes.io/job-completion-index";

type Status = NonNullable<Job["status"]>;
type Condition = NonNullable<Status["conditions"]>[number];
export type JobPlan = {
  /** One entry a pod: its index, or undefined for a job without indexes. */
  create: (number | undefined)[];
  delete: Pod[];
  /** Pods whose end is counted in `status` and whose tracking finalizer may go afterwards. */
  release: Pod[];
  status: Status;
  finished: { type: "Complete" | "Failed"; reason: string; message: string } | undefined;
  /** Time until something happens by itself (back-off, deadline). */
  waitMs: number | undefined;
};

const firstBackoffMs = 10_000;
const longestBackoffMs = 360_000;

export function isFinished(job: Job): boolean {
  return (job.status?.conditions ?? []).some(
    ({ type, status }) => (type === "Complete" || type === "Failed") && status === "True",
  );
}

export function planJob(job: Job, pods: readonly Pod[], now: Date): JobPlan {
  const spec = job.spec;
  const indexed = spec?.completionMode === "Indexed";
  const parallelism = spec?.suspend ? 0 : (spec?.parallelism ?? 1);
  const completions = spec?.completions;
  const old = job.status ?? {};
  const tracked = (pod: Pod) => (pod.metadata.finalizers ?? []).includes(trackingFinalizer);
  const succeededNow = pods.filter((pod) => pod.status?.phase === "Succeeded" && tracked(pod));
  // A pod that was deleted before it ended counts as failed.
  const failedNow = pods.filter(
    (pod) =>
      tracked(pod) &&
      (pod.status?.phase === "Failed" || (isPodTerminating(pod) && !isPodTerminal(pod) && !pod.spec?.nodeName)),
  );
  const succeeded = (old.succeeded ?? 0) + succeededNow.length;
  const failed = (old.failed ?? 0) + failedNow.length;
  const active = pods.filter((pod) => !isPodTerminal(pod) && !isPodTerminating(pod));
  const done = new Set(parseIndexes(old.completedIndexes));
  for (const pod of succeededNow) if (indexed) done.add(indexOf(pod));
  const status: Status = {
    ...old,
    startTime: spec?.suspend ? undefined : (old.startTime ?? wireTime(now)),
    active: active.length,
    ready: active.filter(isPodReady).length,
    terminating: pods.filter((pod) => isPodTerminating(pod) && !isPodTerminal(pod)).length,
    succeeded,
    failed,
    ...(indexed ? { completedIndexes: formatIndexes([...done]) } : {}),
    uncountedTerminatedPods: {},
  };
  const plan: JobPlan = {
    create: [],
    delete: [],
    release: [...succeededNow, ...failedNow],
    status,
    finished: undefined,
    waitMs: undefined,
  };
  plan.finished = isFinished(job)
    ? undefined
    : verdict(job, status, { failed, succeeded, done: done.size, active: active.length, indexed }, now);
  if (plan.finished) {
    status.conditions = finish(old.conditions ?? [], plan.finished, now);
    if (plan.finished.type === "Complete") status.completionTime = wireTime(now);
    plan.delete = active;
    status.active = 0;
    status.ready = 0;
    plan.release = [...new Set([...plan.release, ...pods.filter(tracked)])];
    return plan;
  }
  if (isFinished(job)) return { ...plan, status: old, delete: active, release: pods.filter(tracked) };
  status.conditions = suspension(job, now);
  if (spec?.suspend) return { ...plan, delete: active };
  if (spec?.activeDeadlineSeconds !== undefined && status.startTime) {
    plan.waitMs = Date.parse(status.startTime) + spec.activeDeadlineSeconds * 1000 - now.getTime();
  }
  const left =
    completions === undefined
      ? succeeded > 0
        ? active.length
        : parallelism
      : completions - (indexed ? done.size : succeeded);
  const wanted = Math.min(parallelism, Math.max(0, left));
  if (active.length > wanted) plan.delete = active.slice(0, active.length - wanted);
  if (active.length >= wanted) return plan;
  const backoff = backoffLeftMs(pods, failed, now);
  if (backoff > 0) return { ...plan, waitMs: Math.min(plan.waitMs ?? backoff, backoff) };
  // Pods still going keep their place, as podReplacementPolicy TerminatingOrFailed has it for upstream's default.
  const missing = wanted - active.length;
  plan.create = indexed
    ? freeIndexes(completions ?? 0, done, pods, missing)
    : Array.from({ length: missing }, () => undefined);
  return plan;
}

type Counts = { failed: number; succeeded: number; done: number; active: number; indexed: boolean };

function verdict(job: Job, status: Status, counts: Counts, now: Date): JobPlan["finished"] {
  const { completions, backoffLimit = 6, activeDeadlineSeconds } = job.spec ?? {};
  if (counts.failed > backoffLimit) {
    return { type: "Failed", reason: "BackoffLimitExceeded", message: "Job has reached the specified backoff limit" };
  }
  const started = status.startTime ? Date.parse(status.startTime) : now.getTime();
  if (
    activeDeadlineSeconds !== undefined &&
    !job.spec?.suspend &&
    now.getTime() - started >= activeDeadlineSeconds * 1000
  ) {
    return { type: "Failed", reason: "DeadlineExceeded", message: "Job was active longer than specified deadline" };
  }
  const complete =
    completions === undefined
      ? counts.succeeded > 0 && counts.active === 0
      : (counts.indexed ? counts.done : counts.succeeded) >= completions;
  return complete
    ? { type: "Complete", reason: "CompletionsReached", message: "Reached expected number of succeeded pods" }
    : undefined;
}

function finish(
  conditions: readonly Condition[],
  { type, reason, message }: NonNullable<JobPlan["finished"]>,
  now: Date,
): Condition[] {
  const first = type === "Complete" ? "SuccessCriteriaMet" : "FailureTarget";
  const made = { status: "True", reason, message, lastProbeTime: wireTime(now) };
  return setCondition(setCondition(conditions, { type: first, ...made }, now), { type, ...made }, now);
}

function suspension(job: Job, now: Date): Condition[] {
  const old = job.status?.conditions ?? [];
  const was = old.some(({ type, status }) => type === "Suspended" && status === "True");
  if (job.spec?.suspend)
    return setCondition(
      old,
      {
        type: "Suspended",
        status: "True",
        reason: "JobSuspended",
        message: "Job suspended",
        lastProbeTime: wireTime(now),
      },
      now,
    );
  if (!was) return [...old];
  return setCondition(
    old,
    { type: "Suspended", status: "False", reason: "JobResumed", message: "Job resumed", lastProbeTime: wireTime(now) },
    now,
  );
}

/** Ten seconds after the last failure, doubling with each, up to six minutes. */
function backoffLeftMs(pods: readonly Pod[], failed: number, now: Date): number {
  if (failed === 0) return 0;
  const ends = pods.filter((pod) => pod.status?.phase === "Failed").map((pod) => endOf(pod, now));
  if (ends.length === 0) return 0;
  return Math.max(...ends) + Math.min(firstBackoffMs * 2 ** (failed - 1), longestBackoffMs) - now.getTime();
}

function endOf(pod: Pod, now: Date): number {
  const ends = (pod.status?.containerStatuses ?? []).flatMap(({ state }) =>
    state?.terminated?.finishedAt ? [Date.parse(state.terminated.finishedAt)] : [],
  );
  if (ends.length > 0) return Math.max(...ends);
  return Date.parse(pod.metadata.deletionTimestamp ?? pod.metadata.creationTimestamp ?? now.toISOString());
}

function freeIndexes(completions: number, done: ReadonlySet<number>, pods: readonly Pod[], most: number): number[] {
  const busy = new Set(pods.filter((pod) => !isPodTerminal(pod)).map(indexOf));
  const free: number[] = [];
  for (let index = 0; index < completions && free.length < most; index += 1)
    if (!done.has(index) && !busy.has(index)) free.push(index);
  return free;
}

function indexOf(pod: Pod): number {
  return Number(pod.metadata.annotations?.[indexAnnotation] ?? -1);
}

/** "0-2,5" */
export function formatIndexes(indexes: readonly number[]): string {
  const parts: string[] = [];
  const sorted = [...indexes].sort((a, b) => a - b);
  for (let i = 0; i < sorted.length;) {
    let last = i;
    while (sorted[last + 1] === (sorted[last] ?? 0) + 1) last += 1;
    parts.push(last === i ? `${sorted[i]}` : `${sorted[i]}${last === i + 1 ? "," : "-"}${sorted[last]}`);
    i = last + 1;
  }
  return parts.join(",");
}

export function parseIndexes(text: string | undefined): number[] {
  return (text ?? "")
    .split(",")
    .filter(Boolean)
    .flatMap((part) => {
      const [first = 0, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
}
