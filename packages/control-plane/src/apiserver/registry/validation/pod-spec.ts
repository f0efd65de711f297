/** Validation of pod specs, in pods and in templates, and what of a pod may change. */
import type { ApiObject, JsonObject } from "../../api-object.ts";
import { deepEqual } from "../../patch/json-patch.ts";
import { Checks } from "./checks.ts";
import { validateContainers } from "./containers.ts";

/** Checks a spec at `at` (`spec`, `spec.template.spec`). */
export function validatePodSpec(checks: Checks, spec: JsonObject | undefined, at: string): void {
  if (spec === undefined) return checks.required(`${at}.containers`);
  const volumes = validateVolumes(checks, spec["volumes"] ?? [], `${at}.volumes`);
  const names = new Set<string>();
  const hostNetwork = spec["hostNetwork"] === true;
  if ((spec["containers"] ?? []).length === 0) checks.required(`${at}.containers`);
  for (const kind of ["containers", "initContainers", "ephemeralContainers"] as const) {
    validateContainers(checks, spec[kind] ?? [], `${at}.${kind}`, names, { volumes, hostNetwork, kind });
  }
  checks.oneOf(`${at}.restartPolicy`, spec["restartPolicy"], ["Always", "OnFailure", "Never"]);
  checks.oneOf(`${at}.dnsPolicy`, spec["dnsPolicy"], ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]);
  if (spec["dnsPolicy"] === "None" && (spec["dnsConfig"]?.nameservers ?? []).length === 0) {
    checks.required(`${at}.dnsConfig.nameservers`, "must provide at least one DNS nameserver when `dnsPolicy` is None");
  }
  checks.notNegative(`${at}.terminationGracePeriodSeconds`, spec["terminationGracePeriodSeconds"]);
  checks.positive(`${at}.activeDeadlineSeconds`, spec["activeDeadlineSeconds"]);
  if (spec["serviceAccountName"]) checks.subdomain(`${at}.serviceAccountName`, spec["serviceAccountName"]);
  if (spec["nodeName"]) checks.subdomain(`${at}.nodeName`, spec["nodeName"]);
  if (spec["hostname"]) checks.label(`${at}.hostname`, spec["hostname"]);
  if (spec["subdomain"]) checks.label(`${at}.subdomain`, spec["subdomain"]);
  checks.labels(`${at}.nodeSelector`, spec["nodeSelector"]);
  validateTolerations(checks, spec["tolerations"] ?? [], `${at}.tolerations`);
  validateSpread(checks, spec["topologySpreadConstraints"] ?? [], `${at}.topologySpreadConstraints`);
  validateAffinity(checks, spec["affinity"] ?? {}, `${at}.affinity`);
}

function validateVolumes(checks: Checks, volumes: readonly JsonObject[], at: string): Set<string> {
  const names = new Set<string>();
  volumes.forEach((volume, index) => {
    const { name, ...sources } = volume;
    if (!name) checks.required(`${at}[${index}].name`);
    else {
      checks.label(`${at}[${index}].name`, name);
      if (names.has(name)) checks.duplicate(`${at}[${index}].name`, name);
      names.add(name);
    }
    const given = Object.keys(sources);
    if (given.length === 0) checks.required(`${at}[${index}]`, "must specify a volume type");
    for (const extra of given.slice(1))
      checks.forbidden(`${at}[${index}].${extra}`, "may not specify more than 1 volume type");
    if (sources["secret"] !== undefined && !sources["secret"].secretName)
      checks.required(`${at}[${index}].secret.secretName`);
    if (sources["configMap"] !== undefined && !sources["configMap"].name)
      checks.required(`${at}[${index}].configMap.name`);
    if (sources["hostPath"] !== undefined && !sources["hostPath"].path)
      checks.required(`${at}[${index}].hostPath.path`);
    if (sources["persistentVolumeClaim"] !== undefined && !sources["persistentVolumeClaim"].claimName)
      checks.required(`${at}[${index}].persistentVolumeClaim.claimName`);
  });
  return names;
}

function validateTolerations(checks: Checks, tolerations: readonly JsonObject[], at: string): void {
  tolerations.forEach(({ key, operator = "Equal", value, effect, tolerationSeconds }, index) => {
    const field = `${at}[${index}]`;
    if (key) checks.qualified(`${field}.key`, key);
    else if (operator !== "Exists")
      checks.invalid(
        `${field}.operator`,
        operator,
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      );
    checks.oneOf(`${field}.operator`, operator, ["Equal", "Exists"]);
    if (operator === "Exists" && value)
      checks.invalid(`${field}.operator`, value, "value must be empty when `operator` is 'Exists'");
    if (effect) checks.oneOf(`${field}.effect`, effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    if (tolerationSeconds !== undefined && effect !== "NoExecute")
      checks.invalid(`${field}.effect`, effect ?? "", "effect must be 'NoExecute' when `tolerationSeconds` is set");
  });
}

function validateSpread(checks: Checks, constraints: readonly JsonObject[], at: string): void {
  constraints.forEach((constraint, index) => {
    if ((constraint["maxSkew"] ?? 0) <= 0)
      checks.invalid(`${at}[${index}].maxSkew`, constraint["maxSkew"] ?? 0, "must be greater than zero");
    if (!constraint["topologyKey"]) checks.required(`${at}[${index}].topologyKey`, "can not be empty");
    checks.oneOf(`${at}[${index}].whenUnsatisfiable`, constraint["whenUnsatisfiable"] ?? "", [
      "DoNotSchedule",
      "ScheduleAnyway",
    ]);
    checks.labelSelector(`${at}[${index}].labelSelector`, constraint["labelSelector"]);
  });
}

function validateAffinity(checks: Checks, affinity: JsonObject, at: string): void {
  const required = affinity["nodeAffinity"]?.requiredDuringSchedulingIgnoredDuringExecution;
  if (required !== undefined && (required.nodeSelectorTerms ?? []).length === 0) {
    checks.required(
      `${at}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms`,
      "must have at least one node selector term",
    );
  }
  for (const kind of ["podAffinity", "podAntiAffinity"]) {
    ((affinity[kind]?.requiredDuringSchedulingIgnoredDuringExecution ?? []) as JsonObject[]).forEach((term, index) => {
      const field = `${at}.${kind}.requiredDuringSchedulingIgnoredDuringExecution[${index}]`;
      if (!term["topologyKey"]) checks.required(`${field}.topologyKey`, "can not be empty");
      checks.labelSelector(`${field}.labelSelector`, term["labelSelector"]);
    });
  }
}

export function validatePod(pod: ApiObject, old: ApiObject | undefined): Checks {
  const checks = new Checks();
  validatePodSpec(checks, pod["spec"], "spec");
  if (old !== undefined && checks.errors.length === 0) validatePodUpdate(checks, pod["spec"], old["spec"]);
  return checks;
}

const updateText =
  "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

function validatePodUpdate(checks: Checks, spec: JsonObject, old: JsonObject): void {
  const gated = (old["schedulingGates"] ?? []).length > 0;
  const addedGate = ((spec["schedulingGates"] ?? []) as JsonObject[]).find(
    (gate) => !((old["schedulingGates"] ?? []) as JsonObject[]).some((o) => o["name"] === gate["name"]),
  );
  if (addedGate !== undefined)
    checks.forbidden(
      "spec.schedulingGates",
      `only deletion is allowed, but found new scheduling gate '${addedGate["name"]}'`,
    );
  const lost = ((old["tolerations"] ?? []) as JsonObject[]).some(
    (toleration) =>
      !((spec["tolerations"] ?? []) as JsonObject[]).some((t) =>
        deepEqual(fixedToleration(t), fixedToleration(toleration)),
      ),
  );
  if (lost)
    checks.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds");
  for (const kind of ["containers", "initContainers"]) {
    if ((spec[kind] ?? []).length !== (old[kind] ?? []).length)
      return checks.forbidden(`spec.${kind}`, "pod updates may not add or remove containers");
  }
  if (!deepEqual(fixedPart(spec, gated), fixedPart(old, gated))) checks.forbidden("spec", updateText);
}

const fixedToleration = ({ tolerationSeconds: _seconds, ...rest }: JsonObject): JsonObject => rest;

function fixedPart(spec: JsonObject, gated: boolean): JsonObject {
  const withoutImages = (containers: readonly JsonObject[] | undefined): JsonObject[] =>
    (containers ?? []).map(({ image: _image, ...rest }) => rest);
  const { activeDeadlineSeconds: _a, tolerations: _t, schedulingGates: _g, ephemeralContainers: _e, ...rest } = spec;
  const fixed: JsonObject = {
    ...rest,
    containers: withoutImages(spec["containers"]),
    initContainers: withoutImages(spec["initContainers"]),
  };
  // A gated pod may still be steered.
  if (gated) for (const field of ["nodeSelector", "affinity"]) delete fixed[field];
  return fixed;
}
