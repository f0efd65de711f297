/** One group-version's OpenAPI 3.0 document: its schemas with all they refer to, and its paths. Pure. */
import type { ResourceInfo } from "../resource-info.ts";
import { componentName, type Schema, type Schemas } from "./component-name.ts";
import { pathsOf } from "./operations.ts";

const reference = "#/components/schemas/";
const meta = "io.k8s.apimachinery.pkg.apis.meta.v1";

/** The document of resources that share a group-version. */
export function groupDocument(infos: readonly ResourceInfo[], known: Schemas, version: string): object {
  const schemas: Schemas = {};
  const take = (name: string): void => {
    if (schemas[name] || !known[name]) return;
    const schema = normalize(known[name]);
    schemas[name] = schema;
    for (const found of JSON.stringify(schema).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) take(found[1]!);
  };
  for (const name of ["Status", "DeleteOptions", "Patch", "WatchEvent", "ObjectMeta", "ListMeta"])
    take(`${meta}.${name}`);
  for (const info of infos) {
    if (info.custom) {
      const name = componentName(info);
      schemas[name] = customSchema(info);
      schemas[`${name}List`] = listSchema(info, name);
    } else {
      const name = componentName(info);
      take(name);
      take(name.replace(/[^.]+$/, info.listKind));
    }
    for (const sub of info.subresources) {
      for (const candidate of [
        `io.k8s.api.${sub.group}.${sub.version}.${sub.kind}`,
        `io.k8s.api.authentication.v1.${sub.kind}`,
      ]) {
        if (sub.group !== undefined) take(candidate);
      }
    }
  }
  return {
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: `v${version}.0` },
    paths: Object.assign({}, ...infos.map((info) => pathsOf(info, schemas))),
    components: { schemas, securitySchemes: { BearerToken: { type: "apiKey", name: "authorization", in: "header" } } },
  };
}

/** OpenAPI 3 allows nothing beside `$ref`, so a default moves the reference into `allOf`. */
function normalize(schema: Schema): Schema {
  if (Array.isArray(schema)) return schema.map(normalize) as never;
  if (schema === null || typeof schema !== "object") return schema;
  const copy: Schema = {};
  for (const [key, value] of Object.entries(schema))
    copy[key] = key === "default" || key === "enum" ? value : normalize(value);
  if (typeof copy["$ref"] === "string" && Object.keys(copy).length > 1) {
    const { $ref, ...rest } = copy;
    return { ...rest, allOf: [{ $ref }] };
  }
  if (copy["format"] === "int-or-string" && copy["type"] === "string") {
    const { type: _, ...rest } = copy;
    return { ...rest, oneOf: [{ type: "integer" }, { type: "string" }] };
  }
  return copy;
}

const typeMeta: Schemas = {
  apiVersion: {
    type: "string",
    description: "APIVersion defines the versioned schema of this representation of an object.",
  },
  kind: {
    type: "string",
    description: "Kind is a string value representing the REST resource this object represents.",
  },
};

function customSchema(info: ResourceInfo): Schema {
  const schema = info.custom?.openAPIV3Schema ?? { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  return {
    ...schema,
    type: "object",
    properties: {
      ...schema["properties"],
      ...typeMeta,
      metadata: {
        description: "Standard object's metadata.",
        allOf: [{ $ref: `${reference}${meta}.ObjectMeta` }],
      },
    },
    "x-kubernetes-group-version-kind": [{ group: info.group, version: info.version, kind: info.kind }],
  };
}

function listSchema(info: ResourceInfo, item: string): Schema {
  return {
    description: `${info.listKind} is a list of ${info.kind}`,
    type: "object",
    required: ["items"],
    properties: {
      ...typeMeta,
      items: { type: "array", description: `List of ${info.plural}.`, items: { $ref: reference + item } },
      metadata: { description: "Standard list metadata.", allOf: [{ $ref: `${reference}${meta}.ListMeta` }] },
    },
    "x-kubernetes-group-version-kind": [{ group: info.group, version: info.version, kind: info.listKind }],
  };
}
