/** What a CronJob does next: start a Job, replace the running one, forget old ones. Pure. */
import type { CronJob, Job } from "@underlay/kube/objects";
import { cronJobs } from "@underlay/kube/resources";
import { ownerReferenceTo } from "./claim.ts";
import { nextTime, parseSchedule } from "./cron-schedule.ts";
import { isFinished } from "./job-plan.ts";

export type CronJobPlan = {
  create: { job: Job; scheduledAt: Date } | undefined;
  delete: Job[];
  /** Why nothing was started although it was time. */
  skipped: { reason: string; message: string; type: "Normal" | "Warning" } | undefined;
  waitMs: number | undefined;
};

const mostMissed = 100;

export function planCronJob(cron: CronJob, jobs: readonly Job[], now: Date): CronJobPlan {
  const plan: CronJobPlan = {
    create: undefined,
    delete: surplusJobs(cron, jobs),
    skipped: undefined,
    waitMs: undefined,
  };
  const { spec, metadata } = cron;
  if (!spec || spec.suspend || metadata.deletionTimestamp !== undefined) return plan;
  let schedule;
  try {
    schedule = parseSchedule(spec.schedule);
  } catch (err) {
    plan.skipped = {
      type: "Warning",
      reason: "UnparseableSchedule",
      message: `unparseable schedule: ${(err as Error).message}`,
    };
    return plan;
  }
  const earliest = new Date(cron.status?.lastScheduleTime ?? metadata.creationTimestamp ?? now);
  const deadline = spec.startingDeadlineSeconds;
  const from =
    deadline === undefined ? earliest : new Date(Math.max(earliest.getTime(), now.getTime() - deadline * 1000));
  let due: Date | undefined;
  let missed = 0;
  let next = nextTime(schedule, from, spec.timeZone);
  while (next && next <= now) {
    due = next;
    missed += 1;
    next = nextTime(schedule, next, spec.timeZone);
    if (missed > mostMissed) break;
  }
  if (missed > mostMissed) {
    plan.skipped = {
      type: "Warning",
      reason: "TooManyMissedTimes",
      message: "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
    };
    due = new Date(Math.floor(now.getTime() / 60_000) * 60_000);
    next = nextTime(schedule, now, spec.timeZone);
  }
  plan.waitMs = next ? next.getTime() - now.getTime() : undefined;
  if (!due) return plan;
  const job = jobOf(cron, due);
  if (jobs.some((one) => one.metadata.name === job.metadata.name)) return plan;
  const running = jobs.filter((one) => !isFinished(one));
  if (spec.concurrencyPolicy === "Forbid" && running.length > 0) {
    plan.skipped = {
      type: "Normal",
      reason: "JobAlreadyActive",
      message: "Not starting job because prior execution is running and concurrency policy is Forbid",
    };
    return plan;
  }
  if (spec.concurrencyPolicy === "Replace") plan.delete.push(...running);
  plan.create = { job, scheduledAt: due };
  return plan;
}

function jobOf(cron: CronJob, at: Date): Job {
  const template = cron.spec?.jobTemplate;
  return {
    metadata: {
      name: `${cron.metadata.name}-${Math.floor(at.getTime() / 60_000)}`,
      namespace: cron.metadata.namespace,
      labels: { ...template?.metadata?.labels },
      annotations: {
        ...template?.metadata?.annotations,
        "batch.kubernetes.io/cronjob-scheduled-timestamp": at.toISOString().replace(/\.\d+Z$/, "Z"),
      },
      ownerReferences: [ownerReferenceTo(cron, cronJobs)],
    },
    spec: template?.spec,
  };
}

/** Finished Jobs beyond the history limits, oldest first. */
function surplusJobs(cron: CronJob, jobs: readonly Job[]): Job[] {
  const started = (job: Job) => job.status?.startTime ?? job.metadata.creationTimestamp ?? "";
  const ended = (type: string) =>
    jobs
      .filter(
        (job) =>
          (job.status?.conditions ?? []).some((one) => one.type === type && one.status === "True") &&
          job.metadata.deletionTimestamp === undefined,
      )
      .sort((a, b) => (started(a) < started(b) ? -1 : 1));
  const beyond = (all: Job[], limit: number) => all.slice(0, Math.max(0, all.length - limit));
  return [
    ...beyond(ended("Complete"), cron.spec?.successfulJobsHistoryLimit ?? 3),
    ...beyond(ended("Failed"), cron.spec?.failedJobsHistoryLimit ?? 1),
  ];
}
