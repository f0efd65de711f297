/** Defaults and validation of CustomResourceDefinition objects themselves. */
import type { FieldError } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { KindStrategy } from "../seams.ts";
import { parseJsonPath } from "../tables/json-path.ts";
import { compileRule } from "./cel-rules.ts";
import type { Schema } from "./prune-default.ts";
import type { Stored } from "../stored.ts";

export const cleanupFinalizer = "customresourcecleanup.apiextensions.k8s.io";
const label = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export const crdStrategy: KindStrategy = {
  default(crd) {
    const spec = (crd["spec"] ??= {});
    const names = (spec.names ??= {});
    names.singular ||= names.kind?.toLowerCase();
    names.listKind ||= names.kind && `${names.kind}List`;
    spec.conversion ??= { strategy: "None" };
    if (spec.preserveUnknownFields === false) delete spec.preserveUnknownFields;
    for (const version of spec.versions ?? []) {
      version.served ??= false;
      version.storage ??= false;
    }
  },
  prepare(crd, old) {
    if (old === undefined)
      crd.metadata.finalizers = [...new Set([...(crd.metadata.finalizers ?? []), cleanupFinalizer])];
  },
  validate(crd, old) {
    return [...validateNames(crd), ...validateVersions(crd), ...(old ? validateUpdate(crd, old) : [])];
  },
};

function validateNames(crd: ApiObject): FieldError[] {
  const { spec } = crd as Stored;
  const errors: FieldError[] = [];
  const required = (field: string, value: unknown) => {
    if (value === undefined || value === "") errors.push({ type: "Required", field });
  };
  required("spec.group", spec.group);
  required("spec.names.plural", spec.names.plural);
  required("spec.names.kind", spec.names.kind);
  if (spec.scope !== "Namespaced" && spec.scope !== "Cluster") {
    if (!spec.scope) required("spec.scope", spec.scope);
    else
      errors.push({
        type: "NotSupported",
        field: "spec.scope",
        value: spec.scope,
        detail: 'supported values: "Cluster", "Namespaced"',
      });
  }
  if (spec.group && (!subdomain.test(spec.group) || !spec.group.includes("."))) {
    errors.push({
      type: "Invalid",
      field: "spec.group",
      value: spec.group,
      detail: "should be a domain with at least one dot",
    });
  }
  if (spec.names.plural && !label.test(spec.names.plural)) {
    errors.push({
      type: "Invalid",
      field: "spec.names.plural",
      value: spec.names.plural,
      detail:
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    });
  }
  if (spec.names.plural && spec.group && crd.metadata.name !== `${spec.names.plural}.${spec.group}`) {
    errors.push({
      type: "Invalid",
      field: "metadata.name",
      value: crd.metadata.name,
      detail: 'must be spec.names.plural+"."+spec.group',
    });
  }
  if (spec.conversion?.strategy === "Webhook") {
    errors.push({
      type: "NotSupported",
      field: "spec.conversion.strategy",
      value: "Webhook",
      detail: 'supported values: "None"',
    });
  }
  return errors;
}

function validateVersions(crd: ApiObject): FieldError[] {
  const { spec } = crd as Stored;
  const versions: Stored[] = spec.versions ?? [];
  const errors: FieldError[] = [];
  if (versions.length === 0)
    errors.push({ type: "Required", field: "spec.versions", detail: "must have at least one version" });
  if (versions.filter((version) => version.storage).length !== 1 && versions.length > 0) {
    errors.push({
      type: "Invalid",
      field: "spec.versions",
      value: versions.map((v) => v.name),
      detail: "must have exactly one version marked as storage version",
    });
  }
  const seen = new Set<string>();
  for (const [index, version] of versions.entries()) {
    const at = `spec.versions[${index}]`;
    if (seen.has(version.name))
      errors.push({
        type: "Invalid",
        field: `${at}.name`,
        value: version.name,
        detail: "must contain unique version names",
      });
    seen.add(version.name);
    if (!version.name || !label.test(version.name)) {
      errors.push({
        type: "Invalid",
        field: `${at}.name`,
        value: version.name ?? "",
        detail:
          "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
      });
    }
    const schema: Schema | undefined = version.schema?.openAPIV3Schema;
    if (!schema)
      errors.push({ type: "Required", field: `${at}.schema.openAPIV3Schema`, detail: "schemas are required" });
    else {
      if (schema["type"] !== "object") {
        errors.push({
          type: "Invalid",
          field: `${at}.schema.openAPIV3Schema.type`,
          value: schema["type"] ?? "",
          detail: "must be object at the root",
        });
      }
      validateSchemaNode(schema, `${at}.schema.openAPIV3Schema`, errors);
    }
    for (const [column, { jsonPath }] of (version.additionalPrinterColumns ?? []).entries()) {
      try {
        parseJsonPath(jsonPath ?? "");
      } catch (error) {
        errors.push({
          type: "Invalid",
          field: `${at}.additionalPrinterColumns[${column}].jsonPath`,
          value: jsonPath,
          detail: String((error as Error).message),
        });
      }
    }
  }
  return errors;
}

/** What makes a schema structural, and whether its rules can be compiled. */
function validateSchemaNode(schema: Schema, path: string, errors: FieldError[]): void {
  const free = schema["x-kubernetes-int-or-string"] === true || schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (!schema["type"] && !free)
    errors.push({ type: "Required", field: `${path}.type`, detail: "must not be empty for specified object fields" });
  if (schema["type"] === "array" && !schema["items"])
    errors.push({ type: "Required", field: `${path}.items`, detail: "must be specified" });
  if (schema["x-kubernetes-list-type"] === "map" && !schema["x-kubernetes-list-map-keys"]?.length) {
    errors.push({
      type: "Required",
      field: `${path}.x-kubernetes-list-map-keys`,
      detail: "must not be empty if x-kubernetes-list-type is map",
    });
  }
  for (const [index, rule] of (schema["x-kubernetes-validations"] ?? []).entries()) {
    try {
      compileRule(rule.rule ?? "");
    } catch (error) {
      const why = (error instanceof Error ? error.message : String(error)).split("\n")[0];
      errors.push({
        type: "Invalid",
        field: `${path}.x-kubernetes-validations[${index}].rule`,
        value: rule.rule ?? "",
        detail: `compilation failed: ${why}`,
      });
    }
  }
  for (const [name, property] of Object.entries<Schema>(schema["properties"] ?? {})) {
    // metadata of the root and of embedded resources has its type from the server.
    if (name === "metadata" || name === "apiVersion" || name === "kind") continue;
    validateSchemaNode(property, `${path}.properties[${name}]`, errors);
  }
  if (schema["items"]) validateSchemaNode(schema["items"], `${path}.items`, errors);
  if (typeof schema["additionalProperties"] === "object")
    validateSchemaNode(schema["additionalProperties"], `${path}.additionalProperties`, errors);
}

function validateUpdate(crd: ApiObject, old: ApiObject): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ["group", "scope"]) {
    if (crd["spec"][field] !== old["spec"][field])
      errors.push({ type: "Invalid", field: `spec.${field}`, value: crd["spec"][field], detail: "field is immutable" });
  }
  const names: Stored[] = (crd["spec"].versions ?? []).map((version: Stored) => version.name);
  for (const stored of old["status"]?.storedVersions ?? []) {
    if (!names.includes(stored)) {
      errors.push({
        type: "Invalid",
        field: "status.storedVersions[0]",
        value: stored,
        detail: "must appear in spec.versions",
      });
    }
  }
  return errors;
}
