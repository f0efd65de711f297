/** EndpointSlice and Endpoints controllers: Services with a selector, their pods, and the zones of their nodes. */
import { isAlreadyExists, isNotFound } from "@underlay/kube/client";
import { keyOf, splitKey, type EndpointSlice, type Node, type Pod, type Service } from "@underlay/kube/objects";
import { isPodReady, podAddresses } from "@underlay/kube/pod";
import { endpoints, endpointSlices, nodes, pods, services } from "@underlay/kube/resources";
import { hasLabels } from "@underlay/kube/selectors";
import { WorkQueue } from "@underlay/kube/workqueue";
import { runQueue, type ControllerContext } from "./context.ts";
import { desiredEndpoints, sameEndpoints } from "./endpoints-plan.ts";
import { managedBy, planEndpointSlices, serviceNameLabel } from "./endpointslice-plan.ts";
import { Expectations } from "./expectations.ts";

export async function runEndpointSliceController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const { queue, matching } = watchServicesAndPods(context);
  const slices = informers.of(endpointSlices);
  const all = informers.of(services);
  const allNodes = informers.of(nodes);
  const expectations = new Expectations();

  const serviceOf = (slice: EndpointSlice) =>
    `${slice.metadata.namespace}/${slice.metadata.labels?.[serviceNameLabel]}`;
  const isOurs = (slice: EndpointSlice) =>
    slice.metadata.labels?.["endpointslice.kubernetes.io/managed-by"] === managedBy;
  slices.on({
    add: (slice) => {
      if (!isOurs(slice)) return;
      expectations.created(serviceOf(slice));
      queue.add(serviceOf(slice));
    },
    update: (_old, slice) => isOurs(slice) && queue.add(serviceOf(slice)),
    delete: (slice) => isOurs(slice) && queue.add(serviceOf(slice)),
  });
  const zoneOf = (node: Node) => node.metadata.labels?.["topology.kubernetes.io/zone"];
  allNodes.on({
    update: (old, node) => {
      if (zoneOf(old) !== zoneOf(node)) for (const service of all.list()) queue.add(keyOf(service));
    },
  });

  const reconcile = async (key: string) => {
    const service = all.get(key);
    if (
      !service?.spec?.selector ||
      service.spec.type === "ExternalName" ||
      service.metadata.deletionTimestamp !== undefined
    ) {
      if (!service) expectations.forget(key);
      return;
    }
    // Slices just made are not in the cache yet; making them again would list every endpoint twice.
    if (!expectations.satisfied(key)) return;
    const existing = slices
      .byIndex("namespace", service.metadata.namespace ?? "")
      .filter((slice) => isOurs(slice) && serviceOf(slice) === key);
    const plan = planEndpointSlices(service, matching(service), existing, (node) => allNodes.get(node));
    if (plan.create.length > 0) expectations.expect(key, { creations: plan.create.length });
    for (const [i, slice] of plan.create.entries()) {
      try {
        await client.create(endpointSlices, slice);
      } catch (err) {
        for (let unmade = i; unmade < plan.create.length; unmade += 1) expectations.created(key);
        throw err;
      }
    }
    for (const slice of plan.update) await client.update(endpointSlices, slice);
    for (const { metadata } of plan.delete) {
      await client
        .delete(endpointSlices, metadata.name ?? "", { namespace: metadata.namespace })
        .catch(tolerateMissing);
    }
  };
  await runQueue(context, "endpointslice", queue, reconcile, 5);
}

export async function runEndpointsController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const { queue, matching } = watchServicesAndPods(context);
  const known = informers.of(endpoints);
  const all = informers.of(services);
  known.on({ delete: (object) => queue.add(keyOf(object)) });

  const reconcile = async (key: string) => {
    const { namespace, name } = splitKey(key);
    const service = all.get(key);
    const current = known.get(key);
    if (!service) {
      const leading = current?.metadata.annotations?.["control-plane.alpha.kubernetes.io/leader"] !== undefined;
      if (current && !leading) await client.delete(endpoints, name, { namespace }).catch(tolerateMissing);
      return;
    }
    if (!service.spec?.selector || service.spec.type === "ExternalName") return;
    const wanted = desiredEndpoints(service, matching(service));
    if (!current) {
      await client.create(endpoints, wanted).catch((err: unknown) => {
        if (!isAlreadyExists(err)) throw err;
      });
    } else if (!sameEndpoints(current, wanted)) {
      await client.update(endpoints, {
        ...current,
        metadata: { ...current.metadata, labels: wanted.metadata.labels },
        subsets: wanted.subsets,
      });
    }
  };
  await runQueue(context, "endpoints", queue, reconcile, 5);
}

/** A queue of Services that hears of their own changes and of their pods'. */
function watchServicesAndPods(context: ControllerContext): { queue: WorkQueue; matching: (service: Service) => Pod[] } {
  const all = context.informers.of(services);
  const allPods = context.informers.of(pods);
  const queue = new WorkQueue();
  const addServicesOf = (...versions: Pod[]) => {
    for (const service of all.byIndex("namespace", versions[0]?.metadata.namespace ?? "")) {
      const selector = service.spec?.selector;
      if (selector && versions.some((pod) => hasLabels(selector, pod.metadata.labels))) queue.add(keyOf(service));
    }
  };
  all.on({
    add: (s) => queue.add(keyOf(s)),
    update: (_old, s) => queue.add(keyOf(s)),
    delete: (s) => queue.add(keyOf(s)),
  });
  allPods.on({
    add: (pod) => addServicesOf(pod),
    update: (old, pod) => {
      if (endpointFacts(old) !== endpointFacts(pod)) addServicesOf(old, pod);
    },
    delete: (pod) => addServicesOf(pod),
  });
  const matching = (service: Service) =>
    allPods
      .byIndex("namespace", service.metadata.namespace ?? "")
      .filter((pod) => hasLabels(service.spec?.selector, pod.metadata.labels))
      .sort((a, b) => ((a.metadata.name ?? "") < (b.metadata.name ?? "") ? -1 : 1));
  return { queue, matching };
}

function endpointFacts(pod: Pod): string {
  return JSON.stringify([
    podAddresses(pod),
    isPodReady(pod),
    pod.metadata.deletionTimestamp !== undefined,
    pod.status?.phase,
    pod.spec?.nodeName,
    pod.metadata.labels,
  ]);
}

function tolerateMissing(err: unknown): void {
  if (!isNotFound(err)) throw err;
}
