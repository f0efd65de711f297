/** Defaults of the built-in kinds (Kubernetes' own values); each changes the object in place and may run again. */
import type { ApiObject, JsonObject } from "../../api-object.ts";
import { defaultPod, defaultPodTemplate, put } from "./pod-spec.ts";
import { defaultService } from "./service.ts";

type Default = (object: ApiObject) => void;

const rollingUpdate = { maxSurge: "25%", maxUnavailable: "25%" };

/** By `<group>/<Kind>`. */
export const defaultsByKind: Readonly<Record<string, Default>> = {
  "/Pod": (pod) => {
    pod["spec"] ??= {};
    defaultPod(pod["spec"]);
  },
  "/PodTemplate": (o) => defaultPodTemplate(o["template"]),
  "/ReplicationController": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "replicas", 1);
    defaultPodTemplate(spec.template);
    const labels = spec.template?.metadata?.labels;
    if (labels !== undefined) {
      spec.selector ??= labels;
      o.metadata.labels ??= labels;
    }
  },
  "/Service": defaultService,
  "/Secret": (o) => {
    put(o, "type", "Opaque");
    if (o["stringData"] !== undefined) {
      const encoded = Object.entries(o["stringData"] as Record<string, string>).map(([key, text]) => [
        key,
        Buffer.from(text).toString("base64"),
      ]);
      o["data"] = { ...o["data"], ...Object.fromEntries(encoded) };
      delete o["stringData"];
    }
  },
  "/Namespace": (o) => {
    o.metadata.labels = { ...o.metadata.labels, "kubernetes.io/metadata.name": o.metadata.name };
  },
  "/PersistentVolumeClaim": (o) => {
    put((o["spec"] ??= {}), "volumeMode", "Filesystem");
  },
  "/PersistentVolume": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "persistentVolumeReclaimPolicy", "Retain");
    put(spec, "volumeMode", "Filesystem");
  },
  "/Endpoints": (o) => {
    for (const subset of o["subsets"] ?? []) for (const port of subset.ports ?? []) put(port, "protocol", "TCP");
  },
  "/LimitRange": (o) => {
    for (const limit of o["spec"]?.limits ?? []) {
      if (limit.type !== "Container") continue;
      if (limit.max !== undefined) limit.default = { ...limit.max, ...limit.default };
      if (limit.default !== undefined) limit.defaultRequest = { ...limit.default, ...limit.defaultRequest };
      if (limit.min !== undefined) limit.defaultRequest = { ...limit.min, ...limit.defaultRequest };
    }
  },
  "apps/Deployment": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "replicas", 1);
    put(spec, "revisionHistoryLimit", 10);
    put(spec, "progressDeadlineSeconds", 600);
    const strategy = (spec.strategy ??= {});
    put(strategy, "type", "RollingUpdate");
    if (strategy.type === "RollingUpdate") strategy.rollingUpdate = { ...rollingUpdate, ...strategy.rollingUpdate };
    defaultPodTemplate(spec.template);
  },
  "apps/ReplicaSet": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "replicas", 1);
    defaultPodTemplate(spec.template);
  },
  "apps/StatefulSet": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "replicas", 1);
    put(spec, "podManagementPolicy", "OrderedReady");
    put(spec, "revisionHistoryLimit", 10);
    const update = (spec.updateStrategy ??= {});
    put(update, "type", "RollingUpdate");
    if (update.type === "RollingUpdate") put((update.rollingUpdate ??= {}), "partition", 0);
    spec.persistentVolumeClaimRetentionPolicy = {
      whenDeleted: "Retain",
      whenScaled: "Retain",
      ...spec.persistentVolumeClaimRetentionPolicy,
    };
    for (const claim of spec.volumeClaimTemplates ?? []) {
      claim.kind ??= "PersistentVolumeClaim";
      claim.apiVersion ??= "v1";
      put((claim.spec ??= {}), "volumeMode", "Filesystem");
      put((claim.status ??= {}), "phase", "Pending");
    }
    defaultPodTemplate(spec.template);
  },
  "apps/DaemonSet": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "revisionHistoryLimit", 10);
    const update = (spec.updateStrategy ??= {});
    put(update, "type", "RollingUpdate");
    if (update.type === "RollingUpdate")
      update.rollingUpdate = { maxSurge: 0, maxUnavailable: 1, ...update.rollingUpdate };
    defaultPodTemplate(spec.template);
  },
  "batch/Job": (o) => {
    defaultJobSpec((o["spec"] ??= {}));
    const labels = o["spec"].template?.metadata?.labels;
    if (labels !== undefined) o.metadata.labels ??= { ...labels };
  },
  "batch/CronJob": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "concurrencyPolicy", "Allow");
    put(spec, "suspend", false);
    put(spec, "successfulJobsHistoryLimit", 3);
    put(spec, "failedJobsHistoryLimit", 1);
    defaultPodTemplate(spec.jobTemplate?.spec?.template);
  },
  "policy/PodDisruptionBudget": () => {},
  "networking.k8s.io/NetworkPolicy": (o) => {
    const spec = (o["spec"] ??= {});
    spec.podSelector ??= {};
    for (const rule of [...(spec.ingress ?? []), ...(spec.egress ?? [])])
      for (const port of rule.ports ?? []) put(port, "protocol", "TCP");
    spec.policyTypes ??= spec.egress === undefined ? ["Ingress"] : ["Ingress", "Egress"];
  },
  "discovery.k8s.io/EndpointSlice": (o) => {
    for (const port of o["ports"] ?? []) {
      put(port, "name", "");
      put(port, "protocol", "TCP");
    }
  },
  "scheduling.k8s.io/PriorityClass": (o) => put(o, "preemptionPolicy", "PreemptLowerPriority"),
  "storage.k8s.io/StorageClass": (o) => {
    put(o, "reclaimPolicy", "Delete");
    put(o, "volumeBindingMode", "Immediate");
  },
  "storage.k8s.io/CSIDriver": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "attachRequired", true);
    put(spec, "podInfoOnMount", false);
    put(spec, "storageCapacity", false);
    put(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    put(spec, "requiresRepublish", false);
    put(spec, "seLinuxMount", false);
    put(spec, "volumeLifecycleModes", ["Persistent"]);
  },
  "rbac.authorization.k8s.io/RoleBinding": defaultBinding,
  "rbac.authorization.k8s.io/ClusterRoleBinding": defaultBinding,
  "admissionregistration.k8s.io/MutatingWebhookConfiguration": (o) => {
    for (const webhook of o["webhooks"] ?? []) {
      defaultWebhook(webhook);
      put(webhook, "reinvocationPolicy", "Never");
    }
  },
  "admissionregistration.k8s.io/ValidatingWebhookConfiguration": (o) => (o["webhooks"] ?? []).forEach(defaultWebhook),
  "autoscaling/HorizontalPodAutoscaler": (o) => {
    const spec = (o["spec"] ??= {});
    put(spec, "minReplicas", 1);
    spec.metrics ??= [
      { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } } },
    ];
  },
  "certificates.k8s.io/CertificateSigningRequest": (o) => {
    put((o["spec"] ??= {}), "usages", ["digital signature", "key encipherment"]);
  },
};

function defaultJobSpec(spec: JsonObject): void {
  if (spec["completions"] === undefined && spec["parallelism"] === undefined) {
    spec["completions"] = 1;
    spec["parallelism"] = 1;
  }
  put(spec, "parallelism", 1);
  put(spec, "backoffLimit", spec["backoffLimitPerIndex"] === undefined ? 6 : 2147483647);
  put(spec, "completionMode", "NonIndexed");
  put(spec, "suspend", false);
  put(spec, "manualSelector", false);
  if (spec["manualSelector"] === false) delete spec["manualSelector"];
  put(spec, "podReplacementPolicy", spec["podFailurePolicy"] === undefined ? "TerminatingOrFailed" : "Failed");
  defaultPodTemplate(spec["template"]);
}

function defaultBinding(binding: ApiObject): void {
  const role = binding["roleRef"];
  if (role !== undefined) role.apiGroup ||= "rbac.authorization.k8s.io";
  for (const subject of binding["subjects"] ?? []) {
    if (subject.kind === "User" || subject.kind === "Group") subject.apiGroup ||= "rbac.authorization.k8s.io";
  }
}

function defaultWebhook(webhook: JsonObject): void {
  put(webhook, "failurePolicy", "Fail");
  put(webhook, "matchPolicy", "Equivalent");
  put(webhook, "namespaceSelector", {});
  put(webhook, "objectSelector", {});
  put(webhook, "timeoutSeconds", 10);
  for (const rule of webhook["rules"] ?? []) put(rule, "scope", "*");
  if (webhook["clientConfig"]?.service !== undefined) put(webhook["clientConfig"].service, "port", 443);
}
