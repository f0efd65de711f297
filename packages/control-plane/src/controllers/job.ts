/** Job controller. Pods carry a finalizer until their end is counted in the status, so that none is lost or counted twice. */
import { isConflict, isNotFound } from "@underlay/kube/client";
import { controllerOf, keyOf, type Job, type Pod } from "@underlay/kube/objects";
import { isPodTerminating } from "@underlay/kube/pod";
import { jobs, pods } from "@underlay/kube/resources";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { claimObjects } from "./claim.ts";
import { orphansOf, runQueue, type ControllerContext } from "./context.ts";
import { Expectations } from "./expectations.ts";
import { indexAnnotation, isFinished, planJob, trackingFinalizer } from "./job-plan.ts";
import { podFromTemplate, PodControl, slowStart } from "./pod-control.ts";
import { sameStatus } from "./status.ts";

export async function runJobController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const all = informers.of(jobs);
  const allPods = informers.of(pods);
  const recorder = context.recorder("job-controller");
  const control = new PodControl(client, recorder);
  const queue = new WorkQueue();
  const expectations = new Expectations();
  /** Pods counted in a status that was written, whose finalizer the cache still shows. */
  const counted = new Set<string>();

  const jobOf = (pod: Pod) => {
    const owner = controllerOf(pod);
    return owner?.kind === "Job" ? `${pod.metadata.namespace}/${owner.name}` : undefined;
  };
  const onPod = (pod: Pod) => {
    const key = jobOf(pod);
    if (key) queue.add(key);
  };
  all.on({
    add: (job) => queue.add(keyOf(job)),
    update: (_old, job) => queue.add(keyOf(job)),
    delete: (job) => queue.add(keyOf(job)),
  });
  allPods.on({
    add: (pod) => {
      const key = jobOf(pod);
      if (key) expectations.created(key);
      onPod(pod);
    },
    update: (_old, pod) => {
      const key = jobOf(pod);
      if (key && isPodTerminating(pod)) expectations.deleted(key, pod.metadata.uid ?? "");
      onPod(pod);
      // A pod whose job is gone must not hang on our finalizer.
      if (key && !all.get(key) && isPodTerminating(pod)) void release(pod).catch(() => undefined);
    },
    delete: (pod) => {
      const key = jobOf(pod);
      if (key) expectations.deleted(key, pod.metadata.uid ?? "");
      counted.delete(pod.metadata.uid ?? "");
      onPod(pod);
    },
  });

  const reconcile = async (key: string): Promise<Requeue> => {
    const job = all.get(key);
    if (!job?.spec) {
      expectations.forget(key);
      for (const pod of allPods.list().filter((one) => jobOf(one) === key)) await release(pod);
      return;
    }
    if (!expectations.satisfied(key)) return;
    const selector = job.spec.selector;
    const candidates = [
      ...allPods.byIndex("controller", job.metadata.uid ?? ""),
      ...allPods.byIndex("controller", orphansOf(job.metadata.namespace ?? "")),
    ];
    const owned = selector
      ? await claimObjects(client, { object: job, of: jobs, selector }, { of: pods, candidates })
      : candidates;
    if (job.metadata.deletionTimestamp !== undefined) {
      for (const pod of owned) await release(pod);
      return;
    }
    const visible = owned.map((pod) => (counted.has(pod.metadata.uid ?? "") ? withoutFinalizer(pod) : pod));
    const plan = planJob(job, visible, new Date());
    if (!sameStatus(plan.status, job.status)) {
      await client.updateStatus(jobs, { ...job, status: plan.status });
      for (const pod of plan.release) counted.add(pod.metadata.uid ?? "");
      if (plan.finished?.type === "Complete") recorder.event(job, "Normal", "Completed", "Job completed");
      else if (plan.finished) recorder.event(job, "Warning", plan.finished.reason, plan.finished.message);
    }
    for (const pod of plan.release) await release(pod);
    await act(key, job, plan.delete, plan.create);
    return plan.waitMs !== undefined && !isFinished(job)
      ? { requeueAfterMs: Math.max(0, plan.waitMs) + 10 }
      : undefined;
  };

  const act = async (key: string, job: Job, deletions: readonly Pod[], creations: readonly (number | undefined)[]) => {
    const going = deletions.filter((pod) => !isPodTerminating(pod));
    expectations.expect(key, { creations: creations.length, deletions: going.map((pod) => pod.metadata.uid ?? "") });
    for (const pod of going) {
      await control.delete(job, pod).catch((err: unknown) => {
        expectations.deleted(key, pod.metadata.uid ?? "");
        throw err;
      });
    }
    let started = 0;
    const { error } = await slowStart(creations.length, async (i) => {
      started += 1;
      try {
        await control.create(job, jobPod(job, creations[i]));
      } catch (err) {
        expectations.created(key);
        throw err;
      }
    });
    for (let skipped = started; skipped < creations.length; skipped += 1) expectations.created(key);
    if (error) throw error;
  };

  const release = async (pod: Pod): Promise<void> => {
    const { name = "", namespace, uid } = pod.metadata;
    for (let attempt = 0; ; attempt += 1) {
      const live = await client.find(pods, name, { namespace });
      if (live?.metadata.uid !== uid || !live?.metadata.finalizers?.includes(trackingFinalizer)) return;
      const finalizers = live.metadata.finalizers.filter((one) => one !== trackingFinalizer);
      try {
        const body = { metadata: { resourceVersion: live.metadata.resourceVersion, finalizers } };
        await client.patch(pods, name, { type: "merge", body }, { namespace });
        return;
      } catch (err) {
        if (isNotFound(err)) return;
        if (!isConflict(err) || attempt >= 5) throw err;
      }
    }
  };

  await runQueue(context, "job", queue, reconcile, 5);
}

function withoutFinalizer(pod: Pod): Pod {
  const finalizers = (pod.metadata.finalizers ?? []).filter((one) => one !== trackingFinalizer);
  return { ...pod, metadata: { ...pod.metadata, finalizers } };
}

function jobPod(job: Job, index: number | undefined): Pod {
  const template = job.spec?.template ?? {};
  const finalizers = [trackingFinalizer];
  if (index === undefined) return podFromTemplate({ object: job, of: jobs }, template, { finalizers });
  const mark = { [indexAnnotation]: String(index) };
  const pod = podFromTemplate({ object: job, of: jobs }, template, { finalizers, annotations: mark, labels: mark });
  pod.metadata.generateName = `${job.metadata.name}-${index}-`;
  const variable = { name: "JOB_COMPLETION_INDEX", value: String(index) };
  if (pod.spec) {
    pod.spec.hostname = `${job.metadata.name}-${index}`;
    for (const container of [...pod.spec.containers, ...(pod.spec.initContainers ?? [])])
      container.env = [...(container.env ?? []), variable];
  }
  return pod;
}
