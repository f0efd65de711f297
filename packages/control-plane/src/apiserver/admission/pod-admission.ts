/**
 * What a pod gets on the way in: its service account with the projected token volume, its priority, and tolerations for nodes
 * that are not ready for a moment. Every step leaves alone what is there already, so it can run again after webhooks.
 */
import { randomInt } from "node:crypto";
import { forbidden } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { AdmissionRequest, ObjectReader } from "../seams.ts";
import type { Stored } from "../stored.ts";

const mirrorAnnotation = "kubernetes.io/config.mirror";
const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount";
const volumePrefix = "kube-api-access-";
const tokenSeconds = 3607;
const tolerationSeconds = 300;
const nameAlphabet = "bcdfghjklmnpqrstvwxz2456789";

export function mutatePod(request: AdmissionRequest, pod: ApiObject, objects: ObjectReader): void {
  pod["spec"] ??= {};
  if (request.operation === "CREATE") {
    addServiceAccount(request, pod, objects);
    setPriority(request, pod, objects);
  }
  if (request.operation === "CREATE" || request.operation === "UPDATE")
    addTolerations(pod["spec"], request.operation === "CREATE");
}

function addServiceAccount(request: AdmissionRequest, pod: ApiObject, objects: ObjectReader): void {
  const spec = pod["spec"];
  if (pod.metadata.annotations?.[mirrorAnnotation] !== undefined) return;
  spec.serviceAccountName ||= spec.serviceAccount || "default";
  spec.serviceAccount = spec.serviceAccountName;
  const account = objects.get("/serviceaccounts", request.namespace, spec.serviceAccountName);
  if (!account) {
    const name = spec.serviceAccountName;
    throw forbidden(
      request.info,
      pod.metadata.name ?? "",
      `error looking up service account ${request.namespace}/${name}: serviceaccount "${name}" not found`,
    );
  }
  if (!spec.imagePullSecrets?.length && account["imagePullSecrets"]?.length)
    spec.imagePullSecrets = account["imagePullSecrets"];
  const automount = spec.automountServiceAccountToken ?? account["automountServiceAccountToken"] ?? true;
  if (automount) mountToken(spec);
}

function mountToken(spec: Stored): void {
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? [])];
  const lacking = containers.filter(
    (container) => !(container.volumeMounts ?? []).some((mount: Stored) => mount.mountPath === tokenPath),
  );
  if (lacking.length === 0) return;
  let volume = (spec.volumes ?? []).find((candidate: Stored) => candidate.name.startsWith(volumePrefix));
  if (!volume) {
    volume = tokenVolume(volumePrefix + randomSuffix());
    spec.volumes = [...(spec.volumes ?? []), volume];
  }
  for (const container of lacking) {
    container.volumeMounts = [
      ...(container.volumeMounts ?? []),
      { name: volume.name, readOnly: true, mountPath: tokenPath },
    ];
  }
}

const tokenVolume = (name: string) => ({
  name,
  projected: {
    defaultMode: 420,
    sources: [
      { serviceAccountToken: { expirationSeconds: tokenSeconds, path: "token" } },
      { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
      {
        downwardAPI: {
          items: [{ path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } }],
        },
      },
    ],
  },
});

function randomSuffix(): string {
  return Array.from({ length: 5 }, () => nameAlphabet[randomInt(nameAlphabet.length)]).join("");
}

function setPriority(request: AdmissionRequest, pod: ApiObject, objects: ObjectReader): void {
  const spec = pod["spec"];
  const refuse = (why: string) => forbidden(request.info, pod.metadata.name ?? "", why);
  let priorityClass: ApiObject | undefined;
  if (spec.priorityClassName) {
    priorityClass = objects.get("scheduling.k8s.io/priorityclasses", "", spec.priorityClassName);
    if (!priorityClass) throw refuse(`no PriorityClass with name ${spec.priorityClassName} was found`);
  } else {
    priorityClass = objects
      .list("scheduling.k8s.io/priorityclasses")
      .filter((candidate) => candidate["globalDefault"])
      .sort((a, b) => (a["value"] ?? 0) - (b["value"] ?? 0))[0];
    if (priorityClass) spec.priorityClassName = priorityClass.metadata.name;
  }
  const priority = priorityClass?.["value"] ?? 0;
  if (spec.priority !== undefined && spec.priority !== priority) {
    throw refuse(
      `the integer value of priority (${spec.priority}) must not be provided in pod spec; priority admission controller computed ${priority} from the given PriorityClass name`,
    );
  }
  spec.priority = priority;
  const preemption = priorityClass?.["preemptionPolicy"] ?? "PreemptLowerPriority";
  if (spec.preemptionPolicy !== undefined && spec.preemptionPolicy !== preemption) {
    throw refuse(
      `the string value of PreemptionPolicy (${spec.preemptionPolicy}) must not be provided in pod spec; priority admission controller computed ${preemption} from the given PriorityClass name`,
    );
  }
  spec.preemptionPolicy = preemption;
}

/** An update may not take these away either, but only creation has to add both. */
function addTolerations(spec: Stored, creating: boolean): void {
  if (!creating && spec.tolerations === undefined) return;
  for (const key of ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]) {
    const tolerated = (spec.tolerations ?? []).some(
      (toleration: Stored) =>
        (toleration.key === key || !toleration.key) && (toleration.effect === "NoExecute" || !toleration.effect),
    );
    if (!tolerated) {
      spec.tolerations = [
        ...(spec.tolerations ?? []),
        { key, operator: "Exists", effect: "NoExecute", tolerationSeconds },
      ];
    }
  }
}
