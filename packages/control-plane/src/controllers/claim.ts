/** Which objects belong to a controller: by owner reference and selector, adopting orphans and releasing strays. */
import type { KubeClient } from "@underlay/kube/client";
import { isNotFound } from "@underlay/kube/client";
import { controllerOf, type KubeObject, type LabelSelector, type OwnerReference } from "@underlay/kube/objects";
import { apiVersionOf, type Resource } from "@underlay/kube/resources";
import { matchesRequirements, requirementsOf } from "@underlay/kube/selectors";

export type Claim<T> = { owned: T[]; adopt: T[]; release: T[] };

/** Sorts candidates into ours, to be adopted and to be released. Pure. */
export function planClaim<T extends KubeObject>(
  owner: KubeObject,
  selector: LabelSelector,
  candidates: readonly T[],
): Claim<T> {
  const requirements = requirementsOf(selector);
  const deleting = owner.metadata.deletionTimestamp !== undefined;
  const claim: Claim<T> = { owned: [], adopt: [], release: [] };
  for (const object of candidates) {
    const controller = controllerOf(object);
    const matches = matchesRequirements(requirements, object.metadata.labels);
    if (controller) {
      if (controller.uid !== owner.metadata.uid) continue;
      if (matches) claim.owned.push(object);
      else if (!deleting) claim.release.push(object);
    } else if (matches && !deleting && object.metadata.deletionTimestamp === undefined) {
      claim.adopt.push(object);
    }
  }
  return claim;
}

export function ownerReferenceTo(owner: KubeObject, of: Resource): OwnerReference {
  return {
    apiVersion: apiVersionOf(of),
    kind: of.kind,
    name: owner.metadata.name ?? "",
    uid: owner.metadata.uid ?? "",
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** Claims for real and returns what is the owner's afterwards. */
export async function claimObjects<T extends KubeObject, O extends KubeObject>(
  client: KubeClient,
  owner: { object: O; of: Resource<O>; selector: LabelSelector },
  objects: { of: Resource<T>; candidates: readonly T[] },
): Promise<T[]> {
  const claim = planClaim(owner.object, owner.selector, objects.candidates);
  const owned = [...claim.owned];
  if (claim.adopt.length > 0 && (await ownerIsCurrent(client, owner.object, owner.of))) {
    for (const object of claim.adopt) {
      const ownerReferences = [ownerReferenceTo(owner.object, owner.of)];
      if (await patchOwners(client, objects.of, object, ownerReferences)) owned.push(object);
    }
  }
  for (const object of claim.release) {
    await patchOwners(client, objects.of, object, [{ $patch: "delete", uid: owner.object.metadata.uid }]);
  }
  return owned;
}

/** A cached owner may be gone or replaced; adopting for it would orphan or resurrect. */
async function ownerIsCurrent<O extends KubeObject>(client: KubeClient, owner: O, of: Resource<O>): Promise<boolean> {
  const fresh = await client.find(of, owner.metadata.name ?? "", { namespace: owner.metadata.namespace });
  return fresh?.metadata.uid === owner.metadata.uid && fresh?.metadata.deletionTimestamp === undefined;
}

async function patchOwners<T extends KubeObject>(
  client: KubeClient,
  of: Resource<T>,
  object: T,
  ownerReferences: unknown[],
): Promise<boolean> {
  const { name = "", namespace, uid } = object.metadata;
  try {
    await client.patch(of, name, { type: "strategic", body: { metadata: { uid, ownerReferences } } }, { namespace });
    return true;
  } catch (err) {
    if (isNotFound(err)) return false;
    throw err;
  }
}
