/**
 * What the node should enforce, from PolicyEndpoints and the pods on it: pure.
 *
 * A profile is one direction's allowances of one list of policy sets: pods that share the list share the profile, so a thousand
 * replicas cost one. Its name is made of the sets' names, its content may change under it. Read next: ruleset.ts.
 */
import { createHash } from "node:crypto";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import { policyKeyOf, variantOf, type Direction, type PolicyEndpoint } from "../api/policy-endpoint.ts";
import { addressSpace, type AddressSpace, type Allowance } from "./address-space.ts";

/** `none`: nothing is enforced. `strict`: a pod without policies talks to its own node only. */
export type Mode = "standard" | "strict" | "none";

export type LocalPod = {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly hostVeth: string;
};

export type Profile = {
  readonly id: string;
  readonly direction: Direction;
  /** Names of the policies whose allowances are united here, `namespace/name`. Empty: nothing selects, all is denied. */
  readonly policies: readonly string[];
  /** Equal stamps, equal content: uids and versions of the objects it was made of. */
  readonly stamp: string;
  readonly space4: AddressSpace;
  readonly space6: AddressSpace;
};

export type PodPlan = {
  readonly pod: LocalPod;
  /** Absent: the direction is open. */
  readonly ingress?: Profile;
  readonly egress?: Profile;
};

export type NodePlan = {
  /** By host veth. */
  readonly pods: ReadonlyMap<string, PodPlan>;
  readonly profiles: ReadonlyMap<string, Profile>;
};

export const emptyPlan: NodePlan = { pods: new Map(), profiles: new Map() };

/** All PolicyEndpoints of one policy and variant. */
type PolicySet = { readonly key: string; readonly policy: string; readonly objects: PolicyEndpoint[]; stamp: string };

/** A policy, its sets, and who is listed where. */
type Policy = { readonly key: string; readonly namespace: string; readonly sets: PolicySet[] };

/** `known` is an earlier plan: profiles whose objects did not change are taken from it as they are. */
export function planNode(
  input: { readonly mode: Mode; readonly pods: readonly LocalPod[]; readonly endpoints: Iterable<PolicyEndpoint> },
  known: NodePlan = emptyPlan,
): NodePlan {
  const pods = new Map<string, PodPlan>();
  const profiles = new Map<string, Profile>();
  if (input.mode === "none") return { pods, profiles };
  const policies = groupByNamespace(input.endpoints);
  const profileOf = (direction: Direction, sets: readonly PolicySet[]): Profile => {
    const keys = sets.map((set) => set.key).sort();
    const id = profileId(direction, keys);
    const made = profiles.get(id) ?? makeProfile(id, direction, sets, known.profiles.get(id));
    profiles.set(id, made);
    return made;
  };
  for (const pod of input.pods) {
    const isolating = new Map<Direction, PolicySet[]>([
      ["Ingress", []],
      ["Egress", []],
    ]);
    let isSelected = false;
    for (const policy of policies.get(pod.namespace) ?? []) {
      for (const { set, directions } of setsOf(policy, pod)) {
        isSelected = true;
        for (const direction of directions) isolating.get(direction)?.push(set);
      }
    }
    const isClosed = input.mode === "strict" && !isSelected;
    const choose = (direction: Direction): Profile | undefined => {
      const sets = isolating.get(direction) ?? [];
      return sets.length > 0 || isClosed ? profileOf(direction, sets) : undefined;
    };
    const ingress = choose("Ingress");
    const egress = choose("Egress");
    if (ingress === undefined && egress === undefined) continue;
    pods.set(pod.hostVeth, { pod, ...(ingress && { ingress }), ...(egress && { egress }) });
  }
  return { pods, profiles };
}

/**
 * The sets of a policy that hold for a pod: those that list it. A pod the controller has not listed yet, but whose labels the
 * policy selects, is isolated at once (before its first container starts); its allowances are known if the policy has no variants.
 */
function setsOf(policy: Policy, pod: LocalPod): { set: PolicySet; directions: readonly Direction[] }[] {
  const found: { set: PolicySet; directions: readonly Direction[] }[] = [];
  for (const set of policy.sets) {
    const listing = set.objects.filter((object) => lists(object, pod));
    if (listing.length > 0) found.push({ set, directions: directionsOf(listing) });
  }
  if (found.length > 0) return found;
  const selecting = policy.sets
    .flatMap((set) => set.objects)
    .filter((object) => matchesLabelSelector(object.spec.podSelector, pod.labels));
  if (selecting.length === 0) return [];
  const [only, ...others] = policy.sets;
  const set =
    only !== undefined && others.length === 0
      ? only
      : { key: `${policy.key}#unlisted`, policy: policy.key, objects: [], stamp: "" };
  return [{ set, directions: directionsOf(selecting) }];
}

function lists(object: PolicyEndpoint, pod: LocalPod): boolean {
  return indexOf(object).has(`${pod.namespace}/${pod.name}`);
}

/** Subjects of an object by name, made once: an object never changes, a new version is a new object. */
const indexes = new WeakMap<PolicyEndpoint, ReadonlySet<string>>();

function indexOf(object: PolicyEndpoint): ReadonlySet<string> {
  const known = indexes.get(object);
  if (known !== undefined) return known;
  const made = new Set((object.spec.podSelectorEndpoints ?? []).map(({ namespace, name }) => `${namespace}/${name}`));
  indexes.set(object, made);
  return made;
}

function directionsOf(objects: readonly PolicyEndpoint[]): Direction[] {
  return [...new Set(objects.flatMap((object) => object.spec.podIsolation ?? []))];
}

function groupByNamespace(endpoints: Iterable<PolicyEndpoint>): Map<string, Policy[]> {
  const byKey = new Map<string, Policy>();
  const byNamespace = new Map<string, Policy[]>();
  for (const object of endpoints) {
    const key = policyKeyOf(object);
    const { namespace } = object.spec.policyRef;
    let policy = byKey.get(key);
    if (policy === undefined) {
      policy = { key, namespace, sets: [] };
      byKey.set(key, policy);
      byNamespace.set(namespace, [...(byNamespace.get(namespace) ?? []), policy]);
    }
    const setKey = `${key}#${variantOf(object)}`;
    let set = policy.sets.find((one) => one.key === setKey);
    if (set === undefined) {
      set = { key: setKey, policy: key, objects: [], stamp: "" };
      policy.sets.push(set);
    }
    set.objects.push(object);
  }
  for (const { sets } of byKey.values()) {
    for (const set of sets) set.stamp = set.objects.map(stampOf).sort().join(",");
  }
  return byNamespace;
}

function stampOf({ metadata }: PolicyEndpoint): string {
  return `${metadata.uid ?? metadata.name}:${metadata.resourceVersion ?? ""}`;
}

function makeProfile(
  id: string,
  direction: Direction,
  sets: readonly PolicySet[],
  known: Profile | undefined,
): Profile {
  const stamp = sets
    .map((set) => set.stamp)
    .sort()
    .join(";");
  if (known?.stamp === stamp) return known;
  const allowances = sets.flatMap((set) => set.objects.flatMap((object) => allowancesOf(object, direction)));
  return {
    id,
    direction,
    policies: [...new Set(sets.map((set) => set.policy))].sort(),
    stamp,
    space4: addressSpace(4, allowances),
    space6: addressSpace(6, allowances),
  };
}

function allowancesOf({ spec }: PolicyEndpoint, direction: Direction): Allowance[] {
  const entries = (direction === "Ingress" ? spec.ingress : spec.egress) ?? [];
  // An entry without a block is a domain rule: no address of it is known here.
  return entries.flatMap(({ cidr, except, ports }) => (cidr === undefined ? [] : [{ cidr, except, ports }]));
}

function profileId(direction: Direction, keys: readonly string[]): string {
  const prefix = direction === "Ingress" ? "in" : "eg";
  if (keys.length === 0) return `${prefix}_closed`;
  return `${prefix}_${createHash("sha1").update(keys.join("\n")).digest("hex").slice(0, 12)}`;
}
