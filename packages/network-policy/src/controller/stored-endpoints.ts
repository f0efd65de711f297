/**
 * The PolicyEndpoints of a policy as they are in the API server: what the informer has heard, and what was just written and not heard
 * of yet. Names are made by the server, so without the second part a quick second look would create everything twice.
 */
import type { Informer } from "@underlay/kube/informer";
import { keyOf } from "@underlay/kube/objects";
import type { PolicyEndpoint } from "../api/policy-endpoint.ts";

export class StoredEndpoints {
  readonly #informer: Informer<PolicyEndpoint>;
  /** By object key, under the policy's; `undefined` is a deletion. */
  readonly #written = new Map<string, Map<string, { uid: string | undefined; object: PolicyEndpoint | undefined }>>();

  /** The informer needs an index `policy` of policy keys. */
  constructor(informer: Informer<PolicyEndpoint>) {
    this.#informer = informer;
  }

  ofPolicy(policyKey: string): PolicyEndpoint[] {
    const objects = new Map(this.#informer.byIndex("policy", policyKey).map((object) => [keyOf(object), object]));
    const written = this.#written.get(policyKey);
    for (const [key, { uid, object }] of written ?? []) {
      const heard = objects.get(key);
      if (object ? heard && !isNewer(object, heard) : heard?.metadata.uid !== uid) written?.delete(key);
      else if (object) objects.set(key, object);
      else objects.delete(key);
    }
    if (written?.size === 0) this.#written.delete(policyKey);
    return [...objects.values()];
  }

  /** Whether what the informer heard is what was just written: nothing new. */
  isOwnWrite(policyKey: string, heard: PolicyEndpoint): boolean {
    const written = this.#written.get(policyKey)?.get(keyOf(heard))?.object;
    return written !== undefined && written.metadata.resourceVersion === heard.metadata.resourceVersion;
  }

  wrote(policyKey: string, object: PolicyEndpoint): void {
    this.#note(policyKey, object, object);
  }

  deleted(policyKey: string, object: PolicyEndpoint): void {
    this.#note(policyKey, object, undefined);
  }

  /** A write failed in a way that says our picture is wrong: only what the informer hears counts again. */
  distrust(policyKey: string): void {
    this.#written.delete(policyKey);
  }

  #note(policyKey: string, of: PolicyEndpoint, object: PolicyEndpoint | undefined): void {
    const written = this.#written.get(policyKey) ?? new Map();
    this.#written.set(policyKey, written);
    written.set(keyOf(of), { uid: of.metadata.uid, object });
  }
}

function isNewer(a: PolicyEndpoint, b: PolicyEndpoint): boolean {
  return BigInt(a.metadata.resourceVersion ?? 0) > BigInt(b.metadata.resourceVersion ?? 0);
}
