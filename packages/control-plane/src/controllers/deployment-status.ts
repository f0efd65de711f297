/** A Deployment's status and its Available and Progressing conditions, from its ReplicaSets. Pure. */
import { findCondition, wireTime } from "@underlay/kube/conditions";
import type { Deployment, ReplicaSet } from "@underlay/kube/objects";
import { isComplete, replicasOf, rollingLimits, type DeploymentPlan } from "./deployment-plan.ts";

type Status = NonNullable<Deployment["status"]>;
type Condition = NonNullable<Status["conditions"]>[number];

export function deploymentStatus(deployment: Deployment, plan: DeploymentPlan, now: Date): Status {
  const { newSet, oldSets } = plan;
  const all = newSet ? [...oldSets, newSet] : oldSets;
  const total = (of: (status: NonNullable<ReplicaSet["status"]>) => number | undefined) =>
    all.reduce((sum, set) => sum + (set.status ? (of(set.status) ?? 0) : 0), 0);
  const replicas = total((status) => status.replicas);
  const availableReplicas = total((status) => status.availableReplicas);
  // What should be there counts, not what is: pods still to be created are unavailable too.
  const wantedNow = all.reduce((sum, set) => sum + replicasOf(set), 0);
  const status: Status = {
    observedGeneration: deployment.metadata.generation,
    replicas,
    updatedReplicas: newSet?.status?.replicas ?? 0,
    readyReplicas: total((one) => one.readyReplicas),
    availableReplicas,
    unavailableReplicas: Math.max(0, wantedNow - availableReplicas),
    terminatingReplicas: total((one) => one.terminatingReplicas),
    ...(deployment.status?.collisionCount ? { collisionCount: deployment.status.collisionCount } : {}),
  };
  status.conditions = conditionsOf(deployment, plan, status, now);
  // Upstream leaves counters of zero out.
  return Object.fromEntries(Object.entries(status).filter(([, value]) => value !== 0)) as Status;
}

function conditionsOf(deployment: Deployment, plan: DeploymentPlan, status: Status, now: Date): Condition[] {
  const enough = (status.availableReplicas ?? 0) >= replicasOf(deployment) - rollingLimits(deployment).maxUnavailable;
  let conditions = put(
    deployment.status?.conditions ?? [],
    enough
      ? {
          type: "Available",
          status: "True",
          reason: "MinimumReplicasAvailable",
          message: "Deployment has minimum availability.",
        }
      : {
          type: "Available",
          status: "False",
          reason: "MinimumReplicasUnavailable",
          message: "Deployment does not have minimum availability.",
        },
    now,
  );
  const progress = progressOf(deployment, plan, status, now);
  if (progress) conditions = put(conditions, progress, now, isMoving(deployment.status, status));
  conditions = conditions.filter((condition) => condition.type !== "ReplicaFailure");
  const failure = [plan.newSet, ...plan.oldSets]
    .map((set) => findCondition(set?.status?.conditions, "ReplicaFailure"))
    .find(Boolean);
  if (failure) {
    conditions = put(
      [...conditions, ...(deployment.status?.conditions ?? []).filter((c) => c.type === "ReplicaFailure")],
      {
        type: "ReplicaFailure",
        status: "True",
        reason: failure.reason,
        message: failure.message,
      },
      now,
    );
  }
  return conditions;
}

function progressOf(
  deployment: Deployment,
  plan: DeploymentPlan,
  status: Status,
  now: Date,
): Omit<Condition, "lastTransitionTime"> | undefined {
  if (deployment.spec?.progressDeadlineSeconds === undefined) return undefined;
  const old = findCondition(deployment.status?.conditions, "Progressing");
  if (deployment.spec.paused) {
    return old?.reason === "ProgressDeadlineExceeded" || old?.reason === "DeploymentPaused"
      ? undefined
      : { type: "Progressing", status: "Unknown", reason: "DeploymentPaused", message: "Deployment is paused" };
  }
  if (old?.reason === "DeploymentPaused") {
    return { type: "Progressing", status: "Unknown", reason: "DeploymentResumed", message: "Deployment is resumed" };
  }
  const created = plan.steps.find((step) => step.do === "create-set");
  if (created) {
    const name = created.set.metadata.name;
    return {
      type: "Progressing",
      status: "True",
      reason: "NewReplicaSetCreated",
      message: `Created new replica set "${name}"`,
    };
  }
  const subject = plan.newSet
    ? `ReplicaSet "${plan.newSet.metadata.name}"`
    : `Deployment "${deployment.metadata.name}"`;
  if (!old && plan.newSet) {
    const message = `Found new replica set "${plan.newSet.metadata.name}"`;
    return { type: "Progressing", status: "True", reason: "FoundNewReplicaSet", message };
  }
  if (!plan.rollout) return undefined;
  const done = status.replicas === status.updatedReplicas && old?.reason === "NewReplicaSetAvailable";
  if (done) return undefined;
  if (isComplete(deployment, status)) {
    return {
      type: "Progressing",
      status: "True",
      reason: "NewReplicaSetAvailable",
      message: `${subject} has successfully progressed.`,
    };
  }
  if (isMoving(deployment.status, status)) {
    return { type: "Progressing", status: "True", reason: "ReplicaSetUpdated", message: `${subject} is progressing.` };
  }
  const left = progressLeftMs(deployment, now);
  if (left !== undefined && left <= 0) {
    return {
      type: "Progressing",
      status: "False",
      reason: "ProgressDeadlineExceeded",
      message: `${subject} has timed out progressing.`,
    };
  }
  return undefined;
}

/** Time until the progress deadline; undefined when no rollout is waiting for it. */
export function progressLeftMs(deployment: Deployment, now: Date): number | undefined {
  const condition = findCondition(deployment.status?.conditions, "Progressing");
  const deadline = deployment.spec?.progressDeadlineSeconds;
  if (!condition || deadline === undefined || deployment.spec?.paused || isComplete(deployment)) return undefined;
  if (condition.reason === "NewReplicaSetAvailable") return undefined;
  const since = Date.parse(condition.lastUpdateTime ?? condition.lastTransitionTime ?? "");
  return since + deadline * 1000 - now.getTime();
}

function isMoving(old: Status | undefined, status: Status): boolean {
  const n = (value: number | undefined) => value ?? 0;
  return (
    n(status.updatedReplicas) > n(old?.updatedReplicas) ||
    n(status.replicas) - n(status.updatedReplicas) < n(old?.replicas) - n(old?.updatedReplicas) ||
    n(status.readyReplicas) > n(old?.readyReplicas) ||
    n(status.availableReplicas) > n(old?.availableReplicas)
  );
}

/** Puts a condition; one with the same status and reason stays untouched unless `refresh` moves lastUpdateTime. */
function put(
  conditions: readonly Condition[],
  next: Omit<Condition, "lastTransitionTime">,
  now: Date,
  refresh = false,
): Condition[] {
  const old = findCondition(conditions, next.type);
  if (old && old.status === next.status && old.reason === next.reason && !refresh) return [...conditions];
  const lastTransitionTime = old?.status === next.status ? old.lastTransitionTime : wireTime(now);
  const made: Condition = { ...next, lastUpdateTime: wireTime(now), lastTransitionTime };
  return [...conditions.filter((condition) => condition.type !== next.type), made];
}
