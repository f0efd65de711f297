/**
 * Admission: what may enter, and what is added on the way in.
 *
 * Order: namespace lifecycle, the built-in mutations of each kind, mutating webhooks one after another (the object is
 * defaulted again after each), then — after the registry's schema validation — validating webhooks in parallel.
 * Never here: defaults and validation of kinds (registry). Read next: `pod-admission.ts`, `webhooks.ts`.
 */
import type { AdmissionRequest, Seams, ServerContext } from "../seams.ts";
import { mutateIngress, mutateNode, mutateVolumeClaim } from "./kind-mutations.ts";
import { limitPod } from "./limit-ranger.ts";
import { checkDefinition, checkNamespace } from "./namespace-lifecycle.ts";
import { checkNodeRestriction } from "./node-restriction.ts";
import { mutatePod } from "./pod-admission.ts";
import { createWebhooks } from "./webhooks.ts";

/** The admission seam. */
export function createAdmission(context: ServerContext): Pick<Seams, "admitMutating" | "admitValidating"> {
  const webhooks = createWebhooks(context);
  const { objects } = context;

  function mutateBuiltin(request: AdmissionRequest): void {
    if (request.object === undefined || request.subresource !== "") return;
    switch (request.info.storage) {
      case "/pods":
        mutatePod(request, request.object, objects);
        return limitPod(request, request.object, objects);
      case "/nodes":
        return mutateNode(request, request.object);
      case "/persistentvolumeclaims":
        return mutateVolumeClaim(request, request.object, objects);
      case "networking.k8s.io/ingresses":
        return mutateIngress(request, request.object, objects);
    }
  }

  return {
    admitMutating: async (request, prepare) => {
      checkNamespace(request, objects);
      checkDefinition(request, objects);
      checkNodeRestriction(request, objects);
      mutateBuiltin(request);
      if (!webhooks.hasMutating(request)) return request.object;
      // What webhooks add (a sidecar without its token mount) gets the built-in mutations as well.
      return webhooks.mutate(request, (object) => {
        const prepared = prepare(object);
        mutateBuiltin({ ...request, object: prepared });
        return prepared;
      });
    },
    admitValidating: (request) => webhooks.validate(request),
  };
}
