/**
 * `/openapi/v2`, definitions only: kubectl still validates objects of kind `List` by it, and kubectl ≤ 1.28 everything.
 * kubectl reads it only in gnostic's protobuf form (openapi_v2.Document), others take JSON.
 */
import protobuf from "protobufjs/minimal.js";
import type { ResourceInfo } from "../resource-info.ts";
import { componentName, type Schema, type Schemas } from "./component-name.ts";
import type { Stored } from "../stored.ts";

const field = { text: 2, varint: 0, double: 1 } as const;

/** The Swagger document as plain JSON. */
export function swaggerDocument(infos: readonly ResourceInfo[], known: Schemas, version: string): object {
  const definitions: Schemas = { ...known };
  for (const info of infos) {
    if (!info.custom) continue;
    const schema = info.custom.openAPIV3Schema ?? { type: "object" };
    definitions[componentName(info)] = {
      ...withoutUnknown(schema),
      type: "object",
      properties: {
        ...withoutUnknown(schema)["properties"],
        apiVersion: { type: "string" },
        kind: { type: "string" },
        metadata: { $ref: "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" },
      },
      "x-kubernetes-group-version-kind": [{ group: info.group, version: info.version, kind: info.kind }],
    };
  }
  const text = JSON.stringify({
    swagger: "2.0",
    info: { title: "Kubernetes", version: `v${version}.0` },
    paths: {},
    definitions,
  });
  return JSON.parse(text.replaceAll("#/components/schemas/", "#/definitions/")) as object;
}

/** Where a schema keeps unknown fields Swagger cannot say so: the object's fields are then left out, as upstream does. */
function withoutUnknown(schema: Schema): Schema {
  if (Array.isArray(schema) || schema === null || typeof schema !== "object") return schema;
  if (schema["x-kubernetes-preserve-unknown-fields"] === true)
    return schema["type"] === "object" ? { type: "object" } : {};
  if (schema["x-kubernetes-int-or-string"] === true) return { type: "string", format: "int-or-string" };
  const copy: Schema = { ...schema };
  if (schema["properties"]) {
    copy["properties"] = Object.fromEntries(
      Object.entries<Schema>(schema["properties"]).map(([name, value]) => [name, withoutUnknown(value)]),
    );
  }
  if (schema["items"]) copy["items"] = withoutUnknown(schema["items"]);
  if (typeof schema["additionalProperties"] === "object")
    copy["additionalProperties"] = withoutUnknown(schema["additionalProperties"]);
  return copy;
}

/** The same in gnostic's protobuf. */
export function encodeSwagger(document: Stored): Buffer {
  const writer = protobuf.Writer.create();
  text(writer, 1, document.swagger);
  nested(writer, 2, (info) => {
    text(info, 1, document.info.title);
    text(info, 2, document.info.version);
  });
  nested(writer, 8, () => {});
  nested(writer, 9, (definitions) => namedSchemas(definitions, 1, document.definitions));
  return Buffer.from(writer.finish());
}

type Writer = protobuf.Writer;

function nested(writer: Writer, number: number, fill: (writer: Writer) => void): void {
  fill(writer.uint32((number << 3) | field.text).fork());
  writer.ldelim();
}

function text(writer: Writer, number: number, value: unknown): void {
  if (typeof value === "string" && value !== "") writer.uint32((number << 3) | field.text).string(value);
}

function namedSchemas(writer: Writer, number: number, schemas: Schemas): void {
  for (const [name, schema] of Object.entries(schemas)) {
    nested(writer, number, (entry) => {
      text(entry, 1, name);
      nested(entry, 2, (value) => writeSchema(value, schema));
    });
  }
}

/** Field numbers of openapi_v2.Schema. */
function writeSchema(writer: Writer, schema: Schema): void {
  text(writer, 1, schema["$ref"]);
  text(writer, 2, schema["format"]);
  text(writer, 4, schema["description"]);
  for (const name of schema["required"] ?? []) text(writer, 19, name);
  const additional = schema["additionalProperties"];
  if (typeof additional === "object")
    nested(writer, 21, (item) => nested(item, 1, (value) => writeSchema(value, additional)));
  else if (additional === true) nested(writer, 21, (item) => item.uint32((2 << 3) | field.varint).bool(true));
  if (schema["type"]) nested(writer, 22, (item) => text(item, 1, schema["type"]));
  if (schema["items"]) nested(writer, 23, (item) => nested(item, 1, (value) => writeSchema(value, schema["items"])));
  if (schema["properties"]) nested(writer, 25, (properties) => namedSchemas(properties, 1, schema["properties"]));
  for (const [name, value] of Object.entries(schema)) {
    if (!name.startsWith("x-kubernetes-") || name === "x-kubernetes-validations") continue;
    nested(writer, 31, (extension) => {
      text(extension, 1, name);
      // YAML, of which JSON is a part.
      nested(extension, 2, (any) => text(any, 2, JSON.stringify(value)));
    });
  }
}
