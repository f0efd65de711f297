/** Which container a streaming request means, with upstream's refusals. Pure. */
import { badRequest } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";

const names = (containers: readonly { name: string }[] | undefined): string[] => (containers ?? []).map((c) => c.name);

/** The named container, or the only one. */
export function containerOf(pod: ApiObject, asked: string | null): string {
  const spec = pod["spec"] ?? {};
  const containers = names(spec.containers);
  const init = names(spec.initContainers);
  const ephemeral = names(spec.ephemeralContainers);
  if (asked) {
    if ([...containers, ...init, ...ephemeral].includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${pod.metadata.name}`);
  }
  if (containers.length === 1) return containers[0]!;
  const others = init.length ? ` or one of the init containers: [${init.join(" ")}]` : "";
  throw badRequest(
    `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${containers.join(" ")}]${others}`,
  );
}

/** Exec and attach need a pod that has not ended. */
export function mustNotBeCompleted(pod: ApiObject, doing: "exec" | "attach"): void {
  const phase: string = pod["status"]?.phase ?? "";
  if (phase !== "Succeeded" && phase !== "Failed") return;
  const what = doing === "exec" ? "exec into a container in" : "attach to a container in";
  throw badRequest(`cannot ${what} a completed pod; current phase is ${phase}`);
}
