/**
 * Reads request bodies of type `application/vnd.kubernetes.protobuf` into the JSON the rest of the server works on.
 *
 * Envelope: "k8s\0", then `runtime.Unknown {1 typeMeta, 2 raw}`. The wire cannot tell an unset Go scalar from a zero one, so
 * zeros are kept only where the table says that Go has a pointer (or JSON always writes the field).
 * Never here: encoding (every client accepts JSON answers). Read next: `message-table.ts`, `special-messages.ts`.
 */
import protobuf from "protobufjs/minimal.js";
import { messageFields, type ProtobufField } from "./message-table.ts";
import { specialMessages } from "./special-messages.ts";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export type Decoded =
  | { readonly ok: true; readonly object: JsonObject }
  /** `unsupported`: no table for this kind (415); `malformed`: not what it says it is (400). */
  | { readonly ok: false; readonly why: "unsupported" | "malformed"; readonly message: string };

const magic = [0x6b, 0x38, 0x73, 0x00];

/** Kinds that live in the meta package whatever apiVersion they arrive with (a resource's own, usually). */
const metaKinds = new Set([
  "DeleteOptions",
  "CreateOptions",
  "UpdateOptions",
  "PatchOptions",
  "GetOptions",
  "ListOptions",
  "ApplyOptions",
  "Status",
  "TableOptions",
  "PartialObjectMetadata",
  "PartialObjectMetadataList",
]);

/** Decodes one enveloped object. */
export function decodeProtobuf(body: Uint8Array): Decoded {
  if (body.length < 4 || magic.some((byte, i) => body[i] !== byte)) {
    return malformed("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
  }
  try {
    const unknown = readMessage(reader(body.subarray(4)), body.length - 4, "apimachinery.pkg.runtime.Unknown") as {
      apiVersion?: string;
      kind?: string;
      raw?: string;
    };
    const apiVersion = unknown.apiVersion ?? "";
    const kind = unknown.kind ?? "";
    if (kind === "") return malformed("Object 'Kind' is missing in the protobuf envelope");
    const message = messageOf(apiVersion, kind);
    if (!messageFields(message)) {
      return {
        ok: false,
        why: "unsupported",
        message: `no kind "${kind}" is registered for version "${apiVersion}" in protobuf`,
      };
    }
    const raw = Buffer.from(unknown.raw ?? "", "base64");
    const object = readMessage(reader(raw), raw.length, message) as JsonObject;
    return { ok: true, object: { apiVersion, kind, ...object } };
  } catch (error) {
    return malformed(`unable to decode protobuf: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function malformed(message: string): Decoded {
  return { ok: false, why: "malformed", message };
}

/** The table's message name of a kind. */
function messageOf(apiVersion: string, kind: string): string {
  if (metaKinds.has(kind)) return `apimachinery.pkg.apis.meta.v1.${kind}`;
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/", 2) : ["", apiVersion];
  if (group === "apiextensions.k8s.io") return `apiextensions_apiserver.pkg.apis.apiextensions.${version}.${kind}`;
  const label = group === "" ? "core" : group === "rbac.authorization.k8s.io" ? "rbac" : group!.split(".")[0];
  return `api.${label}.${version}.${kind}`;
}

function reader(bytes: Uint8Array): protobuf.Reader {
  return protobuf.Reader.create(
    Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
  );
}

function readMessage(input: protobuf.Reader, length: number, message: string): Json {
  const fields = messageFields(message);
  if (!fields) throw new Error(`no message ${message}`);
  const end = input.pos + length;
  if (end > input.len) throw new Error("message runs past the end of the body");
  const object: JsonObject = {};
  while (input.pos < end) {
    const tag = input.uint32();
    const field = fields.get(tag >>> 3);
    if (field) readField(input, object, field, tag & 7);
    else input.skipType(tag & 7);
  }
  if (input.pos !== end) throw new Error("field runs past the end of its message");
  const special = specialMessages[message];
  return special ? special(object) : object;
}

function readField(input: protobuf.Reader, object: JsonObject, field: ProtobufField, wireType: number): void {
  if (field.mapKey !== undefined) {
    const map = (object[field.name] ??= {}) as JsonObject;
    const [key, value] = readMapEntry(input, field);
    map[key] = value;
    return;
  }
  if (field.list) {
    const list = (object[field.name] ??= []) as Json[];
    if (wireType === 2 && isVarint(field.type)) {
      const end = input.uint32() + input.pos;
      while (input.pos < end) list.push(readScalar(input, field.type));
    } else list.push(readValue(input, field.type));
    return;
  }
  const value = readValue(input, field.type);
  if (field.inlined && value !== null && typeof value === "object") Object.assign(object, value);
  else if (value === null) delete object[field.name];
  else if (field.keepZero || !isZero(value)) object[field.name] = value;
}

function readMapEntry(input: protobuf.Reader, field: ProtobufField): [string, Json] {
  const end = input.uint32() + input.pos;
  let key = "";
  let value: Json = field.type === "string" || field.type === "bytes" ? "" : null;
  while (input.pos < end) {
    const tag = input.uint32();
    if (tag >>> 3 === 1) key = String(readScalar(input, field.mapKey!));
    else if (tag >>> 3 === 2) value = readValue(input, field.type);
    else input.skipType(tag & 7);
  }
  return [key, value];
}

function readValue(input: protobuf.Reader, type: string): Json {
  return type.includes(".") ? readMessage(input, input.uint32(), type) : readScalar(input, type);
}

function readScalar(input: protobuf.Reader, type: string): Json {
  switch (type) {
    case "string":
      return input.string();
    case "bytes":
      return Buffer.from(input.bytes()).toString("base64");
    case "bool":
      return input.bool();
    case "int32":
      return input.int32();
    case "uint32":
      return input.uint32();
    case "sint32":
      return input.sint32();
    case "int64":
      return longToNumber(input.int64());
    case "uint64":
      return longToNumber(input.uint64());
    case "double":
      return input.double();
    case "float":
      return input.float();
    default:
      throw new Error(`no scalar ${type}`);
  }
}

/** protobufjs gives plain numbers unless the `long` package is installed. */
function longToNumber(value: unknown): number {
  return typeof value === "number" ? value : Number(String(value));
}

function isVarint(type: string): boolean {
  return type === "bool" || type.includes("int");
}

function isZero(value: Json): boolean {
  return value === "" || value === 0 || value === false;
}
