/** CronJob controller: starts Jobs at their times. */
import { isAlreadyExists, isNotFound } from "@underlay/kube/client";
import { wireTime } from "@underlay/kube/conditions";
import { controllerOf, keyOf, type CronJob, type Job } from "@underlay/kube/objects";
import { cronJobs, jobs } from "@underlay/kube/resources";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";
import { planCronJob } from "./cronjob-plan.ts";
import { isFinished } from "./job-plan.ts";
import { sameStatus } from "./status.ts";

export async function runCronJobController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const all = informers.of(cronJobs);
  const allJobs = informers.of(jobs);
  const recorder = context.recorder("cronjob-controller");
  const queue = new WorkQueue();
  const onJob = (job: Job) => {
    const owner = controllerOf(job);
    if (owner?.kind === "CronJob") queue.add(`${job.metadata.namespace}/${owner.name}`);
  };
  all.on({ add: (cron) => queue.add(keyOf(cron)), update: (_old, cron) => queue.add(keyOf(cron)) });
  allJobs.on({ add: onJob, update: (_old, job) => onJob(job), delete: onJob });

  const reconcile = async (key: string): Promise<Requeue> => {
    const cron = all.get(key);
    if (!cron) return;
    const owned = allJobs.byIndex("controller", cron.metadata.uid ?? "");
    const plan = planCronJob(cron, owned, new Date());
    for (const job of plan.delete) {
      const { name = "", namespace } = job.metadata;
      await client.delete(jobs, name, { namespace, propagationPolicy: "Background" }).catch((err: unknown) => {
        if (!isNotFound(err)) throw err;
      });
      recorder.event(cron, "Normal", "SuccessfulDelete", `Deleted job ${name}`);
    }
    if (plan.skipped) recorder.event(cron, plan.skipped.type, plan.skipped.reason, plan.skipped.message);
    let started: Job | undefined;
    if (plan.create) {
      try {
        started = await client.create(jobs, plan.create.job);
        recorder.event(cron, "Normal", "SuccessfulCreate", `Created job ${started.metadata.name}`);
      } catch (err) {
        if (!isAlreadyExists(err)) throw err;
      }
    }
    await writeStatus(cron, owned, started, plan.create?.scheduledAt);
    return plan.waitMs === undefined ? undefined : { requeueAfterMs: plan.waitMs + 100 };
  };

  const writeStatus = async (
    cron: CronJob,
    owned: readonly Job[],
    started: Job | undefined,
    scheduledAt: Date | undefined,
  ) => {
    const running = [...owned.filter((job) => !isFinished(job)), ...(started ? [started] : [])];
    const ends = owned.flatMap((job) => (job.status?.completionTime ? [job.status.completionTime] : [])).sort();
    const lastSuccessfulTime = ends.at(-1) ?? cron.status?.lastSuccessfulTime;
    const status = {
      active: running.map(({ metadata }) => ({
        apiVersion: "batch/v1",
        kind: "Job",
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
      })),
      lastScheduleTime: scheduledAt ? wireTime(scheduledAt) : cron.status?.lastScheduleTime,
      ...(lastSuccessfulTime ? { lastSuccessfulTime } : {}),
    };
    if (!sameStatus(status, cron.status)) await client.updateStatus(cronJobs, { ...cron, status });
  };
  await runQueue(context, "cronjob", queue, reconcile, 2);
}
