/** What the server serves for a CustomResourceDefinition: one `ResourceInfo` a served version, with the engine of its schema. */
import type { FieldError } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { CustomKind, ResourceInfo, SubresourceInfo, Verb } from "../resource-info.ts";
import { checkRules, hasRules } from "./cel-rules.ts";
import { applyDefaults, prune, type Schema } from "./prune-default.ts";
import { validateSchema } from "./validate.ts";
import type { Stored } from "../stored.ts";

const verbs: readonly Verb[] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const objectVerbs = ["get", "patch", "update"];
const skipped: FieldError = {
  type: "Invalid",
  field: "<nil>",
  value: null,
  detail:
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
};

/** Storage key of a definition's objects. */
export const storageOf = (crd: ApiObject): string => `${crd["spec"].group}/${crd["spec"].names.plural}`;

/** The resources of one definition, the storage version first. */
export function resourcesOf(crd: ApiObject): ResourceInfo[] {
  const spec = crd["spec"];
  return (spec.versions as Stored[])
    .filter((version) => version.served)
    .sort((a, b) => Number(b.storage ?? false) - Number(a.storage ?? false))
    .map((version) => ({
      group: spec.group,
      version: version.name,
      kind: spec.names.kind,
      plural: spec.names.plural,
      singular: spec.names.singular || spec.names.kind.toLowerCase(),
      listKind: spec.names.listKind || `${spec.names.kind}List`,
      namespaced: spec.scope === "Namespaced",
      shortNames: spec.names.shortNames ?? [],
      categories: spec.names.categories ?? [],
      verbs,
      subresources: subresourcesOf(version, spec.names.kind),
      storage: storageOf(crd),
      custom: customKind(crd, version),
    }));
}

function subresourcesOf(version: Stored, kind: string): SubresourceInfo[] {
  return [
    ...(version.subresources?.status ? [{ name: "status", kind, verbs: objectVerbs }] : []),
    ...(version.subresources?.scale
      ? [{ name: "scale", kind: "Scale", group: "autoscaling", version: "v1", verbs: objectVerbs }]
      : []),
  ];
}

function customKind(crd: ApiObject, version: Stored): CustomKind {
  const schema: Schema | undefined = version.schema?.openAPIV3Schema;
  return {
    crd: crd.metadata.name,
    openAPIV3Schema: schema,
    hasStatus: Boolean(version.subresources?.status),
    ...(version.subresources?.scale ? { scale: version.subresources.scale } : {}),
    printerColumns: version.additionalPrinterColumns ?? [],
    selectableFields: (version.selectableFields ?? []).map((field: { jsonPath: string }) => field.jsonPath),
    prune: (object) => (schema ? prune(object, schema) : []),
    default: (object) => {
      if (schema) applyDefaults(object, schema);
    },
    validate: (object, old) => (schema ? validate(object, old, schema) : []),
  };
}

function validate(object: ApiObject, old: ApiObject | undefined, schema: Schema): FieldError[] {
  const errors = validateSchema(object, schema, "", old);
  if (!hasRules(schema)) return errors;
  if (errors.length > 0) return [...errors, skipped];
  return checkRules(object, schema, "", old);
}
