/**
 * What a kind's write changes before validation: initial status, values derived from others, fields a client may not set.
 * `old` absent means create. Status is already separated by the registry (main endpoint keeps the old one).
 */
import { randomUUID } from "node:crypto";
import type { ApiObject } from "../api-object.ts";
import { podQosClass } from "./qos-class.ts";
import { prepareService } from "./validation/service.ts";

type Prepare = (object: ApiObject, old: ApiObject | undefined) => void;

const status =
  (initial: () => Record<string, unknown>): Prepare =>
  (object, old) => {
    if (old === undefined) object["status"] = initial();
  };

/** By `<group>/<Kind>`. */
export const preparations: Readonly<Record<string, Prepare>> = {
  "/Pod": (pod, old) => {
    if (old !== undefined) return;
    pod["status"] = { phase: "Pending", qosClass: podQosClass(pod["spec"]) };
    // Scheduling gates hold the pod back and say so from the first moment.
    if ((pod["spec"].schedulingGates ?? []).length > 0) {
      pod["status"].conditions = [
        {
          type: "PodScheduled",
          status: "False",
          reason: "SchedulingGated",
          message: "Scheduling is blocked due to non-empty scheduling gates",
          lastTransitionTime: pod.metadata.creationTimestamp,
        },
      ];
    }
  },
  "/Namespace": (namespace, old) => {
    if (old !== undefined) return;
    namespace["spec"] = { finalizers: ["kubernetes"] };
    namespace["status"] = { phase: "Active" };
  },
  "/Service": prepareService,
  "/PersistentVolumeClaim": status(() => ({ phase: "Pending" })),
  "/PersistentVolume": status(() => ({ phase: "Pending" })),
  "/ReplicationController": status(() => ({ replicas: 0 })),
  "/ResourceQuota": status(() => ({})),
  "apps/Deployment": status(() => ({})),
  "apps/ReplicaSet": status(() => ({ replicas: 0 })),
  "apps/StatefulSet": status(() => ({ replicas: 0, availableReplicas: 0 })),
  "apps/DaemonSet": (o, old) => {
    if (old === undefined)
      o["status"] = { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 };
    const generation = o.metadata.annotations?.["deprecated.daemonset.template.generation"];
    if (generation === undefined && old === undefined) {
      o.metadata.annotations = { ...o.metadata.annotations, "deprecated.daemonset.template.generation": "1" };
    } else if (old !== undefined) {
      const before = old.metadata.annotations?.["deprecated.daemonset.template.generation"] ?? "0";
      const changed = JSON.stringify(o["spec"]?.template) !== JSON.stringify(old["spec"]?.template);
      o.metadata.annotations = {
        ...o.metadata.annotations,
        "deprecated.daemonset.template.generation": String(Number(before) + (changed ? 1 : 0)),
      };
    }
  },
  "batch/Job": prepareJob,
  "batch/CronJob": status(() => ({})),
  "networking.k8s.io/Ingress": status(() => ({ loadBalancer: {} })),
  "policy/PodDisruptionBudget": status(() => ({
    currentHealthy: 0,
    desiredHealthy: 0,
    disruptionsAllowed: 0,
    expectedPods: 0,
  })),
  "autoscaling/HorizontalPodAutoscaler": status(() => ({ desiredReplicas: 0 })),
  "certificates.k8s.io/CertificateSigningRequest": status(() => ({})),
  "storage.k8s.io/VolumeAttachment": () => {},
};

/** Jobs without a selector of their own get one on their uid, and their pods the labels for it. */
function prepareJob(job: ApiObject, old: ApiObject | undefined): void {
  if (old !== undefined) return;
  job["status"] = {};
  const spec = job["spec"];
  if (spec.manualSelector === true || spec.template === undefined) return;
  job.metadata.uid ??= randomUUID();
  const { uid } = job.metadata;
  const meta = (spec.template.metadata ??= {});
  const name = job.metadata.name || job.metadata.generateName;
  meta.labels = {
    ...meta.labels,
    "batch.kubernetes.io/controller-uid": uid,
    "batch.kubernetes.io/job-name": name,
    "controller-uid": uid,
    "job-name": name,
  };
  spec.selector ??= {};
  spec.selector.matchLabels = { ...spec.selector.matchLabels, "batch.kubernetes.io/controller-uid": uid };
}
