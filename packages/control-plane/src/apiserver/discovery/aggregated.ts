/** Aggregated discovery: every group-version and resource in one answer. v2 and v2beta1 have the same shape. Pure. */
import type { ResourceInfo } from "../resource-info.ts";
import { groupsOf } from "./group-lists.ts";

/** `core` answers `/api` (the group without a name), otherwise `/apis`. */
export function aggregatedDiscovery(infos: readonly ResourceInfo[], core: boolean, version: "v2" | "v2beta1"): object {
  const groups = core ? [{ name: "", versions: ["v1"] }] : groupsOf(infos);
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: groups.map((group) => ({
      metadata: group.name === "" ? { creationTimestamp: null } : { name: group.name, creationTimestamp: null },
      versions: group.versions.map((groupVersion) => ({
        version: groupVersion,
        freshness: "Current",
        resources: infos.filter((info) => info.group === group.name && info.version === groupVersion).map(resource),
      })),
    })),
  };
}

function resource(info: ResourceInfo): object {
  return {
    resource: info.plural,
    responseKind: { group: info.group, version: info.version, kind: info.kind },
    scope: info.namespaced ? "Namespaced" : "Cluster",
    singularResource: info.singular,
    verbs: [...info.verbs].sort(),
    ...(info.shortNames.length ? { shortNames: info.shortNames } : {}),
    ...(info.categories.length ? { categories: info.categories } : {}),
    ...(info.subresources.length
      ? {
          subresources: info.subresources.map((sub) => ({
            subresource: sub.name,
            responseKind: { group: sub.group ?? info.group, version: sub.version ?? info.version, kind: sub.kind },
            verbs: sub.verbs,
          })),
        }
      : {}),
  };
}
