/** Validation of the smaller kinds: configuration, networking, policy, RBAC, coordination, storage. */
import type { FieldError } from "../../api-error.ts";
import type { ApiObject, JsonObject } from "../../api-object.ts";
import { deepEqual } from "../../patch/json-patch.ts";
import { parseQuantity } from "@underlay/kube/quantity";
import { Checks } from "./checks.ts";

type Validate = (object: ApiObject, old: ApiObject | undefined) => FieldError[];

const checked =
  (check: (checks: Checks, object: ApiObject, old: ApiObject | undefined) => void): Validate =>
  (object, old) => {
    const checks = new Checks();
    check(checks, object, old);
    return checks.errors;
  };

const keyText =
  "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

function dataKeys(checks: Checks, object: ApiObject, old: ApiObject | undefined): void {
  let size = 0;
  for (const field of ["data", "binaryData"]) {
    for (const [key, value] of Object.entries((object[field] ?? {}) as Record<string, string>)) {
      if (!/^[-._a-zA-Z0-9]+$/.test(key) || key === "." || key.startsWith(".."))
        checks.invalid(`${field}[${key}]`, key, keyText);
      size += Buffer.byteLength(value);
    }
  }
  if (size > 1024 * 1024 * (object.kind === "Secret" ? 4 / 3 : 1))
    checks.errors.push({
      type: "TooLong",
      field: object.kind === "Secret" ? "data" : "",
      detail: "may not be more than 1048576 bytes",
    });
  if (old?.["immutable"] !== true) return;
  if (object["immutable"] !== true) checks.forbidden("immutable", "field is immutable when `immutable` is set");
  for (const field of ["data", "binaryData"])
    if (!deepEqual(object[field] ?? {}, old[field] ?? {}))
      checks.forbidden(field, "field is immutable when `immutable` is set");
}

const secretKeys: Record<string, string[]> = {
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
};

/** By `<group>/<Kind>`. */
export const otherValidations: Readonly<Record<string, Validate>> = {
  "/ConfigMap": checked(dataKeys),
  "/Secret": checked((checks, object, old) => {
    dataKeys(checks, object, old);
    for (const key of secretKeys[object["type"]] ?? [])
      if (object["data"]?.[key] === undefined) checks.required(`data[${key}]`);
    if (old !== undefined) checks.immutable("type", object["type"], old["type"]);
  }),
  "/Node": checked((checks, object) => {
    const seen = new Set<string>();
    ((object["spec"]?.taints ?? []) as JsonObject[]).forEach((taint, index) => {
      checks.qualified(`metadata.taints[${index}].key`, taint["key"] ?? "");
      checks.oneOf(`metadata.taints[${index}].effect`, taint["effect"] ?? "", [
        "NoSchedule",
        "PreferNoSchedule",
        "NoExecute",
      ]);
      const key = `${taint["key"]}:${taint["effect"]}`;
      if (seen.has(key)) checks.duplicate(`metadata.taints[${index}]`, taint);
      seen.add(key);
    });
  }),
  "/PersistentVolumeClaim": checked((checks, object, old) => {
    const spec: JsonObject = object["spec"];
    if ((spec["accessModes"] ?? []).length === 0)
      checks.required("spec.accessModes", "at least 1 access mode is required");
    const storage = spec["resources"]?.requests?.storage;
    if (storage === undefined) checks.required("spec.resources[storage]");
    else if (parseQuantity(storage) <= 0)
      checks.invalid("spec.resources[storage]", storage, "must be greater than zero");
    if (old === undefined) return;
    const fixed = ({
      resources: _r,
      volumeName: _v,
      volumeAttributesClassName: _c,
      storageClassName: _s,
      ...rest
    }: JsonObject): JsonObject => rest;
    if (
      !deepEqual(fixed(spec), fixed(old["spec"])) ||
      (old["spec"].volumeName && spec["volumeName"] !== old["spec"].volumeName)
    ) {
      checks.forbidden(
        "spec",
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
      );
    }
  }),
  "/PersistentVolume": checked((checks, object) => {
    if ((object["spec"].accessModes ?? []).length === 0) checks.required("spec.accessModes");
    if (object["spec"].capacity?.storage === undefined) checks.required("spec.capacity");
  }),
  "discovery.k8s.io/EndpointSlice": checked((checks, object, old) => {
    if (!object["addressType"]) checks.required("addressType");
    else checks.oneOf("addressType", object["addressType"], ["FQDN", "IPv4", "IPv6"]);
    if ((object["endpoints"] ?? []).length > 1000)
      checks.errors.push({
        type: "TooMany",
        field: "endpoints",
        value: object["endpoints"].length,
        detail: "must have at most 1000 items",
      });
    ((object["endpoints"] ?? []) as JsonObject[]).forEach((endpoint, index) => {
      if ((endpoint["addresses"] ?? []).length === 0)
        checks.required(`endpoints[${index}].addresses`, "must contain at least 1 address");
    });
    if (old !== undefined) checks.immutable("addressType", object["addressType"], old["addressType"]);
  }),
  "coordination.k8s.io/Lease": checked((checks, object) => {
    checks.positive("spec.leaseDurationSeconds", object["spec"]?.leaseDurationSeconds);
    checks.notNegative("spec.leaseTransitions", object["spec"]?.leaseTransitions);
  }),
  "scheduling.k8s.io/PriorityClass": checked((checks, object, old) => {
    const { name } = object.metadata;
    if (name.startsWith("system-") && !["system-cluster-critical", "system-node-critical"].includes(name)) {
      checks.forbidden(
        "metadata.name",
        "priority class names with 'system-' prefix are reserved for system use only. error: " + name,
      );
    } else if (!name.startsWith("system-") && (object["value"] ?? 0) > 1000000000)
      checks.forbidden("value", "maximum allowed value of a user defined priority is 1000000000");
    if (old !== undefined && (object["value"] ?? 0) !== (old["value"] ?? 0))
      checks.forbidden("value", "may not be changed in an update.");
  }),
  "policy/PodDisruptionBudget": checked((checks, object) => {
    const { minAvailable, maxUnavailable, selector } = object["spec"] ?? {};
    if (minAvailable !== undefined && maxUnavailable !== undefined)
      checks.invalid("spec", object["spec"], "minAvailable and maxUnavailable cannot be both set");
    checks.countOrPercent("spec.minAvailable", minAvailable);
    checks.countOrPercent("spec.maxUnavailable", maxUnavailable);
    checks.labelSelector("spec.selector", selector);
  }),
  "autoscaling/HorizontalPodAutoscaler": checked((checks, object) => {
    const { minReplicas = 1, maxReplicas = 0, scaleTargetRef } = object["spec"];
    if (minReplicas < 1) checks.invalid("spec.minReplicas", minReplicas, "must be greater than or equal to 1");
    if (maxReplicas < 1) checks.invalid("spec.maxReplicas", maxReplicas, "must be greater than 0");
    if (maxReplicas < minReplicas)
      checks.invalid("spec.maxReplicas", maxReplicas, "must be greater than or equal to `minReplicas`");
    for (const field of ["kind", "name"]) if (!scaleTargetRef?.[field]) checks.required(`spec.scaleTargetRef.${field}`);
  }),
  "networking.k8s.io/Ingress": checked((checks, object) => {
    const { rules = [], defaultBackend } = object["spec"] ?? {};
    if (rules.length === 0 && defaultBackend === undefined)
      checks.invalid("spec", object["spec"] ?? {}, "either `defaultBackend` or `rules` must be specified");
    if (defaultBackend !== undefined) ingressBackend(checks, defaultBackend, "spec.defaultBackend");
    (rules as JsonObject[]).forEach((rule, index) => {
      const at = `spec.rules[${index}]`;
      if (rule["host"] && !String(rule["host"]).startsWith("*.")) checks.subdomain(`${at}.host`, rule["host"]);
      ((rule["http"]?.paths ?? []) as JsonObject[]).forEach((path, p) => {
        const field = `${at}.http.paths[${p}]`;
        if (!path["pathType"]) checks.required(`${field}.pathType`, "pathType must be specified");
        else checks.oneOf(`${field}.pathType`, path["pathType"], ["Exact", "ImplementationSpecific", "Prefix"]);
        if (path["pathType"] !== "ImplementationSpecific" && !String(path["path"] ?? "").startsWith("/"))
          checks.invalid(`${field}.path`, path["path"] ?? "", "must be an absolute path");
        ingressBackend(checks, path["backend"] ?? {}, `${field}.backend`);
      });
    });
  }),
  "networking.k8s.io/NetworkPolicy": checked((checks, object) => {
    const spec: JsonObject = object["spec"];
    checks.labelSelector("spec.podSelector", spec["podSelector"]);
    ((spec["policyTypes"] ?? []) as string[]).forEach((type, index) =>
      checks.oneOf(`spec.policyTypes[${index}]`, type, ["Egress", "Ingress"]),
    );
    for (const [direction, peers] of [
      ["ingress", "from"],
      ["egress", "to"],
    ] as const) {
      ((spec[direction] ?? []) as JsonObject[]).forEach((rule, index) => {
        const at = `spec.${direction}[${index}]`;
        ((rule["ports"] ?? []) as JsonObject[]).forEach((port, p) => {
          checks.oneOf(`${at}.ports[${p}].protocol`, port["protocol"], ["SCTP", "TCP", "UDP"]);
          checks.portOrName(`${at}.ports[${p}].port`, port["port"]);
          if (port["endPort"] !== undefined && !(port["endPort"] >= port["port"]))
            checks.invalid(`${at}.ports[${p}].endPort`, port["endPort"], "must be greater than or equal to `port`");
        });
        ((rule[peers] ?? []) as JsonObject[]).forEach((peer, p) => networkPeer(checks, peer, `${at}.${peers}[${p}]`));
      });
    }
  }),
  "rbac.authorization.k8s.io/RoleBinding": checked(roleBinding),
  "rbac.authorization.k8s.io/ClusterRoleBinding": checked(roleBinding),
  "rbac.authorization.k8s.io/Role": checked((checks, object) => policyRules(checks, object, true)),
  "rbac.authorization.k8s.io/ClusterRole": checked((checks, object) => policyRules(checks, object, false)),
  "admissionregistration.k8s.io/MutatingWebhookConfiguration": checked(webhooks),
  "admissionregistration.k8s.io/ValidatingWebhookConfiguration": checked(webhooks),
  "certificates.k8s.io/CertificateSigningRequest": checked((checks, object, old) => {
    if (!object["spec"]?.request) checks.required("spec.request");
    if (!object["spec"]?.signerName) checks.required("spec.signerName");
    if (old !== undefined) checks.immutable("spec", object["spec"], old["spec"]);
  }),
};

function ingressBackend(checks: Checks, backend: JsonObject, at: string): void {
  if (backend["service"] === undefined && backend["resource"] === undefined)
    return checks.required(at, "must specify a service or a resource");
  const { service } = backend;
  if (service === undefined) return;
  if (!service.name) checks.required(`${at}.service.name`);
  if (!service.port?.name && !service.port?.number)
    checks.required(`${at}.service.port`, "port name or number is required");
}

function networkPeer(checks: Checks, peer: JsonObject, at: string): void {
  const { ipBlock, podSelector, namespaceSelector } = peer;
  if (ipBlock === undefined && podSelector === undefined && namespaceSelector === undefined)
    return checks.required(at, "must specify a peer");
  checks.labelSelector(`${at}.podSelector`, podSelector);
  checks.labelSelector(`${at}.namespaceSelector`, namespaceSelector);
  if (ipBlock === undefined) return;
  if (podSelector !== undefined || namespaceSelector !== undefined)
    checks.forbidden(at, "may not specify both ipBlock and another peer");
  if (!/^[0-9a-fA-F.:]+\/\d{1,3}$/.test(ipBlock.cidr ?? ""))
    checks.invalid(
      `${at}.ipBlock.cidr`,
      ipBlock.cidr ?? "",
      "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    );
}

function roleBinding(checks: Checks, object: ApiObject, old: ApiObject | undefined): void {
  const role: JsonObject = object["roleRef"] ?? {};
  if (role["apiGroup"] !== "rbac.authorization.k8s.io")
    checks.oneOf("roleRef.apiGroup", role["apiGroup"] ?? "", ["rbac.authorization.k8s.io"]);
  checks.oneOf(
    "roleRef.kind",
    role["kind"] ?? "",
    object.kind === "RoleBinding" ? ["Role", "ClusterRole"] : ["ClusterRole"],
  );
  if (!role["name"]) checks.required("roleRef.name");
  ((object["subjects"] ?? []) as JsonObject[]).forEach((subject, index) => {
    checks.oneOf(`subjects[${index}].kind`, subject["kind"] ?? "", ["ServiceAccount", "User", "Group"]);
    if (!subject["name"]) checks.required(`subjects[${index}].name`);
    if (subject["kind"] === "ServiceAccount" && !subject["namespace"]) checks.required(`subjects[${index}].namespace`);
  });
  if (old !== undefined && !deepEqual(role, old["roleRef"])) checks.invalid("roleRef", role, "cannot change roleRef");
}

function policyRules(checks: Checks, object: ApiObject, namespaced: boolean): void {
  ((object["rules"] ?? []) as JsonObject[]).forEach((rule, index) => {
    const at = `rules[${index}]`;
    if ((rule["verbs"] ?? []).length === 0) checks.required(`${at}.verbs`, "verbs must contain at least one value");
    if ((rule["nonResourceURLs"] ?? []).length > 0) {
      if (namespaced)
        checks.invalid(
          `${at}.nonResourceURLs`,
          rule["nonResourceURLs"],
          "namespaced rules cannot apply to non-resource URLs",
        );
      if ([...(rule["apiGroups"] ?? []), ...(rule["resources"] ?? [])].length > 0)
        checks.invalid(
          `${at}.nonResourceURLs`,
          rule["nonResourceURLs"],
          "rules cannot apply to both regular resources and non-resource URLs",
        );
      return;
    }
    if ((rule["apiGroups"] ?? []).length === 0)
      checks.required(`${at}.apiGroups`, "resource rules must supply at least one api group");
    if ((rule["resources"] ?? []).length === 0)
      checks.required(`${at}.resources`, "resource rules must supply at least one resource");
  });
}

function webhooks(checks: Checks, object: ApiObject): void {
  const names = new Set<string>();
  ((object["webhooks"] ?? []) as JsonObject[]).forEach((webhook, index) => {
    const at = `webhooks[${index}]`;
    if (String(webhook["name"] ?? "").split(".").length < 3)
      checks.invalid(
        `${at}.name`,
        webhook["name"] ?? "",
        "should be a domain with at least three segments separated by dots",
      );
    if (names.has(webhook["name"])) checks.duplicate(`${at}.name`, webhook["name"]);
    names.add(webhook["name"]);
    const { service, url } = webhook["clientConfig"] ?? {};
    if ((service === undefined) === (url === undefined))
      checks.required(`${at}.clientConfig`, "exactly one of url or service is required");
    if (!(webhook["admissionReviewVersions"] ?? []).includes("v1"))
      checks.invalid(
        `${at}.admissionReviewVersions`,
        webhook["admissionReviewVersions"] ?? [],
        "must include at least one of v1, v1beta1",
      );
    checks.oneOf(`${at}.failurePolicy`, webhook["failurePolicy"], ["Fail", "Ignore"]);
    checks.oneOf(`${at}.sideEffects`, webhook["sideEffects"] ?? "", ["None", "NoneOnDryRun"]);
    if (webhook["timeoutSeconds"] < 1 || webhook["timeoutSeconds"] > 30)
      checks.invalid(
        `${at}.timeoutSeconds`,
        webhook["timeoutSeconds"],
        "the timeout value must be between 1 and 30 seconds",
      );
  });
}
