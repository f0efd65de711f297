/** The conditions of a namespace that is being deleted, in upstream's words. Pure. */
import { setCondition } from "@underlay/kube/conditions";
import type { Namespace } from "@underlay/kube/objects";

export type Remaining = { resource: string; group: string; count: number; finalizers: Record<string, number> };
export type Findings = { discoveryError: string | undefined; deletionErrors: string[]; remaining: Remaining[] };

type Status = NonNullable<Namespace["status"]>;

export function terminatingStatus(namespace: Namespace, findings: Findings, now: Date): Status {
  let conditions = (namespace.status?.conditions ?? []) as {
    type: string;
    status: string;
    reason?: string;
    message?: string;
  }[];
  const say = (type: string, bad: boolean, reason: [string, string], message: [string, string]) => {
    const at = bad ? 0 : 1;
    conditions = setCondition(
      conditions,
      { type, status: bad ? "True" : "False", reason: reason[at]!, message: message[at]! },
      now,
    );
  };
  const { discoveryError, deletionErrors, remaining } = findings;
  const counts = remaining.map(
    ({ resource, group, count }) =>
      `${group ? `${resource}.${group}` : `${resource}.`} has ${count} resource instances`,
  );
  const finalizers = new Map<string, number>();
  for (const one of remaining)
    for (const [name, count] of Object.entries(one.finalizers))
      finalizers.set(name, (finalizers.get(name) ?? 0) + count);
  const held = [...finalizers].map(([name, count]) => `${name} in ${count} resource instances`);
  say(
    "NamespaceDeletionDiscoveryFailure",
    discoveryError !== undefined,
    ["DiscoveryFailed", "ResourcesDiscovered"],
    [`Discovery failed for some groups: ${discoveryError}`, "All resources successfully discovered"],
  );
  say(
    "NamespaceDeletionGroupVersionParsingFailure",
    false,
    ["GroupVersionParsingFailed", "ParsedGroupVersions"],
    ["", "All legacy kube types successfully parsed"],
  );
  say(
    "NamespaceDeletionContentFailure",
    deletionErrors.length > 0,
    ["ContentDeletionFailed", "ContentDeleted"],
    [
      `Failed to delete all resource types, ${deletionErrors.length} remaining: ${deletionErrors.join(", ")}`,
      "All content successfully deleted, may be waiting on finalization",
    ],
  );
  say(
    "NamespaceContentRemaining",
    counts.length > 0,
    ["SomeResourcesRemain", "ContentRemoved"],
    [`Some resources are remaining: ${counts.join(", ")}`, "All content successfully removed"],
  );
  say(
    "NamespaceFinalizersRemaining",
    held.length > 0,
    ["SomeFinalizersRemain", "ContentHasNoFinalizers"],
    [
      `Some content in the namespace has finalizers remaining: ${held.join(", ")}`,
      "All content-preserving finalizers finished",
    ],
  );
  return { ...namespace.status, phase: "Terminating", conditions } as Status;
}
