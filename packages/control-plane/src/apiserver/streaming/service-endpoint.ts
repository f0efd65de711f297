/** A ready endpoint of a Service, for those who cannot use its cluster address: webhooks and the service proxy. Pure. */
import type { ObjectReader } from "../seams.ts";
import type { Stored } from "../stored.ts";

export type ServiceEndpoint =
  | { readonly ok: true; readonly address: string; readonly port: number }
  | { readonly ok: false; readonly why: string };

/** `port` is a number or a name of the Service's ports; a random ready endpoint serves it. */
export function serviceEndpoint(
  objects: Pick<ObjectReader, "get" | "list">,
  namespace: string,
  name: string,
  port: number | string,
): ServiceEndpoint {
  const service = objects.get("/services", namespace, name);
  if (!service) return { ok: false, why: `service "${name}" not found` };
  const spec = service["spec"] ?? {};
  const ports: Stored[] = spec.ports ?? [];
  const wanted =
    ports.find((candidate) => candidate.port === Number(port) || candidate.name === String(port)) ??
    (port === "" && ports.length === 1 ? ports[0] : undefined);
  if (!wanted) return { ok: false, why: `no service port ${port} found for service "${name}"` };
  const found: { address: string; port: number }[] = [];
  for (const slice of objects.list("discovery.k8s.io/endpointslices", namespace)) {
    if (slice.metadata.labels?.["kubernetes.io/service-name"] !== name) continue;
    const target = (slice["ports"] ?? []).find((candidate: Stored) => (candidate.name ?? "") === (wanted.name ?? ""));
    if (!target?.port) continue;
    for (const endpoint of slice["endpoints"] ?? []) {
      if (endpoint.conditions?.ready === false) continue;
      for (const address of endpoint.addresses ?? []) found.push({ address, port: target.port });
    }
  }
  if (found.length === 0) return { ok: false, why: `no endpoints available for service "${name}"` };
  return { ok: true, ...found[Math.floor(Math.random() * found.length)]! };
}
