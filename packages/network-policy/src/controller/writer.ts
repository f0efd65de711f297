/** The writes of a plan against the API server, one after the other, and the finalizer of a policy. */
import type { KubeClient } from "@underlay/kube/client";
import { isNotFound } from "@underlay/kube/errors";
import type { NetworkPolicy } from "@underlay/kube/objects";
import { networkPolicies } from "@underlay/kube/resources";
import {
  lastChangeTriggerTime,
  policyEndpoints,
  policyFinalizer,
  type PolicyEndpoint,
  type PolicyEndpointSpec,
} from "../api/policy-endpoint.ts";
import { variantAnnotations, type Step } from "../compile/plan.ts";
import type { StoredEndpoints } from "./stored-endpoints.ts";

export class EndpointWriter {
  readonly #client: KubeClient;
  readonly #stored: StoredEndpoints | undefined;

  constructor(client: KubeClient, stored?: StoredEndpoints) {
    this.#client = client;
    this.#stored = stored;
  }

  /** Stops at the first failure: a later step may rely on an earlier one. */
  async write(
    policyKey: string,
    policy: NetworkPolicy | undefined,
    steps: readonly Step[],
    changedAt: number,
  ): Promise<void> {
    const trigger = { [lastChangeTriggerTime]: new Date(changedAt).toISOString() };
    /** Objects as this run of steps left them. */
    const latest = new Map<number, PolicyEndpoint>();
    for (const step of steps) {
      if (step.do === "delete") {
        await this.#delete(policyKey, step.object);
        continue;
      }
      const known = latest.get(step.slot) ?? (step.do === "update" ? step.object : undefined);
      const written =
        step.do === "create" || !known
          ? await this.#client.create(policyEndpoints, newObject(policy!, step, trigger), namespaceOf(policyKey))
          : await this.#client.update(policyEndpoints, changed(known, step.spec, trigger));
      latest.set(step.slot, written);
      this.#stored?.wrote(policyKey, written);
    }
  }

  /** The policy with or without our finalizer; it is written only when that is a change. */
  async setFinalizer(policy: NetworkPolicy, wanted: boolean): Promise<NetworkPolicy> {
    const { name = "", namespace = "", resourceVersion, finalizers = [] } = policy.metadata;
    if (finalizers.includes(policyFinalizer) === wanted) return policy;
    const others = finalizers.filter((one) => one !== policyFinalizer);
    // With the version: a merge patch replaces the whole list, which may have changed.
    const metadata = { resourceVersion, finalizers: wanted ? [...others, policyFinalizer] : others };
    try {
      return await this.#client.patch(networkPolicies, name, { type: "merge", body: { metadata } }, { namespace });
    } catch (err) {
      if (!wanted && isNotFound(err)) return policy;
      throw err;
    }
  }

  async #delete(policyKey: string, object: PolicyEndpoint): Promise<void> {
    try {
      await this.#client.delete(policyEndpoints, object.metadata.name ?? "", namespaceOf(policyKey));
    } catch (err) {
      if (!isNotFound(err)) throw err;
    }
    this.#stored?.deleted(policyKey, object);
  }
}

function namespaceOf(policyKey: string): { namespace: string } {
  return { namespace: policyKey.slice(0, policyKey.indexOf("/")) };
}

function newObject(
  { metadata: { name = "", namespace, uid = "" } }: NetworkPolicy,
  step: Step & { do: "create" | "update" },
  trigger: Record<string, string>,
): PolicyEndpoint {
  const owner = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", name, uid };
  return {
    apiVersion: `${policyEndpoints.group}/${policyEndpoints.version}`,
    kind: policyEndpoints.kind,
    metadata: {
      generateName: `${name}-`,
      namespace,
      annotations: { ...(step.do === "create" ? variantAnnotations(step.variant) : {}), ...trigger },
      ownerReferences: [{ ...owner, controller: true, blockOwnerDeletion: true }],
    },
    spec: step.spec,
  };
}

function changed(object: PolicyEndpoint, spec: PolicyEndpointSpec, trigger: Record<string, string>): PolicyEndpoint {
  return {
    ...object,
    metadata: { ...object.metadata, annotations: { ...object.metadata.annotations, ...trigger } },
    spec,
  };
}
