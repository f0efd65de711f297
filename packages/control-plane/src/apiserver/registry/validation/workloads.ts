/** Validation of Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob. */
import { matchesLabelSelector } from "@underlay/kube/selectors";
import type { FieldError } from "../../api-error.ts";
import type { ApiObject, JsonObject } from "../../api-object.ts";
import { deepEqual } from "../../patch/json-patch.ts";
import { Checks } from "./checks.ts";
import { validatePodSpec } from "./pod-spec.ts";

/** The template at `at`, and that the selector selects it. */
function validateTemplate(
  checks: Checks,
  spec: JsonObject,
  at: string,
  restartPolicies: readonly string[],
  kind?: string,
): void {
  const { selector, template } = spec;
  if (kind !== undefined) {
    if (selector === undefined) checks.required(`${at}.selector`);
    else {
      checks.labelSelector(`${at}.selector`, selector);
      if (Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length === 0)
        checks.invalid(`${at}.selector`, selector, `empty selector is invalid for ${kind}`);
    }
  }
  if (template === undefined) return checks.required(`${at}.template`);
  checks.labels(`${at}.template.metadata.labels`, template.metadata?.labels);
  if (
    kind !== undefined &&
    selector !== undefined &&
    !matchesLabelSelector(selector, template.metadata?.labels ?? {})
  ) {
    checks.invalid(
      `${at}.template.metadata.labels`,
      template.metadata?.labels ?? {},
      "`selector` does not match template `labels`",
    );
  }
  validatePodSpec(checks, template.spec, `${at}.template.spec`);
  checks.oneOf(`${at}.template.spec.restartPolicy`, template.spec?.restartPolicy, restartPolicies);
}

const always = ["Always"];

export function validateDeployment(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = object["spec"];
  checks.notNegative("spec.replicas", spec["replicas"]);
  validateTemplate(checks, spec, "spec", always, "deployment");
  const { type, rollingUpdate } = spec["strategy"];
  checks.oneOf("spec.strategy.type", type, ["Recreate", "RollingUpdate"]);
  if (type === "Recreate" && rollingUpdate !== undefined)
    checks.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'");
  if (type === "RollingUpdate") {
    checks.countOrPercent("spec.strategy.rollingUpdate.maxUnavailable", rollingUpdate.maxUnavailable);
    checks.countOrPercent("spec.strategy.rollingUpdate.maxSurge", rollingUpdate.maxSurge);
    if (isZero(rollingUpdate.maxUnavailable) && isZero(rollingUpdate.maxSurge))
      checks.invalid(
        "spec.strategy.rollingUpdate.maxUnavailable",
        rollingUpdate.maxUnavailable,
        "may not be 0 when `maxSurge` is 0",
      );
  }
  for (const field of ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"])
    checks.notNegative(`spec.${field}`, spec[field]);
  if ((spec["progressDeadlineSeconds"] ?? 600) <= (spec["minReadySeconds"] ?? 0))
    checks.invalid(
      "spec.progressDeadlineSeconds",
      spec["progressDeadlineSeconds"],
      "must be greater than minReadySeconds",
    );
  if (old !== undefined) checks.immutable("spec.selector", spec["selector"], old["spec"].selector);
  return checks.errors;
}

const isZero = (value: number | string | undefined): boolean => value === 0 || value === "0%" || value === "0";

export function validateReplicaSet(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = object["spec"];
  checks.notNegative("spec.replicas", spec["replicas"]);
  checks.notNegative("spec.minReadySeconds", spec["minReadySeconds"]);
  validateTemplate(checks, spec, "spec", always, "replicaset");
  if (old !== undefined) checks.immutable("spec.selector", spec["selector"], old["spec"].selector);
  return checks.errors;
}

const statefulSetMutable = [
  "replicas",
  "ordinals",
  "template",
  "updateStrategy",
  "revisionHistoryLimit",
  "persistentVolumeClaimRetentionPolicy",
  "minReadySeconds",
];

export function validateStatefulSet(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = object["spec"];
  checks.notNegative("spec.replicas", spec["replicas"]);
  checks.oneOf("spec.podManagementPolicy", spec["podManagementPolicy"], ["OrderedReady", "Parallel"]);
  checks.oneOf("spec.updateStrategy.type", spec["updateStrategy"]?.type, ["RollingUpdate", "OnDelete"]);
  checks.notNegative("spec.updateStrategy.rollingUpdate.partition", spec["updateStrategy"]?.rollingUpdate?.partition);
  // Claim templates become volumes of the pods.
  const template = structuredClone(spec["template"]);
  if (template?.spec !== undefined) {
    const claims = ((spec["volumeClaimTemplates"] ?? []) as ApiObject[]).map((claim) => ({
      name: claim.metadata?.name,
      persistentVolumeClaim: { claimName: claim.metadata?.name },
    }));
    const names = new Set(claims.map((claim) => claim.name));
    template.spec.volumes = [
      ...((template.spec.volumes ?? []) as JsonObject[]).filter((volume) => !names.has(volume["name"])),
      ...claims,
    ];
  }
  validateTemplate(checks, { ...spec, template }, "spec", always, "statefulset");
  if (old !== undefined && !deepEqual(omit(spec, statefulSetMutable), omit(old["spec"], statefulSetMutable))) {
    checks.forbidden(
      "spec",
      `updates to statefulset spec for fields other than ${statefulSetMutable
        .slice(0, -1)
        .map((f) => `'${f}'`)
        .join(", ")} and 'minReadySeconds' are forbidden`,
    );
  }
  return checks.errors;
}

export function validateDaemonSet(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = object["spec"];
  validateTemplate(checks, spec, "spec", always, "daemonset");
  const { type, rollingUpdate } = spec["updateStrategy"];
  checks.oneOf("spec.updateStrategy.type", type, ["RollingUpdate", "OnDelete"]);
  if (type === "RollingUpdate") {
    checks.countOrPercent("spec.updateStrategy.rollingUpdate.maxUnavailable", rollingUpdate?.maxUnavailable);
    checks.countOrPercent("spec.updateStrategy.rollingUpdate.maxSurge", rollingUpdate?.maxSurge);
    const none = isZero(rollingUpdate?.maxUnavailable);
    if (none && isZero(rollingUpdate?.maxSurge))
      checks.invalid(
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
        rollingUpdate.maxUnavailable,
        "cannot be 0 when maxSurge is 0",
      );
    if (!none && !isZero(rollingUpdate?.maxSurge) && rollingUpdate?.maxSurge !== undefined)
      checks.invalid(
        "spec.updateStrategy.rollingUpdate.maxSurge",
        rollingUpdate.maxSurge,
        "may not be set when maxUnavailable is non-zero",
      );
  }
  checks.notNegative("spec.minReadySeconds", spec["minReadySeconds"]);
  if (old !== undefined) checks.immutable("spec.selector", spec["selector"], old["spec"].selector);
  return checks.errors;
}

function jobSpec(checks: Checks, spec: JsonObject, at: string): void {
  for (const field of [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
  ])
    checks.notNegative(`${at}.${field}`, spec[field]);
  checks.oneOf(`${at}.completionMode`, spec["completionMode"], ["NonIndexed", "Indexed"]);
  if (spec["completionMode"] === "Indexed" && spec["completions"] === undefined)
    checks.required(`${at}.completions`, "when completion mode is Indexed");
  validateTemplate(checks, spec, at, ["OnFailure", "Never"]);
}

export function validateJob(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = object["spec"];
  jobSpec(checks, spec, "spec");
  if (spec["selector"] === undefined) checks.required("spec.selector");
  else if (
    spec["template"] !== undefined &&
    !matchesLabelSelector(spec["selector"], spec["template"].metadata?.labels ?? {})
  ) {
    checks.invalid(
      "spec.template.metadata.labels",
      spec["template"].metadata?.labels ?? {},
      "`selector` does not match template `labels`",
    );
  }
  if (old === undefined) return checks.errors;
  checks.immutable("spec.selector", spec["selector"], old["spec"].selector);
  checks.immutable("spec.completionMode", spec["completionMode"], old["spec"].completionMode);
  if (spec["completionMode"] !== "Indexed")
    checks.immutable("spec.completions", spec["completions"], old["spec"].completions);
  // A suspended job that has not started may be steered (queueing systems do).
  if (!(old["spec"].suspend === true && old["status"]?.startTime === undefined))
    checks.immutable("spec.template", spec["template"], old["spec"].template);
  return checks.errors;
}

export function validateCronJob(object: ApiObject): FieldError[] {
  const checks = new Checks();
  const spec: JsonObject = object["spec"];
  if (object.metadata.name.length > 52)
    checks.invalid("metadata.name", object.metadata.name, "must be no more than 52 characters");
  if (!spec["schedule"]) checks.required("spec.schedule");
  else if (!isSchedule(spec["schedule"]))
    checks.invalid(
      "spec.schedule",
      spec["schedule"],
      `expected exactly 5 fields, found ${String(spec["schedule"]).trim().split(/\s+/).length}: [${String(spec["schedule"]).trim().split(/\s+/).join(" ")}]`,
    );
  checks.oneOf("spec.concurrencyPolicy", spec["concurrencyPolicy"], ["Allow", "Forbid", "Replace"]);
  for (const field of ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"])
    checks.notNegative(`spec.${field}`, spec[field]);
  if (spec["timeZone"] !== undefined && !isTimeZone(spec["timeZone"]))
    checks.invalid("spec.timeZone", spec["timeZone"], `unknown time zone ${spec["timeZone"]}`);
  if (spec["jobTemplate"]?.spec === undefined) checks.required("spec.jobTemplate.spec.template");
  else jobSpec(checks, spec["jobTemplate"].spec, "spec.jobTemplate.spec");
  return checks.errors;
}

function isSchedule(text: string): boolean {
  if (/^@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \S+)$/.test(text)) return true;
  const fields = text.trim().split(/\s+/);
  return fields.length === 5 && fields.every((field) => /^[\dA-Za-z*?/,-]+$/.test(field));
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function omit(object: JsonObject, fields: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !fields.includes(key)));
}
