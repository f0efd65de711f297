/** Tables of the other built-in groups, by `group/resource`. */
import { ageOf, shortDuration } from "./age.ts";
import { containerImages, containerNames, labelsText, listWithMore, none, selectorText } from "./cell-texts.ts";
import { printer, type Printer, type Stored } from "./columns.ts";

const name = (o: Stored): string => o.metadata.name;
const age = (o: Stored, now: number): string => ageOf(o.metadata.creationTimestamp, now);
const count = (value: unknown): number => Number(value ?? 0);

function jobStatus(job: Stored): string {
  const holds = (type: string) =>
    (job.status?.conditions ?? []).some((c: Stored) => c.type === type && c.status === "True");
  if (holds("Complete")) return "Complete";
  if (holds("Failed")) return "Failed";
  if (job.metadata.deletionTimestamp) return "Terminating";
  if (holds("Suspended")) return "Suspended";
  if (holds("FailureTarget")) return "FailureTarget";
  if (holds("SuccessCriteriaMet")) return "SuccessCriteriaMet";
  return "Running";
}

function jobCompletions(job: Stored): string {
  const succeeded = count(job.status?.succeeded);
  if (job.spec?.completions != null) return `${succeeded}/${job.spec.completions}`;
  const parallelism = count(job.spec?.parallelism);
  return parallelism > 1 ? `${succeeded}/1 of ${parallelism}` : `${succeeded}/1`;
}

function jobDuration(job: Stored, now: number): string {
  if (!job.status?.startTime) return "";
  const end = job.status.completionTime ? Date.parse(job.status.completionTime) : now;
  return shortDuration(end - Date.parse(job.status.startTime));
}

function ingressHosts(ingress: Stored): string {
  const hosts: string[] = (ingress.spec?.rules ?? []).map((rule: Stored) => rule.host).filter(Boolean);
  if (hosts.length === 0) return "*";
  return listWithMore(hosts, 3);
}

function sliceEndpoints(slice: Stored): string {
  const all: string[] = (slice.endpoints ?? []).flatMap((endpoint: Stored) => endpoint.addresses ?? []);
  return all.length ? listWithMore(all, 3) : "<unset>";
}

function slicePorts(slice: Stored): string {
  const ports: Stored[] = slice.ports ?? [];
  return ports.length
    ? listWithMore(
        ports.map((p) => (p.port == null ? String(p.name ?? "*") : String(p.port))),
        3,
      )
    : "<unset>";
}

function subjects(binding: Stored, kind: string): string {
  return (binding.subjects ?? [])
    .filter((s: Stored) => s.kind === kind)
    .map((s: Stored) => (s.namespace ? `${s.namespace}/${s.name}` : s.name))
    .join(", ");
}

const binding = printer("Name|Role|Age|Users*|Groups*|ServiceAccounts*", (o, now) => [
  name(o),
  `${o.roleRef?.kind}/${o.roleRef?.name}`,
  age(o, now),
  subjects(o, "User"),
  subjects(o, "Group"),
  subjects(o, "ServiceAccount"),
]);

const webhooks = printer("Name|Webhooks#|Age", (o, now) => [name(o), (o.webhooks ?? []).length, age(o, now)]);
const created = printer("Name|Created At", (o) => [name(o), o.metadata.creationTimestamp ?? ""]);

function metricTarget(hpa: Stored): string {
  const metrics: Stored[] = hpa.spec?.metrics ?? [];
  const texts = metrics.map((metric, index) => {
    const resource = metric.resource ?? metric.containerResource;
    const current = hpa.status?.currentMetrics?.[index];
    const seen = current?.resource?.current ?? current?.containerResource?.current;
    if (!resource) return `<unknown>/${metric.type}`;
    const wanted = resource.target?.averageUtilization;
    return wanted != null
      ? `${resource.name}: ${seen?.averageUtilization != null ? `${seen.averageUtilization}%` : "<unknown>"}/${wanted}%`
      : `${resource.name}: ${seen?.averageValue ?? "<unknown>"}/${resource.target?.averageValue ?? ""}`;
  });
  return texts.length ? listWithMore(texts, 2) : none;
}

function condition(o: Stored, type: string): string {
  return (o.status?.conditions ?? []).find((c: Stored) => c.type === type)?.status ?? "";
}

function csrCondition(csr: Stored): string {
  const types: string[] = (csr.status?.conditions ?? []).map((c: Stored) => c.type);
  const words = types.includes("Denied") ? ["Denied"] : types.includes("Approved") ? ["Approved"] : ["Pending"];
  if (types.includes("Failed")) words.push("Failed");
  if (csr.status?.certificate) words.push("Issued");
  return words.join(",");
}

/** Printers of the named groups by `group/resource`. */
export const groupPrinters: Readonly<Record<string, Printer>> = {
  "apps/deployments": printer("Name|Ready|Up-to-date#|Available#|Age|Containers*|Images*|Selector*", (o, now) => [
    name(o),
    `${count(o.status?.readyReplicas)}/${count(o.spec?.replicas)}`,
    count(o.status?.updatedReplicas),
    count(o.status?.availableReplicas),
    age(o, now),
    containerNames(o.spec?.template),
    containerImages(o.spec?.template),
    selectorText(o.spec?.selector),
  ]),
  "apps/replicasets": printer("Name|Desired#|Current#|Ready#|Age|Containers*|Images*|Selector*", (o, now) => [
    name(o),
    count(o.spec?.replicas),
    count(o.status?.replicas),
    count(o.status?.readyReplicas),
    age(o, now),
    containerNames(o.spec?.template),
    containerImages(o.spec?.template),
    selectorText(o.spec?.selector),
  ]),
  "apps/statefulsets": printer("Name|Ready|Age|Containers*|Images*", (o, now) => [
    name(o),
    `${count(o.status?.readyReplicas)}/${count(o.spec?.replicas)}`,
    age(o, now),
    containerNames(o.spec?.template),
    containerImages(o.spec?.template),
  ]),
  "apps/daemonsets": printer(
    "Name|Desired#|Current#|Ready#|Up-to-date#|Available#|Node Selector|Age|Containers*|Images*|Selector*",
    (o, now) => [
      name(o),
      count(o.status?.desiredNumberScheduled),
      count(o.status?.currentNumberScheduled),
      count(o.status?.numberReady),
      count(o.status?.updatedNumberScheduled),
      count(o.status?.numberAvailable),
      labelsText(o.spec?.template?.spec?.nodeSelector),
      age(o, now),
      containerNames(o.spec?.template),
      containerImages(o.spec?.template),
      selectorText(o.spec?.selector),
    ],
  ),
  "apps/controllerrevisions": printer("Name|Controller|Revision#|Age", (o, now) => {
    const owner = (o.metadata.ownerReferences ?? []).find((ref: Stored) => ref.controller);
    const kind = owner ? `${owner.kind.toLowerCase()}.${owner.apiVersion.split("/")[0]}/${owner.name}` : none;
    return [name(o), kind, count(o.revision), age(o, now)];
  }),
  "batch/jobs": printer("Name|Status|Completions|Duration|Age|Containers*|Images*|Selector*", (o, now) => [
    name(o),
    jobStatus(o),
    jobCompletions(o),
    jobDuration(o, now),
    age(o, now),
    containerNames(o.spec?.template),
    containerImages(o.spec?.template),
    selectorText(o.spec?.selector),
  ]),
  "batch/cronjobs": printer(
    "Name|Schedule|Timezone|Suspend|Active#|Last Schedule|Age|Containers*|Images*|Selector*",
    (o, now) => [
      name(o),
      o.spec?.schedule ?? "",
      o.spec?.timeZone ?? none,
      o.spec?.suspend ? "True" : "False",
      (o.status?.active ?? []).length,
      o.status?.lastScheduleTime ? ageOf(o.status.lastScheduleTime, now) : none,
      age(o, now),
      containerNames(o.spec?.jobTemplate?.spec?.template),
      containerImages(o.spec?.jobTemplate?.spec?.template),
      selectorText(o.spec?.jobTemplate?.spec?.selector),
    ],
  ),
  "autoscaling/horizontalpodautoscalers": printer("Name|Reference|Targets|MinPods|MaxPods#|Replicas#|Age", (o, now) => [
    name(o),
    `${o.spec?.scaleTargetRef?.kind}/${o.spec?.scaleTargetRef?.name}`,
    metricTarget(o),
    o.spec?.minReplicas != null ? String(o.spec.minReplicas) : "<unset>",
    count(o.spec?.maxReplicas),
    count(o.status?.currentReplicas),
    age(o, now),
  ]),
  "policy/poddisruptionbudgets": printer("Name|Min Available|Max Unavailable|Allowed Disruptions#|Age", (o, now) => [
    name(o),
    String(o.spec?.minAvailable ?? "N/A"),
    String(o.spec?.maxUnavailable ?? "N/A"),
    count(o.status?.disruptionsAllowed),
    age(o, now),
  ]),
  "networking.k8s.io/ingresses": printer("Name|Class|Hosts|Address|Ports|Age", (o, now) => [
    name(o),
    o.spec?.ingressClassName ?? o.metadata.annotations?.["kubernetes.io/ingress.class"] ?? none,
    ingressHosts(o),
    (o.status?.loadBalancer?.ingress ?? [])
      .map((i: Stored) => i.ip || i.hostname)
      .filter(Boolean)
      .join(","),
    (o.spec?.tls ?? []).length ? "80, 443" : "80",
    age(o, now),
  ]),
  "networking.k8s.io/ingressclasses": printer("Name|Controller|Parameters|Age", (o, now) => {
    const p = o.spec?.parameters;
    return [
      name(o),
      o.spec?.controller ?? "",
      p ? `${p.kind}${p.apiGroup ? `.${p.apiGroup}` : ""}/${p.name}` : none,
      age(o, now),
    ];
  }),
  "networking.k8s.io/networkpolicies": printer("Name|Pod-Selector|Age", (o, now) => [
    name(o),
    selectorText(o.spec?.podSelector),
    age(o, now),
  ]),
  "discovery.k8s.io/endpointslices": printer("Name|AddressType|Ports|Endpoints|Age", (o, now) => [
    name(o),
    o.addressType ?? "",
    slicePorts(o),
    sliceEndpoints(o),
    age(o, now),
  ]),
  "coordination.k8s.io/leases": printer("Name|Holder|Age", (o, now) => [
    name(o),
    o.spec?.holderIdentity ?? "",
    age(o, now),
  ]),
  "rbac.authorization.k8s.io/roles": created,
  "rbac.authorization.k8s.io/clusterroles": created,
  "rbac.authorization.k8s.io/rolebindings": binding,
  "rbac.authorization.k8s.io/clusterrolebindings": binding,
  "apiextensions.k8s.io/customresourcedefinitions": created,
  "admissionregistration.k8s.io/mutatingwebhookconfigurations": webhooks,
  "admissionregistration.k8s.io/validatingwebhookconfigurations": webhooks,
  "apiregistration.k8s.io/apiservices": printer("Name|Service|Available|Age", (o, now) => [
    name(o),
    o.spec?.service ? `${o.spec.service.namespace}/${o.spec.service.name}` : "Local",
    condition(o, "Available") || "Unknown",
    age(o, now),
  ]),
  "scheduling.k8s.io/priorityclasses": printer("Name|Value#|Global-Default|Age|PreemptionPolicy", (o, now) => [
    name(o),
    count(o.value),
    String(o.globalDefault ?? false),
    age(o, now),
    o.preemptionPolicy ?? "PreemptLowerPriority",
  ]),
  "storage.k8s.io/storageclasses": printer(
    "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age",
    (o, now) => [
      o.metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true"
        ? `${name(o)} (default)`
        : name(o),
      o.provisioner ?? "",
      o.reclaimPolicy ?? "Delete",
      o.volumeBindingMode ?? "Immediate",
      String(o.allowVolumeExpansion ?? false),
      age(o, now),
    ],
  ),
  "storage.k8s.io/csinodes": printer("Name|Drivers#|Age", (o, now) => [
    name(o),
    (o.spec?.drivers ?? []).length,
    age(o, now),
  ]),
  "node.k8s.io/runtimeclasses": printer("Name|Handler|Age", (o, now) => [name(o), o.handler ?? "", age(o, now)]),
  "certificates.k8s.io/certificatesigningrequests": printer(
    "Name|Age|SignerName|Requestor|RequestedDuration|Condition",
    (o, now) => [
      name(o),
      age(o, now),
      o.spec?.signerName ?? "",
      o.spec?.username ?? "",
      o.spec?.expirationSeconds ? shortDuration(o.spec.expirationSeconds * 1000) : none,
      csrCondition(o),
    ],
  ),
};
