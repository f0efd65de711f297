/** The unaggregated discovery kinds: APIVersions, APIGroupList, APIGroup, APIResourceList. Pure. */
import { groupVersion, type ResourceInfo } from "../resource-info.ts";

export type Group = { readonly name: string; readonly versions: readonly string[] };

/** Named groups in discovery order with their versions, the newest stable one first. */
export function groupsOf(infos: readonly ResourceInfo[]): Group[] {
  const groups = new Map<string, Set<string>>();
  for (const info of infos) {
    if (info.group === "") continue;
    const versions = groups.get(info.group) ?? new Set();
    groups.set(info.group, versions.add(info.version));
  }
  return [...groups].map(([name, versions]) => ({ name, versions: [...versions].sort(compareVersions) }));
}

/** Kubernetes' version order: v2, v1, v1beta2, v1beta1, v1alpha1, then other names by alphabet. */
export function compareVersions(a: string, b: string): number {
  const left = parse(a);
  const right = parse(b);
  if (!left || !right) return left ? -1 : right ? 1 : a < b ? -1 : 1;
  return right.stability - left.stability || right.major - left.major || right.minor - left.minor;
}

function parse(version: string) {
  const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
  if (!match) return undefined;
  return {
    major: Number(match[1]),
    stability: match[2] === undefined ? 2 : match[2] === "beta" ? 1 : 0,
    minor: Number(match[3] ?? 0),
  };
}

export function apiVersions(): object {
  return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
}

export function apiGroupList(groups: readonly Group[]): object {
  return { kind: "APIGroupList", apiVersion: "v1", groups: groups.map((group) => groupOf(group, false)) };
}

/** `standalone` adds kind and apiVersion, as `/apis/G` answers it. */
export function groupOf(group: Group, standalone: boolean): object {
  const versions = group.versions.map((version) => ({ groupVersion: `${group.name}/${version}`, version }));
  return {
    ...(standalone ? { kind: "APIGroup", apiVersion: "v1" } : {}),
    name: group.name,
    versions,
    preferredVersion: versions[0],
  };
}

/** The resources of one group-version with their subresources as `pods/log`. */
export function apiResourceList(infos: readonly ResourceInfo[]): object {
  const resources: object[] = [];
  for (const info of infos) {
    resources.push({
      name: info.plural,
      singularName: info.singular,
      namespaced: info.namespaced,
      kind: info.kind,
      verbs: [...info.verbs].sort(),
      ...(info.shortNames.length ? { shortNames: info.shortNames } : {}),
      ...(info.categories.length ? { categories: info.categories } : {}),
    });
    for (const sub of info.subresources) {
      resources.push({
        name: `${info.plural}/${sub.name}`,
        singularName: "",
        namespaced: info.namespaced,
        ...(sub.group !== undefined ? { group: sub.group } : {}),
        ...(sub.version !== undefined ? { version: sub.version } : {}),
        kind: sub.kind,
        verbs: sub.verbs,
      });
    }
  }
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: groupVersion(infos[0]!), resources };
}
