/** Paths of port 10250. Pure. */

export type Route = {
  readonly kind: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
};

/** `/exec/<ns>/<pod>/<container>` and its like; port-forward has no container, run and exec may carry a uid before it. */
export function parseRoute(path: string): Route | undefined {
  const [kind = "", namespace = "", pod = "", ...rest] = path.split("/").slice(1).map(decodeURIComponent);
  if (!["containerLogs", "exec", "attach", "portForward", "run"].includes(kind) || !namespace || !pod) return undefined;
  return { kind, namespace, pod, container: rest.at(-1) ?? "" };
}
