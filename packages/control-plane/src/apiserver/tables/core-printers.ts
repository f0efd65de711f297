/** Tables of the core group: pods, services, nodes and what stands around them. */
import { ageOf } from "./age.ts";
import { containerImages, containerNames, labelsText, listWithMore, none } from "./cell-texts.ts";
import { printer, type Printer, type Stored } from "./columns.ts";
import { summarizePod } from "./pod-status.ts";

const name = (o: Stored): string => o.metadata.name;
const age = (o: Stored, now: number): string => ageOf(o.metadata.creationTimestamp, now);

const pods = printer("Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*", (o, now) => {
  const { ready, status, restarts } = summarizePod(o, now);
  const gates: Stored[] = o.spec?.readinessGates ?? [];
  const met = gates.filter((gate) =>
    (o.status?.conditions ?? []).some((c: Stored) => c.type === gate.conditionType && c.status === "True"),
  ).length;
  return [
    name(o),
    ready,
    status,
    restarts,
    age(o, now),
    o.status?.podIP || o.status?.podIPs?.[0]?.ip || none,
    o.spec?.nodeName || none,
    o.status?.nominatedNodeName || none,
    gates.length ? `${met}/${gates.length}` : none,
  ];
});

const services = printer("Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*", (o, now) => [
  name(o),
  o.spec?.type ?? "ClusterIP",
  o.spec?.clusterIP || none,
  externalIp(o),
  servicePorts(o),
  age(o, now),
  labelsText(o.spec?.selector),
]);

function externalIp(service: Stored): string {
  const external: string[] = service.spec?.externalIPs ?? [];
  switch (service.spec?.type) {
    case "ExternalName":
      return service.spec.externalName || none;
    case "LoadBalancer": {
      const ingress: Stored[] = service.status?.loadBalancer?.ingress ?? [];
      const addresses = [...ingress.map((i) => i.ip || i.hostname).filter(Boolean), ...external];
      return addresses.length ? addresses.join(",") : "<pending>";
    }
    default:
      return external.length ? external.join(",") : none;
  }
}

function servicePorts(service: Stored): string {
  const ports: Stored[] = service.spec?.ports ?? [];
  if (ports.length === 0) return none;
  return ports.map((p) => `${p.port}${p.nodePort ? `:${p.nodePort}` : ""}/${p.protocol ?? "TCP"}`).join(",");
}

const nodes = printer(
  "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*",
  (o, now) => {
    const ready = (o.status?.conditions ?? []).find((c: Stored) => c.type === "Ready");
    const status = !ready ? "Unknown" : ready.status === "True" ? "Ready" : "NotReady";
    const address = (type: string): string =>
      (o.status?.addresses ?? []).find((a: Stored) => a.type === type)?.address ?? none;
    const info = o.status?.nodeInfo ?? {};
    return [
      name(o),
      o.spec?.unschedulable ? `${status},SchedulingDisabled` : status,
      nodeRoles(o),
      age(o, now),
      info.kubeletVersion ?? "",
      address("InternalIP"),
      address("ExternalIP"),
      info.osImage || "<unknown>",
      info.kernelVersion || "<unknown>",
      info.containerRuntimeVersion || "<unknown>",
    ];
  },
);

function nodeRoles(node: Stored): string {
  const roles: string[] = [];
  for (const [key, value] of Object.entries(node.metadata.labels ?? {})) {
    if (key.startsWith("node-role.kubernetes.io/")) roles.push(key.slice("node-role.kubernetes.io/".length));
    else if (key === "kubernetes.io/role" && value) roles.push(String(value));
  }
  return roles.filter(Boolean).sort().join(",") || none;
}

const events = printer(
  "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count#*|Name*",
  (o, now) => {
    const first = o.firstTimestamp ?? o.deprecatedFirstTimestamp ?? o.eventTime;
    const last = o.series?.lastObservedTime ?? o.lastTimestamp ?? o.deprecatedLastTimestamp ?? first;
    const object = o.involvedObject ?? o.regarding ?? {};
    const source = o.source ?? o.deprecatedSource ?? {};
    const component = source.component || o.reportingComponent || o.reportingController || "";
    const host = source.host || "";
    return [
      ageOf(last, now),
      o.type ?? "",
      o.reason ?? "",
      `${String(object.kind ?? "").toLowerCase()}/${object.name ?? ""}`,
      object.fieldPath ?? "",
      host ? `${component}, ${host}` : component,
      String(o.message ?? o.note ?? "").trim(),
      ageOf(first, now),
      o.series?.count ?? o.count ?? o.deprecatedCount ?? 1,
      name(o),
    ];
  },
);

const endpoints = printer("Name|Endpoints|Age", (o, now) => {
  const all: string[] = [];
  for (const subset of o.subsets ?? []) {
    const ports: Stored[] = subset.ports ?? [];
    for (const address of subset.addresses ?? []) {
      if (ports.length === 0) all.push(address.ip);
      for (const port of ports) all.push(`${address.ip}:${port.port}`);
    }
  }
  return [name(o), listWithMore(all, 3), age(o, now)];
});

const accessModes: Record<string, string> = {
  ReadWriteOnce: "RWO",
  ReadOnlyMany: "ROX",
  ReadWriteMany: "RWX",
  ReadWriteOncePod: "RWOP",
};
const modes = (list: string[] | undefined): string => (list ?? []).map((mode) => accessModes[mode] ?? mode).join(",");
const storageClass = (o: Stored): string =>
  o.metadata.annotations?.["volume.beta.kubernetes.io/storage-class"] ?? o.spec?.storageClassName ?? "";

const persistentVolumeClaims = printer(
  "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*",
  (o, now) => [
    name(o),
    o.metadata.deletionTimestamp ? "Terminating" : (o.status?.phase ?? ""),
    o.spec?.volumeName ?? "",
    o.spec?.volumeName ? (o.status?.capacity?.storage ?? "") : "",
    o.spec?.volumeName ? modes(o.status?.accessModes) : "",
    storageClass(o),
    o.spec?.volumeAttributesClassName ?? "<unset>",
    age(o, now),
    o.spec?.volumeMode ?? "<unset>",
  ],
);

const persistentVolumes = printer(
  "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode*",
  (o, now) => [
    name(o),
    o.spec?.capacity?.storage ?? "",
    modes(o.spec?.accessModes),
    o.spec?.persistentVolumeReclaimPolicy ?? "",
    o.metadata.deletionTimestamp ? "Terminating" : (o.status?.phase ?? ""),
    o.spec?.claimRef ? `${o.spec.claimRef.namespace}/${o.spec.claimRef.name}` : "",
    storageClass(o),
    o.spec?.volumeAttributesClassName ?? "<unset>",
    o.status?.reason ?? "",
    age(o, now),
    o.spec?.volumeMode ?? "<unset>",
  ],
);

/** Printers of the core group by resource. */
export const corePrinters: Readonly<Record<string, Printer>> = {
  pods,
  services,
  nodes,
  events,
  endpoints,
  persistentvolumeclaims: persistentVolumeClaims,
  persistentvolumes: persistentVolumes,
  namespaces: printer("Name|Status|Age", (o, now) => [name(o), o.status?.phase ?? "", age(o, now)]),
  configmaps: printer("Name|Data|Age", (o, now) => [
    name(o),
    Object.keys(o.data ?? {}).length + Object.keys(o.binaryData ?? {}).length,
    age(o, now),
  ]),
  secrets: printer("Name|Type|Data|Age", (o, now) => [
    name(o),
    o.type ?? "Opaque",
    Object.keys(o.data ?? {}).length,
    age(o, now),
  ]),
  // The Secrets column went away with token secrets, but kubectl's users still see it.
  serviceaccounts: printer("Name|Secrets|Age", (o, now) => [name(o), (o.secrets ?? []).length, age(o, now)]),
  replicationcontrollers: printer("Name|Desired#|Current#|Ready#|Age|Containers*|Images*|Selector*", (o, now) => [
    name(o),
    o.spec?.replicas ?? 0,
    o.status?.replicas ?? 0,
    o.status?.readyReplicas ?? 0,
    age(o, now),
    containerNames(o.spec?.template),
    containerImages(o.spec?.template),
    labelsText(o.spec?.selector),
  ]),
  resourcequotas: printer("Name|Request|Limit|Age", (o, now) => {
    const request: string[] = [];
    const limit: string[] = [];
    for (const [key, hard] of Object.entries(o.status?.hard ?? {}).sort()) {
      (key.startsWith("limits.") ? limit : request).push(`${key}: ${o.status?.used?.[key] ?? 0}/${String(hard)}`);
    }
    return [name(o), request.join(", "), limit.join(", "), age(o, now)];
  }),
  limitranges: printer("Name|Created At", (o) => [name(o), o.metadata.creationTimestamp ?? ""]),
  podtemplates: printer("Name|Containers|Images|Pod Labels", (o) => [
    name(o),
    containerNames(o.template),
    containerImages(o.template),
    labelsText(o.template?.metadata?.labels),
  ]),
};
