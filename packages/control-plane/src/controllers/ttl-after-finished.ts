/** Deletes finished Jobs when their ttlSecondsAfterFinished has passed. */
import { isNotFound } from "@underlay/kube/client";
import { findCondition } from "@underlay/kube/conditions";
import { keyOf, splitKey, type Job } from "@underlay/kube/objects";
import { jobs } from "@underlay/kube/resources";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";

/** Milliseconds until the Job may go; undefined when it has no time to live or has not finished. Pure. */
export function expiresInMs(job: Job, now: Date): number | undefined {
  const ttl = job.spec?.ttlSecondsAfterFinished;
  const conditions = job.status?.conditions;
  const end = [findCondition(conditions, "Complete"), findCondition(conditions, "Failed")].find(
    (condition) => condition?.status === "True",
  );
  if (ttl === undefined || !end?.lastTransitionTime) return undefined;
  return Date.parse(end.lastTransitionTime) + ttl * 1000 - now.getTime();
}

export async function runTtlAfterFinishedController(context: ControllerContext): Promise<void> {
  const all = context.informers.of(jobs);
  const queue = new WorkQueue();
  all.on({ add: (job) => queue.add(keyOf(job)), update: (_old, job) => queue.add(keyOf(job)) });
  const reconcile = async (key: string): Promise<Requeue> => {
    const job = all.get(key);
    const left = job && job.metadata.deletionTimestamp === undefined ? expiresInMs(job, new Date()) : undefined;
    if (!job || left === undefined) return;
    if (left > 0) return { requeueAfterMs: left + 10 };
    const { namespace, name } = splitKey(key);
    const preconditions = { uid: job.metadata.uid, resourceVersion: job.metadata.resourceVersion };
    await context.client
      .delete(jobs, name, { namespace, propagationPolicy: "Foreground", preconditions })
      .catch((err: unknown) => {
        if (!isNotFound(err)) throw err;
      });
  };
  await runQueue(context, "ttl-after-finished", queue, reconcile, 2);
}
