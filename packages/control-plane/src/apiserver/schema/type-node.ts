/**
 * The shape of a kind as the write path needs it: fields, list types and merge keys, scalars with their Go type.
 * Built-in kinds come from generated/kubernetes-schemas.json, custom kinds from their openAPIV3Schema. Nodes are made
 * when first reached, so a server that never sees a StatefulSet holds nothing of it.
 */
import type { JsonObject } from "../api-object.ts";
import { readFileSync } from "node:fs";
import type { ResourceInfo } from "../resource-info.ts";

export type ScalarType =
  | "string"
  | "boolean"
  | "int32"
  | "int64"
  | "float64"
  | "bytes"
  | "time"
  | "microTime"
  | "quantity"
  | "intOrString"
  /** Anything: left as it is. */
  | "any";

export type TypeNode =
  | { readonly is: "scalar"; readonly type: ScalarType }
  /** `fields` undefined for a name: unknown. `name` is the Go type's name, for error texts. */
  | {
      readonly is: "struct";
      readonly name: string;
      field(name: string): TypeNode | undefined;
      readonly atomic: boolean;
      readonly open: boolean;
      readonly retainKeys: boolean;
    }
  | { readonly is: "map"; readonly values: TypeNode; readonly atomic: boolean }
  | {
      readonly is: "list";
      readonly items: TypeNode;
      readonly listType: "atomic" | "set" | "map";
      readonly keys: readonly string[];
      /** Default of an absent key (protocol TCP). */
      readonly keyDefaults: Readonly<Record<string, unknown>>;
      /** Strategic merge patch: the key items merge by, "" to merge as a set of scalars, undefined to replace. */
      readonly patchKey: string | undefined;
      readonly retainKeys: boolean;
    };

let builtinSchemas: Record<string, JsonObject> | undefined;
/** The parsed table of built-in schemas (shared; do not change it). */
export function loadBuiltinSchemas(): Record<string, JsonObject> {
  builtinSchemas ??= (
    JSON.parse(readFileSync(new URL("../../generated/kubernetes-schemas.json", import.meta.url), "utf8")) as {
      schemas: Record<string, JsonObject>;
    }
  ).schemas;
  return builtinSchemas;
}

const anything: TypeNode = { is: "scalar", type: "any" };
const named = new Map<string, TypeNode>();
const special: Record<string, ScalarType> = {
  "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
  "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intOrString",
  "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
  "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "microTime",
  "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
  "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
};

/** The node of a built-in type by its full name. */
export function builtinType(name: string): TypeNode {
  const known = named.get(name);
  if (known !== undefined) return known;
  const scalar = special[name];
  const schema = loadBuiltinSchemas()[name];
  const node: TypeNode =
    scalar !== undefined ? { is: "scalar", type: scalar } : schema === undefined ? anything : builtinNode(schema, name);
  named.set(name, node);
  return node;
}

const customTypes = new WeakMap<ResourceInfo, TypeNode>();
/** The node of a resource's objects. */
export function typeOf(info: ResourceInfo): TypeNode {
  if (info.schema !== undefined) return builtinType(info.schema);
  let node = customTypes.get(info);
  if (node === undefined) {
    node = customRoot(info);
    customTypes.set(info, node);
  }
  return node;
}

const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const refName = (ref: string): string => ref.slice(ref.lastIndexOf("/") + 1);

function builtinNode(schema: JsonObject, name: string): TypeNode {
  if (schema["$ref"] !== undefined) return builtinType(refName(schema["$ref"]));
  if (schema["properties"] !== undefined) {
    return structNode(schema, name.slice(name.lastIndexOf(".") + 1), (property) => builtinNode(property, ""), false);
  }
  switch (schema["type"]) {
    case "object":
      if (schema["additionalProperties"] !== undefined) {
        return {
          is: "map",
          values: builtinNode(schema["additionalProperties"], ""),
          atomic: schema["x-kubernetes-map-type"] === "atomic",
        };
      }
      return name.endsWith("SubresourceStatus")
        ? structNode({ properties: {} }, name, () => anything, false)
        : anything;
    case "array":
      return listNode(schema, builtinNode(schema["items"], ""), itemsSchema(schema["items"]));
    case "boolean":
      return { is: "scalar", type: "boolean" };
    case "integer":
      return { is: "scalar", type: schema["format"] === "int32" ? "int32" : "int64" };
    case "number":
      return { is: "scalar", type: "float64" };
    case "string":
      return { is: "scalar", type: schema["format"] === "byte" ? "bytes" : "string" };
    default:
      return anything;
  }
}

function itemsSchema(items: JsonObject): JsonObject {
  return items?.["$ref"] === undefined ? items : (loadBuiltinSchemas()[refName(items["$ref"])] ?? {});
}

function structNode(
  schema: JsonObject,
  name: string,
  make: (property: JsonObject) => TypeNode,
  open: boolean,
): TypeNode {
  const properties: Record<string, JsonObject> = schema["properties"] ?? {};
  const made = new Map<string, TypeNode>();
  return {
    is: "struct",
    name,
    open,
    atomic: schema["x-kubernetes-map-type"] === "atomic",
    retainKeys: strategies(schema).includes("retainKeys"),
    field(field) {
      let node = made.get(field);
      if (node === undefined && Object.hasOwn(properties, field)) {
        node = make(properties[field]!);
        if (node.is === "struct" && strategies(properties[field]!).includes("retainKeys"))
          node = { ...node, retainKeys: true };
        made.set(field, node);
      }
      return node;
    },
  };
}

const strategies = (schema: JsonObject): string[] => (schema["x-kubernetes-patch-strategy"] ?? "").split(",");

function listNode(schema: JsonObject, items: TypeNode, itemSchema: JsonObject): TypeNode {
  const listType = schema["x-kubernetes-list-type"] ?? "atomic";
  const keys: string[] = schema["x-kubernetes-list-map-keys"] ?? [];
  const merges = strategies(schema).includes("merge");
  const keyDefaults: Record<string, unknown> = {};
  for (const key of keys) {
    const value = itemSchema?.["properties"]?.[key]?.default;
    if (value !== undefined && value !== "") keyDefaults[key] = value;
  }
  return {
    is: "list",
    items,
    listType,
    keys,
    keyDefaults,
    patchKey: merges ? (schema["x-kubernetes-patch-merge-key"] ?? "") : undefined,
    retainKeys: strategies(schema).includes("retainKeys"),
  };
}

function customRoot(info: ResourceInfo): TypeNode {
  const schema = info.custom?.openAPIV3Schema ?? { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  const root = customNode(schema);
  if (root.is !== "struct") return anything;
  return { ...root, name: info.kind, field: (name) => rootField(name) ?? root.field(name) };
}

function rootField(name: string): TypeNode | undefined {
  if (name === "metadata") return builtinType(objectMeta);
  return name === "apiVersion" || name === "kind" ? { is: "scalar", type: "string" } : undefined;
}

function customNode(schema: JsonObject): TypeNode {
  if (schema["x-kubernetes-int-or-string"] === true) return { is: "scalar", type: "any" };
  const open = schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (schema["type"] === "array") return listNode(schema, customNode(schema["items"] ?? {}), schema["items"] ?? {});
  if (schema["type"] === "object" || schema["properties"] !== undefined) {
    if (schema["x-kubernetes-embedded-resource"] === true) {
      const node = structNode(schema, "", customNode, true);
      return node.is === "struct" ? { ...node, field: (name) => rootField(name) ?? node.field(name) } : node;
    }
    if (schema["properties"] !== undefined) return structNode(schema, "", customNode, open);
    if (typeof schema["additionalProperties"] === "object") {
      return {
        is: "map",
        values: customNode(schema["additionalProperties"]),
        atomic: schema["x-kubernetes-map-type"] === "atomic",
      };
    }
    return structNode({ ...schema, properties: {} }, "", customNode, open);
  }
  return anything;
}
