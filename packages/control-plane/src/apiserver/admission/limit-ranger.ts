/** LimitRange of type Container: default requests and limits of a pod's containers, and their least and most. */
import { parseQuantity } from "@underlay/kube/quantity";
import { forbidden } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";
import type { Stored } from "../stored.ts";

type Amounts = Record<string, string>;

/** Changes a new pod by the limit ranges of its namespace; refuses what lies outside them. */
export function limitPod(request: AdmissionRequest, pod: ApiObject, objects: Pick<ObjectReader, "list">): void {
  if (request.operation !== "CREATE") return;
  const limits: Stored[] = objects
    .list("/limitranges", request.namespace)
    .flatMap((range) => range["spec"]?.limits ?? [])
    .filter((limit: Stored) => limit.type === "Container");
  if (limits.length === 0) return;
  const containers: Stored[] = [...(pod["spec"].initContainers ?? []), ...(pod["spec"].containers ?? [])];
  for (const limit of limits) for (const container of containers) applyContainerDefaults(container, limit);
  const problems = [
    ...new Set(limits.flatMap((limit) => containers.flatMap((container) => outside(container.resources ?? {}, limit)))),
  ];
  if (problems.length === 0) return;
  throw forbidden(
    request.info,
    pod.metadata.name ?? "",
    problems.length === 1 ? problems[0]! : `[${problems.join(", ")}]`,
  );
}

function applyContainerDefaults(container: Stored, limit: { default?: Amounts; defaultRequest?: Amounts }): void {
  const resources = (container.resources ??= {});
  const given: Amounts = resources.limits ?? {};
  const limits: Amounts = { ...limit.default, ...given };
  // A container that names its own limit asks for as much, unless it says otherwise.
  const requests: Amounts = { ...(limit.defaultRequest ?? limit.default), ...given, ...resources.requests };
  if (Object.keys(limits).length > 0) resources.limits = limits;
  if (Object.keys(requests).length > 0) resources.requests = requests;
}

/** What is wrong with a container's amounts, in upstream's words. Pure. */
export function outside(
  resources: { requests?: Amounts; limits?: Amounts },
  limit: { min?: Amounts; max?: Amounts },
): string[] {
  const problems: string[] = [];
  for (const [name, least] of Object.entries(limit.min ?? {})) {
    const asked = resources.requests?.[name];
    if (asked === undefined) problems.push(`minimum ${name} usage per Container is ${least}.  No request is specified`);
    else if (parseQuantity(asked) < parseQuantity(least))
      problems.push(`minimum ${name} usage per Container is ${least}, but request is ${asked}`);
  }
  for (const [name, most] of Object.entries(limit.max ?? {})) {
    const asked = resources.limits?.[name];
    if (asked === undefined) problems.push(`maximum ${name} usage per Container is ${most}.  No limit is specified`);
    else if (parseQuantity(asked) > parseQuantity(most))
      problems.push(`maximum ${name} usage per Container is ${most}, but limit is ${asked}`);
  }
  return problems;
}
