/** Every controller of this process by its upstream name. */
import type { ControllerContext } from "./context.ts";
import { runDeploymentController } from "./deployment.ts";
import { runReplicaSetController } from "./replicaset.ts";
import { runServiceAccountController } from "./service-account.ts";

export const controllers: Record<string, (context: ControllerContext) => Promise<void>> = {
  deployment: runDeploymentController,
  replicaset: runReplicaSetController,
  serviceaccount: runServiceAccountController,
};
