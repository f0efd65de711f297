/** Which resources the API server serves, CRDs included: aggregated discovery, or group by group where that is not served. */
import type { KubeClient } from "@underlay/kube/client";
import type { Resource } from "@underlay/kube/resources";

export type Discovered = Resource & { readonly verbs: readonly string[] };

type AggregatedList = {
  kind?: string;
  items?: {
    metadata?: { name?: string };
    versions?: {
      version: string;
      resources?: { resource: string; responseKind?: { kind?: string }; scope?: string; verbs?: string[] }[];
    }[];
  }[];
};
type ResourceList = {
  groupVersion: string;
  resources?: { name: string; kind: string; namespaced: boolean; verbs?: string[] }[];
};
type GroupList = { groups?: { name: string; versions: { groupVersion: string }[] }[] };

const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/** Every resource once, in its group's preferred version. */
export async function discover(client: KubeClient): Promise<Discovered[]> {
  const core = await client.request<AggregatedList>("GET", "/api", { accept: aggregated });
  if (core.kind !== "APIGroupDiscoveryList") return preferred(await discoverByGroup(client));
  const groups = await client.request<AggregatedList>("GET", "/apis", { accept: aggregated });
  return preferred([...fromAggregated(core), ...fromAggregated(groups)]);
}

function fromAggregated(list: AggregatedList): Discovered[] {
  return (list.items ?? []).flatMap(({ metadata, versions }) =>
    (versions ?? []).flatMap(({ version, resources }) =>
      (resources ?? []).map(({ resource, responseKind, scope, verbs }) => ({
        group: metadata?.name ?? "",
        version,
        kind: responseKind?.kind ?? "",
        plural: resource,
        namespaced: scope === "Namespaced",
        verbs: verbs ?? [],
      })),
    ),
  );
}

async function discoverByGroup(client: KubeClient): Promise<Discovered[]> {
  const { groups = [] } = await client.request<GroupList>("GET", "/apis");
  const paths = [
    "/api/v1",
    ...groups.flatMap(({ versions }) => versions.map(({ groupVersion }) => `/apis/${groupVersion}`)),
  ];
  const lists = await Promise.all(paths.map((path) => client.request<ResourceList>("GET", path)));
  return lists.flatMap(({ groupVersion, resources = [] }) => {
    const slash = groupVersion.indexOf("/");
    const group = slash < 0 ? "" : groupVersion.slice(0, slash);
    return resources
      .filter(({ name }) => !name.includes("/"))
      .map(({ name, kind, namespaced, verbs = [] }) => ({
        group,
        version: groupVersion.slice(slash + 1),
        kind,
        plural: name,
        namespaced,
        verbs,
      }));
  });
}

/** The first version listed is the preferred one. */
function preferred(all: readonly Discovered[]): Discovered[] {
  const byName = new Map<string, Discovered>();
  for (const one of all) {
    const key = `${one.plural}.${one.group}`;
    if (!byName.has(key)) byName.set(key, one);
  }
  return [...byName.values()];
}
