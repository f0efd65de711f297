/**
 * What a Deployment does next, as data: which ReplicaSets to make, resize, annotate or forget. Pure.
 * One call is one step of a rollout; the informers bring the next. Read next: deployment-status.ts, deployment.ts.
 */
import type { Deployment, ReplicaSet } from "@underlay/kube/objects";
import { ownerReferenceTo } from "./claim.ts";
import { deployments } from "@underlay/kube/resources";
import { intOrPercent } from "./int-or-percent.ts";
import { equalTemplates, hashOf } from "./template-hash.ts";

export const revisionAnnotation = "deployment.kubernetes.io/revision";
const historyAnnotation = "deployment.kubernetes.io/revision-history";
const desiredAnnotation = "deployment.kubernetes.io/desired-replicas";
const maxAnnotation = "deployment.kubernetes.io/max-replicas";
const notCopied = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  revisionAnnotation,
  historyAnnotation,
  desiredAnnotation,
  maxAnnotation,
  "deprecated.deployment.rollback.to",
]);

export type DeploymentStep =
  | { do: "create-set"; set: ReplicaSet }
  /** `from` and `to` differ when this resizes; otherwise only annotations or minReadySeconds move. */
  | { do: "update-set"; set: ReplicaSet; from: number; to: number }
  | { do: "delete-set"; set: ReplicaSet }
  | { do: "annotate-deployment"; revision: string };

export type DeploymentPlan = {
  steps: DeploymentStep[];
  newSet: ReplicaSet | undefined;
  oldSets: ReplicaSet[];
  /** Rollouts report progress; pauses and pure resizes do not. */
  rollout: boolean;
};

type Sized = { set: ReplicaSet; replicas: number };

export function planDeployment(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  oldPodsRunning: boolean,
): DeploymentPlan {
  const newSet = findNewSet(deployment, sets);
  const oldSets = byCreation(sets.filter((set) => set !== newSet));
  const base = { newSet, oldSets, rollout: false };
  if (deployment.metadata.deletionTimestamp !== undefined) return { ...base, steps: [] };
  if (deployment.spec?.paused) {
    const steps = scaleInProportion(deployment, newSet, oldSets);
    return { ...base, steps: steps.length > 0 ? steps : planCleanup(deployment, oldSets) };
  }
  const sync = planRevision(deployment, newSet, oldSets);
  if (isResize(deployment, sets))
    return { ...base, steps: [...sync, ...scaleInProportion(deployment, newSet, oldSets)] };
  const recreate = deployment.spec?.strategy?.type === "Recreate";
  const steps = recreate
    ? planRecreate(deployment, newSet, oldSets, oldPodsRunning)
    : planRolling(deployment, newSet, oldSets);
  const all = steps.length > 0 || !isComplete(deployment) ? steps : planCleanup(deployment, oldSets);
  return { ...base, rollout: true, steps: mergeSteps([...sync, ...all]) };
}

/** The ReplicaSet of the current template; the oldest of several. */
export function findNewSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  const template = deployment.spec?.template;
  if (!template) return undefined;
  return byCreation(sets).find((set) => set.spec?.template && equalTemplates(set.spec.template, template));
}

/** All replicas are of the current template and available, and the status says so. */
export function isComplete(deployment: Deployment, status = deployment.status): boolean {
  const wanted = replicasOf(deployment);
  return (
    (status?.updatedReplicas ?? 0) === wanted &&
    (status?.replicas ?? 0) === wanted &&
    (status?.availableReplicas ?? 0) === wanted &&
    (status?.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

export function replicasOf(object: Deployment | ReplicaSet): number {
  return object.spec?.replicas ?? 1;
}

/** maxSurge and maxUnavailable as numbers; both 0 would stand still, so unavailable becomes 1. */
export function rollingLimits(deployment: Deployment): { maxSurge: number; maxUnavailable: number } {
  const strategy = deployment.spec?.strategy;
  const wanted = replicasOf(deployment);
  if (strategy?.type === "Recreate") return { maxSurge: 0, maxUnavailable: 0 };
  const rolling = strategy?.rollingUpdate;
  const maxSurge = intOrPercent(rolling?.maxSurge ?? "25%", wanted, "up");
  const maxUnavailable = intOrPercent(rolling?.maxUnavailable ?? "25%", wanted, "down");
  if (maxSurge === 0 && maxUnavailable === 0) return { maxSurge: 0, maxUnavailable: 1 };
  return { maxSurge, maxUnavailable: Math.min(maxUnavailable, wanted) };
}

/** Annotations and revision of the new set, and the Deployment's own revision. */
function planRevision(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  oldSets: readonly ReplicaSet[],
): DeploymentStep[] {
  if (!newSet) return [];
  const steps: DeploymentStep[] = [];
  const revision = String(highestRevision(oldSets) + 1);
  const annotations = annotationsFor(deployment, newSet, revision);
  const minReadySeconds = deployment.spec?.minReadySeconds;
  const changed =
    !sameStrings(annotations, newSet.metadata.annotations) ||
    (newSet.spec?.minReadySeconds ?? 0) !== (minReadySeconds ?? 0);
  if (changed) {
    const set = withSpec({ ...newSet, metadata: { ...newSet.metadata, annotations } }, { minReadySeconds });
    steps.push({ do: "update-set", set, from: replicasOf(newSet), to: replicasOf(newSet) });
  }
  const current = annotations[revisionAnnotation] ?? revision;
  if (deployment.metadata.annotations?.[revisionAnnotation] !== current)
    steps.push({ do: "annotate-deployment", revision: current });
  return steps;
}

function planRolling(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  oldSets: readonly ReplicaSet[],
): DeploymentStep[] {
  const wanted = replicasOf(deployment);
  if (!newSet) return planNewSet(deployment, oldSets, rollingNewReplicas(deployment, 0, oldSets));
  const current = replicasOf(newSet);
  if (current > wanted) return resize(deployment, newSet, wanted);
  if (current < wanted) {
    const replicas = rollingNewReplicas(deployment, current, [newSet, ...oldSets]);
    if (replicas !== current) return resize(deployment, newSet, replicas);
  }
  return planOldDown(deployment, newSet, oldSets);
}

function rollingNewReplicas(deployment: Deployment, current: number, all: readonly ReplicaSet[]): number {
  const wanted = replicasOf(deployment);
  const room = wanted + rollingLimits(deployment).maxSurge - sum(all, replicasOf);
  return room <= 0 ? current : current + Math.min(room, wanted - current);
}

/** First replicas that are not available anyway, then as many as availability allows; oldest sets first. */
function planOldDown(deployment: Deployment, newSet: ReplicaSet, oldSets: readonly ReplicaSet[]): DeploymentStep[] {
  const old: Sized[] = oldSets.filter((set) => replicasOf(set) > 0).map((set) => ({ set, replicas: replicasOf(set) }));
  if (old.length === 0) return [];
  const minAvailable = replicasOf(deployment) - rollingLimits(deployment).maxUnavailable;
  const newUnavailable = replicasOf(newSet) - (newSet.status?.availableReplicas ?? 0);
  const total = replicasOf(newSet) + sum(old, ({ replicas }) => replicas);
  let unhealthyBudget = total - minAvailable - newUnavailable;
  if (unhealthyBudget <= 0) return [];
  for (const sized of old) {
    const unhealthy = Math.max(0, sized.replicas - (sized.set.status?.availableReplicas ?? 0));
    const down = Math.min(unhealthyBudget, unhealthy);
    sized.replicas -= down;
    unhealthyBudget -= down;
  }
  const available = sum([newSet, ...old.map(({ set }) => set)], (set) => set.status?.availableReplicas ?? 0);
  let budget = Math.max(0, available - minAvailable);
  for (const sized of old) {
    const down = Math.min(budget, sized.replicas);
    sized.replicas -= down;
    budget -= down;
  }
  return old.flatMap(({ set, replicas }) => (replicas === replicasOf(set) ? [] : resize(deployment, set, replicas)));
}

function planRecreate(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  oldSets: readonly ReplicaSet[],
  oldPodsRunning: boolean,
): DeploymentStep[] {
  const active = oldSets.filter((set) => replicasOf(set) > 0);
  if (active.length > 0) return active.flatMap((set) => resize(deployment, set, 0));
  if (oldPodsRunning || oldSets.some((set) => (set.status?.replicas ?? 0) > 0)) return [];
  const wanted = replicasOf(deployment);
  if (!newSet) return planNewSet(deployment, oldSets, wanted);
  return replicasOf(newSet) === wanted ? [] : resize(deployment, newSet, wanted);
}

function planNewSet(deployment: Deployment, oldSets: readonly ReplicaSet[], replicas: number): DeploymentStep[] {
  const { name = "", namespace } = deployment.metadata;
  const template = deployment.spec?.template ?? {};
  const hash = hashOf(template, deployment.status?.collisionCount);
  const labels = { ...template.metadata?.labels, "pod-template-hash": hash };
  const revision = String(highestRevision(oldSets) + 1);
  const set: ReplicaSet = {
    apiVersion: "apps/v1",
    kind: "ReplicaSet",
    metadata: {
      name: `${name}-${hash}`,
      namespace,
      labels,
      ownerReferences: [ownerReferenceTo(deployment, deployments)],
    },
    spec: {
      replicas,
      minReadySeconds: deployment.spec?.minReadySeconds,
      selector: {
        ...deployment.spec?.selector,
        matchLabels: { ...deployment.spec?.selector?.matchLabels, "pod-template-hash": hash },
      },
      template: { ...template, metadata: { ...template.metadata, labels } },
    },
  };
  set.metadata.annotations = { ...annotationsFor(deployment, set, revision), ...sizeAnnotations(deployment) };
  return [
    { do: "create-set", set },
    ...(deployment.metadata.annotations?.[revisionAnnotation] === revision
      ? []
      : [{ do: "annotate-deployment" as const, revision }]),
  ];
}

/** A change of spec.replicas alone: some active set still remembers another wish. */
function isResize(deployment: Deployment, sets: readonly ReplicaSet[]): boolean {
  return sets.some((set) => {
    const desired = set.metadata.annotations?.[desiredAnnotation];
    return replicasOf(set) > 0 && desired !== undefined && Number(desired) !== replicasOf(deployment);
  });
}

/** Scaling in the middle of a rollout keeps the proportions of the active sets. */
function scaleInProportion(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  oldSets: readonly ReplicaSet[],
): DeploymentStep[] {
  const wanted = replicasOf(deployment);
  const all = newSet ? [...oldSets, newSet] : [...oldSets];
  const active = all.filter((set) => replicasOf(set) > 0);
  if (active.length <= 1) {
    const only = active[0] ?? newSet ?? oldSets.at(-1);
    return only ? resize(deployment, only, wanted) : [];
  }
  if (newSet && isSaturated(deployment, newSet))
    return oldSets.filter((set) => replicasOf(set) > 0).flatMap((set) => resize(deployment, set, 0));
  if (deployment.spec?.strategy?.type === "Recreate") return [];
  const allowed = wanted > 0 ? wanted + rollingLimits(deployment).maxSurge : 0;
  const toAdd = allowed - sum(active, replicasOf);
  const newerFirst = toAdd > 0;
  const sorted = byCreation(active);
  if (newerFirst) sorted.reverse();
  sorted.sort((a, b) => replicasOf(b) - replicasOf(a));
  let added = 0;
  const sized: Sized[] = sorted.map((set) => {
    const share = toAdd === 0 ? 0 : proportionOf(deployment, set, toAdd - added, toAdd > 0);
    added += share;
    return { set, replicas: replicasOf(set) + share };
  });
  const first = sized[0];
  if (first) first.replicas = Math.max(0, first.replicas + toAdd - added);
  return sized.flatMap(({ set, replicas }) => resize(deployment, set, replicas));
}

function proportionOf(deployment: Deployment, set: ReplicaSet, left: number, growing: boolean): number {
  if (left === 0) return 0;
  const size = replicasOf(set);
  const wanted = replicasOf(deployment);
  const before = Number(set.metadata.annotations?.[maxAnnotation] ?? deployment.status?.replicas ?? 0) || 1;
  const share =
    wanted === 0 ? -size : Math.round((size * (wanted + rollingLimits(deployment).maxSurge)) / before) - size;
  return growing ? Math.max(0, Math.min(share, left)) : Math.min(0, Math.max(share, left));
}

function isSaturated(deployment: Deployment, set: ReplicaSet): boolean {
  const wanted = replicasOf(deployment);
  return (
    Number(set.metadata.annotations?.[desiredAnnotation]) === wanted &&
    replicasOf(set) === wanted &&
    (set.status?.availableReplicas ?? 0) === wanted
  );
}

/** Old, empty sets beyond revisionHistoryLimit, oldest revision first. */
function planCleanup(deployment: Deployment, oldSets: readonly ReplicaSet[]): DeploymentStep[] {
  const limit = deployment.spec?.revisionHistoryLimit ?? 10;
  const kept = oldSets.filter((set) => set.metadata.deletionTimestamp === undefined);
  const surplus = [...kept].sort((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, kept.length - limit));
  return surplus
    .filter(
      (set) =>
        replicasOf(set) === 0 &&
        (set.status?.replicas ?? 0) === 0 &&
        (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0),
    )
    .map((set) => ({ do: "delete-set" as const, set }));
}

function resize(deployment: Deployment, set: ReplicaSet, replicas: number): DeploymentStep[] {
  const annotations = { ...set.metadata.annotations, ...sizeAnnotations(deployment) };
  const from = replicasOf(set);
  if (from === replicas && sameStrings(annotations, set.metadata.annotations)) return [];
  return [
    {
      do: "update-set",
      set: withSpec({ ...set, metadata: { ...set.metadata, annotations } }, { replicas }),
      from,
      to: replicas,
    },
  ];
}

/** Two updates of one set become one, with the annotations of both and the later size. */
function mergeSteps(steps: DeploymentStep[]): DeploymentStep[] {
  const merged: DeploymentStep[] = [];
  for (const step of steps) {
    const earlier = merged.findIndex(
      (one) => step.do === "update-set" && one.do === "update-set" && one.set.metadata.name === step.set.metadata.name,
    );
    const before = merged[earlier];
    if (step.do !== "update-set" || before?.do !== "update-set") {
      merged.push(step);
      continue;
    }
    const annotations = { ...step.set.metadata.annotations, ...before.set.metadata.annotations, ...pickSize(step.set) };
    const set = withSpec({ ...before.set, metadata: { ...before.set.metadata, annotations } }, { replicas: step.to });
    merged[earlier] = { do: "update-set", set, from: step.from, to: step.to };
  }
  return merged;
}

function pickSize(set: ReplicaSet): Record<string, string> {
  const all = set.metadata.annotations ?? {};
  return Object.fromEntries(
    [desiredAnnotation, maxAnnotation].flatMap((name) => (all[name] === undefined ? [] : [[name, all[name]]])),
  );
}

function sizeAnnotations(deployment: Deployment): Record<string, string> {
  const wanted = replicasOf(deployment);
  return { [desiredAnnotation]: String(wanted), [maxAnnotation]: String(wanted + rollingLimits(deployment).maxSurge) };
}

/** The set's annotations with the Deployment's copied in, and the revision when it is higher. */
function annotationsFor(deployment: Deployment, set: ReplicaSet, revision: string): Record<string, string> {
  const annotations: Record<string, string> = { ...set.metadata.annotations };
  for (const [name, value] of Object.entries(deployment.metadata.annotations ?? {}))
    if (!notCopied.has(name)) annotations[name] = value;
  const had = annotations[revisionAnnotation];
  if (had === undefined || Number(had) < Number(revision)) {
    annotations[revisionAnnotation] = revision;
    if (had !== undefined)
      annotations[historyAnnotation] = [annotations[historyAnnotation], had].filter(Boolean).join(",");
  }
  return annotations;
}

function highestRevision(sets: readonly ReplicaSet[]): number {
  return Math.max(0, ...sets.map(revisionOf));
}

export function revisionOf(set: ReplicaSet): number {
  return Number(set.metadata.annotations?.[revisionAnnotation] ?? 0) || 0;
}

function withSpec(set: ReplicaSet, change: { replicas?: number; minReadySeconds?: number | undefined }): ReplicaSet {
  if (!set.spec) return set;
  return { ...set, spec: { ...set.spec, ...change } };
}

function byCreation(sets: readonly ReplicaSet[]): ReplicaSet[] {
  const ageOf = (set: ReplicaSet) => `${set.metadata.creationTimestamp ?? ""}/${set.metadata.name}`;
  return [...sets].sort((a, b) => (ageOf(a) < ageOf(b) ? -1 : 1));
}

function sameStrings(a: Record<string, string> = {}, b: Record<string, string> = {}): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
