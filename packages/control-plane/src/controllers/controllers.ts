/** Every controller of this process by its upstream name. */
import type { ControllerContext } from "./context.ts";
import { runCronJobController } from "./cronjob.ts";
import { runCertificateController } from "./csr.ts";
import { runDaemonSetController } from "./daemonset.ts";
import { runDeploymentController } from "./deployment.ts";
import { runDisruptionController } from "./disruption.ts";
import { runEndpointsController, runEndpointSliceController } from "./endpointslice.ts";
import { runGarbageCollector } from "./garbage.ts";
import { runJobController } from "./job.ts";
import { runNamespaceController } from "./namespace.ts";
import { runNodeLifecycleController } from "./node-lifecycle.ts";
import { runPodCollector } from "./pod-gc.ts";
import { runReplicaSetController } from "./replicaset.ts";
import { runServiceAccountController } from "./service-account.ts";
import { runStatefulSetController } from "./statefulset.ts";
import { runTaintEvictionController } from "./taint-eviction.ts";
import { runTtlAfterFinishedController } from "./ttl-after-finished.ts";

export const controllers: Record<string, (context: ControllerContext) => Promise<void>> = {
  certificatesigningrequest: runCertificateController,
  cronjob: runCronJobController,
  daemonset: runDaemonSetController,
  deployment: runDeploymentController,
  disruption: runDisruptionController,
  endpoint: runEndpointsController,
  endpointslice: runEndpointSliceController,
  garbagecollector: runGarbageCollector,
  job: runJobController,
  namespace: runNamespaceController,
  nodelifecycle: runNodeLifecycleController,
  podgc: runPodCollector,
  replicaset: runReplicaSetController,
  serviceaccount: runServiceAccountController,
  statefulset: runStatefulSetController,
  tainteviction: runTaintEvictionController,
  "ttl-after-finished": runTtlAfterFinishedController,
};
