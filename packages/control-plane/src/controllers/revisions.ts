/** ControllerRevisions: the template history of StatefulSets and DaemonSets, as `kubectl rollout history/undo` read it. */
import { isAlreadyExists, isNotFound, type KubeClient } from "@underlay/kube/client";
import type { ControllerRevision, KubeObject, PodTemplateSpec } from "@underlay/kube/objects";
import { controllerRevisions, type Resource } from "@underlay/kube/resources";
import { ownerReferenceTo } from "./claim.ts";
import { canonical, hashOf } from "./template-hash.ts";

export const revisionHashLabel = "controller-revision-hash";

export type RevisionOwner<O extends KubeObject> = {
  object: O;
  of: Resource<O>;
  template: PodTemplateSpec;
  collisionCount: number;
};
export type RevisionPlan = {
  /** Revision numbers to raise: the current template was used before. */
  raise: ControllerRevision | undefined;
  create: ControllerRevision | undefined;
  current: ControllerRevision;
};

/** The revision of the owner's present template: an old one again, or a new one. Pure. */
export function planRevision<O extends KubeObject>(
  owner: RevisionOwner<O>,
  history: readonly ControllerRevision[],
): RevisionPlan {
  const data = revisionData(owner.template);
  const text = canonical(data);
  const sorted = byRevision(history);
  const highest = sorted.at(-1)?.revision ?? 0;
  const equal = sorted.filter((revision) => canonical(revision.data) === text).at(-1);
  if (equal) {
    const raised = equal.revision < highest ? { ...equal, revision: highest + 1 } : undefined;
    return { raise: raised, create: undefined, current: raised ?? equal };
  }
  const hash = hashOf(data, owner.collisionCount);
  const { name, namespace, annotations } = owner.object.metadata;
  const create: ControllerRevision = {
    metadata: {
      name: `${name}-${hash}`,
      namespace,
      labels: { ...owner.template.metadata?.labels, [revisionHashLabel]: hash },
      ...(annotations ? { annotations: withoutApplied(annotations) } : {}),
      ownerReferences: [ownerReferenceTo(owner.object, owner.of)],
    },
    data,
    revision: highest + 1,
  };
  return { raise: undefined, create, current: create };
}

/** Applies the plan. A name taken by other data is a collision: the caller counts it and comes again. */
export async function ensureRevision(
  client: KubeClient,
  plan: RevisionPlan,
): Promise<{ current: ControllerRevision } | { collision: true }> {
  if (plan.raise) return { current: await client.update(controllerRevisions, plan.raise) };
  if (!plan.create) return { current: plan.current };
  try {
    return { current: await client.create(controllerRevisions, plan.create) };
  } catch (err) {
    if (!isAlreadyExists(err)) throw err;
    const { name = "", namespace } = plan.create.metadata;
    const existing = await client.get(controllerRevisions, name, { namespace });
    return canonical(existing.data) === canonical(plan.create.data) ? { current: existing } : { collision: true };
  }
}

/** Revisions nobody uses beyond the limit, oldest first. Pure. */
export function surplusRevisions(
  history: readonly ControllerRevision[],
  inUse: ReadonlySet<string>,
  limit: number,
): ControllerRevision[] {
  const unused = byRevision(history).filter(
    (revision) => !inUse.has(hashOfRevision(revision)) && !inUse.has(revision.metadata.name ?? ""),
  );
  return unused.slice(0, Math.max(0, unused.length - limit));
}

export async function deleteRevisions(client: KubeClient, revisions: readonly ControllerRevision[]): Promise<void> {
  for (const { metadata } of revisions) {
    await client
      .delete(controllerRevisions, metadata.name ?? "", { namespace: metadata.namespace })
      .catch((err: unknown) => {
        if (!isNotFound(err)) throw err;
      });
  }
}

export function hashOfRevision(revision: ControllerRevision): string {
  return revision.metadata.labels?.[revisionHashLabel] ?? "";
}

/** The template a revision holds. */
export function templateOf(revision: ControllerRevision): PodTemplateSpec | undefined {
  const data = revision.data as { spec?: { template?: PodTemplateSpec & { $patch?: string } } } | undefined;
  if (!data?.spec?.template) return undefined;
  const { $patch: _, ...template } = data.spec.template;
  return template;
}

/** kubectl applies this as a strategic merge patch when it rolls back. */
function revisionData(template: PodTemplateSpec): { spec: { template: PodTemplateSpec & { $patch: string } } } {
  return { spec: { template: { ...template, $patch: "replace" } } };
}

function byRevision(history: readonly ControllerRevision[]): ControllerRevision[] {
  return [...history].sort(
    (a, b) => a.revision - b.revision || ((a.metadata.name ?? "") < (b.metadata.name ?? "") ? -1 : 1),
  );
}

function withoutApplied(annotations: Record<string, string>): Record<string, string> {
  const { "kubectl.kubernetes.io/last-applied-configuration": _, ...rest } = annotations;
  return rest;
}
