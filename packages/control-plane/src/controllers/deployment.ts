/** Deployment controller: observes a Deployment's ReplicaSets, applies planDeployment's steps, writes the status. */
import { isAlreadyExists, isNotFound } from "@underlay/kube/client";
import { controllerOf, keyOf, type Deployment, type Pod, type ReplicaSet } from "@underlay/kube/objects";
import { isPodTerminal } from "@underlay/kube/pod";
import { deployments, pods, replicaSets } from "@underlay/kube/resources";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { claimObjects } from "./claim.ts";
import { orphansOf, runQueue, type ControllerContext } from "./context.ts";
import { planDeployment, revisionAnnotation, type DeploymentPlan, type DeploymentStep } from "./deployment-plan.ts";
import { deploymentStatus, progressLeftMs } from "./deployment-status.ts";
import { sameStatus } from "./status.ts";
import { equalTemplates } from "./template-hash.ts";

export async function runDeploymentController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const all = informers.of(deployments);
  const sets = informers.of(replicaSets);
  const allPods = informers.of(pods);
  const recorder = context.recorder("deployment-controller");
  const queue = new WorkQueue();

  const onSet = (set: ReplicaSet) => {
    const owner = controllerOf(set);
    if (owner) {
      if (owner.kind === "Deployment") queue.add(`${set.metadata.namespace}/${owner.name}`);
      return;
    }
    for (const deployment of all.byIndex("namespace", set.metadata.namespace ?? "")) {
      if (matchesLabelSelector(deployment.spec?.selector, set.metadata.labels)) queue.add(keyOf(deployment));
    }
  };
  all.on({
    add: (d) => queue.add(keyOf(d)),
    update: (_old, d) => queue.add(keyOf(d)),
    delete: (d) => queue.add(keyOf(d)),
  });
  sets.on({ add: onSet, update: (_old, set) => onSet(set), delete: onSet });
  // Recreate waits for the last old pod to be gone.
  allPods.on({
    delete: (pod: Pod) => {
      const set = sets.get(`${pod.metadata.namespace}/${controllerOf(pod)?.name}`);
      if (set) onSet(set);
    },
  });

  const reconcile = async (key: string): Promise<Requeue> => {
    const deployment = all.get(key);
    if (!deployment?.spec) return;
    const candidates = [
      ...sets.byIndex("controller", deployment.metadata.uid ?? ""),
      ...sets.byIndex("controller", orphansOf(deployment.metadata.namespace ?? "")),
    ];
    const owner = { object: deployment, of: deployments, selector: deployment.spec.selector };
    const owned = await claimObjects(client, owner, { of: replicaSets, candidates });
    const hash = (set: ReplicaSet | undefined) => set?.metadata.uid ?? "";
    const seen = planDeployment(deployment, owned, false);
    const oldPodsRunning = seen.oldSets.some((set) =>
      allPods.byIndex("controller", hash(set)).some((pod) => !isPodTerminal(pod)),
    );
    const plan = oldPodsRunning ? planDeployment(deployment, owned, true) : seen;
    const now = new Date();
    let current = deployment;
    for (const step of plan.steps) current = await apply(current, step);
    await writeStatus(current, plan, now);
    const left = progressLeftMs(deployment, now);
    return left !== undefined && left > 0 ? { requeueAfterMs: left + 1000 } : undefined;
  };

  const apply = async (deployment: Deployment, step: DeploymentStep): Promise<Deployment> => {
    const { name = "", namespace } = deployment.metadata;
    switch (step.do) {
      case "create-set":
        await createSet(deployment, step.set);
        return deployment;
      case "update-set":
        await client.update(replicaSets, step.set);
        if (step.from !== step.to) {
          const direction = step.to > step.from ? "up" : "down";
          const what = `Scaled ${direction} replica set ${step.set.metadata.name} from ${step.from} to ${step.to}`;
          recorder.event(deployment, "Normal", "ScalingReplicaSet", what);
        }
        return deployment;
      case "delete-set":
        await client.delete(replicaSets, step.set.metadata.name ?? "", { namespace }).catch((err: unknown) => {
          if (!isNotFound(err)) throw err;
        });
        return deployment;
      case "annotate-deployment": {
        const body = { metadata: { annotations: { [revisionAnnotation]: step.revision } } };
        return client.patch(deployments, name, { type: "merge", body }, { namespace });
      }
    }
  };

  const createSet = async (deployment: Deployment, set: ReplicaSet) => {
    try {
      await client.create(replicaSets, set);
      const replicas = set.spec?.replicas ?? 0;
      if (replicas > 0)
        recorder.event(
          deployment,
          "Normal",
          "ScalingReplicaSet",
          `Scaled up replica set ${set.metadata.name} from 0 to ${replicas}`,
        );
    } catch (err) {
      if (!isAlreadyExists(err)) throw err;
      const { name = "", namespace } = set.metadata;
      const existing = await client.get(replicaSets, name, { namespace });
      const ours = controllerOf(existing)?.uid === deployment.metadata.uid;
      // Ours and equal: the cache just has not shown it. Anything else is a collision: the next hash is another.
      if (ours && equalTemplates(existing.spec?.template ?? {}, set.spec?.template ?? {})) return;
      const status = { ...deployment.status, collisionCount: (deployment.status?.collisionCount ?? 0) + 1 };
      await client.updateStatus(deployments, { ...deployment, status });
      throw err;
    }
  };

  const writeStatus = async (deployment: Deployment, plan: DeploymentPlan, now: Date) => {
    const status = deploymentStatus(deployment, plan, now);
    if (sameStatus(status, deployment.status)) return;
    await client.updateStatus(deployments, { ...deployment, status });
  };

  await runQueue(context, "deployment", queue, reconcile, 5);
}
