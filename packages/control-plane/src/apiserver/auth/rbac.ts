/**
 * Role-based access control: which rules a user has. Roles and bindings are compiled once per change of their storages.
 * ClusterRole aggregation is resolved here by labels, so it holds whether or not a controller has filled the rules in.
 */
import type { LabelSelector } from "@underlay/kube/objects";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { ApiObject } from "../api-object.ts";
import type { ObjectReader, RequestAttributes, UserInfo } from "../seams.ts";

export type PolicyRule = {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
};
type Binding = { readonly rules: readonly PolicyRule[]; readonly role: string };
type Compiled = {
  /** Subject key → its bindings: of the whole cluster under "", of one namespace under its name. */
  readonly bySubject: ReadonlyMap<string, ReadonlyMap<string, readonly Binding[]>>;
  readonly clusterRoles: ReadonlyMap<string, readonly PolicyRule[]>;
};

const group = "rbac.authorization.k8s.io";
const storages = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"].map((plural) => `${group}/${plural}`);

export class Rbac {
  readonly #objects: ObjectReader;
  #compiled: Compiled | undefined;
  #stamp = "";

  constructor(objects: ObjectReader) {
    this.#objects = objects;
  }

  /** The rules a user has in a namespace ("" for the whole cluster), and by which role. */
  *bindingsOf(user: UserInfo, namespace: string): Generator<Binding> {
    const { bySubject } = this.#compile();
    for (const subject of subjectsOf(user)) {
      const bindings = bySubject.get(subject);
      if (!bindings) continue;
      yield* bindings.get("") ?? [];
      if (namespace !== "") yield* bindings.get(namespace) ?? [];
    }
  }

  /** Rules of a ClusterRole by name, aggregated ones resolved. */
  clusterRole(name: string): readonly PolicyRule[] {
    return this.#compile().clusterRoles.get(name) ?? [];
  }

  #compile(): Compiled {
    const stamp = storages.map((storage) => this.#objects.revision(storage)).join();
    if (this.#compiled && stamp === this.#stamp) return this.#compiled;
    this.#stamp = stamp;
    const [clusterRoles, roles, clusterBindings, bindings] = storages.map((storage) => this.#objects.list(storage));
    this.#compiled = compile(clusterRoles!, roles!, clusterBindings!, bindings!);
    return this.#compiled;
  }
}

function compile(
  clusterRoleObjects: readonly ApiObject[],
  roleObjects: readonly ApiObject[],
  clusterBindings: readonly ApiObject[],
  bindings: readonly ApiObject[],
): Compiled {
  const clusterRoles = new Map<string, readonly PolicyRule[]>();
  for (const role of clusterRoleObjects)
    clusterRoles.set(role.metadata.name, rulesOf(role, clusterRoleObjects, new Set()));
  const roles = new Map(
    roleObjects.map((role) => [`${role.metadata.namespace}/${role.metadata.name}`, role["rules"] ?? []]),
  );
  const bySubject = new Map<string, Map<string, Binding[]>>();
  for (const binding of [...clusterBindings, ...bindings]) {
    const namespace = binding.metadata.namespace ?? "";
    const ref = binding["roleRef"] ?? {};
    const rules = ref.kind === "ClusterRole" ? clusterRoles.get(ref.name) : roles.get(`${namespace}/${ref.name}`);
    if (!rules) continue;
    for (const subject of binding["subjects"] ?? []) {
      const key =
        subject.kind === "ServiceAccount"
          ? `User system:serviceaccount:${subject.namespace ?? namespace}:${subject.name}`
          : `${subject.kind} ${subject.name}`;
      const places = bySubject.get(key) ?? new Map<string, Binding[]>();
      bySubject.set(key, places);
      const place = places.get(namespace) ?? [];
      places.set(namespace, place);
      place.push({ rules, role: `${ref.kind}/${ref.name}` });
    }
  }
  return { bySubject, clusterRoles };
}

function rulesOf(role: ApiObject, all: readonly ApiObject[], seen: Set<string>): readonly PolicyRule[] {
  const selectors: LabelSelector[] = role["aggregationRule"]?.clusterRoleSelectors ?? [];
  if (selectors.length === 0 || seen.has(role.metadata.name)) return role["rules"] ?? [];
  seen.add(role.metadata.name);
  return all
    .filter(
      (other) => other !== role && selectors.some((selector) => matchesLabelSelector(selector, other.metadata.labels)),
    )
    .flatMap((other) => rulesOf(other, all, seen));
}

function subjectsOf(user: UserInfo): string[] {
  return [`User ${user.username}`, ...user.groups.map((name) => `Group ${name}`)];
}

/** Does one rule allow a request. */
export function ruleAllows(rule: PolicyRule, asked: RequestAttributes): boolean {
  if (!matches(rule.verbs, asked.verb)) return false;
  if (asked.resource === "") {
    return (rule.nonResourceURLs ?? []).some(
      (url) => url === "*" || url === asked.path || (url.endsWith("*") && asked.path.startsWith(url.slice(0, -1))),
    );
  }
  if (!matches(rule.apiGroups ?? [], asked.group)) return false;
  if (!resourceMatches(rule.resources ?? [], asked)) return false;
  return !rule.resourceNames?.length || rule.resourceNames.includes(asked.name);
}

function resourceMatches(resources: readonly string[], asked: RequestAttributes): boolean {
  const full = asked.subresource === "" ? asked.resource : `${asked.resource}/${asked.subresource}`;
  return resources.some(
    (resource) =>
      resource === "*" || resource === full || (asked.subresource !== "" && resource === `*/${asked.subresource}`),
  );
}

function matches(list: readonly string[], value: string): boolean {
  return list.includes("*") || list.includes(value);
}
