/** Every controller of this process by its upstream name. */
import type { ControllerContext } from "./context.ts";
import { runCertificateController } from "./csr.ts";
import { runDaemonSetController } from "./daemonset.ts";
import { runDeploymentController } from "./deployment.ts";
import { runEndpointsController, runEndpointSliceController } from "./endpointslice.ts";
import { runGarbageCollector } from "./garbage.ts";
import { runNamespaceController } from "./namespace.ts";
import { runNodeLifecycleController } from "./node-lifecycle.ts";
import { runPodCollector } from "./pod-gc.ts";
import { runReplicaSetController } from "./replicaset.ts";
import { runServiceAccountController } from "./service-account.ts";
import { runTaintEvictionController } from "./taint-eviction.ts";

export const controllers: Record<string, (context: ControllerContext) => Promise<void>> = {
  certificatesigningrequest: runCertificateController,
  daemonset: runDaemonSetController,
  deployment: runDeploymentController,
  endpoint: runEndpointsController,
  endpointslice: runEndpointSliceController,
  garbagecollector: runGarbageCollector,
  namespace: runNamespaceController,
  nodelifecycle: runNodeLifecycleController,
  podgc: runPodCollector,
  replicaset: runReplicaSetController,
  serviceaccount: runServiceAccountController,
  tainteviction: runTaintEvictionController,
};
