/**
 * Makes `src/generated/kubernetes-protobuf.json` and `src/generated/kubernetes-schemas.json` from the upstream facts in a data
 * folder (argument): Kubernetes 1.36 OpenAPI v2 document, type defaults, protobuf field numbers and pointer scalars (Apache-2.0).
 *
 *   node packages/control-plane/tools/generate-kubernetes-tables.ts <data folder>
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Stored } from "../src/apiserver/stored.ts";

const folder = process.argv[2];
if (!folder) throw new Error("usage: generate-kubernetes-tables.ts <data folder>");
const out = join(import.meta.dirname, "../src/generated");
const source = "Kubernetes 1.36: OpenAPI v2 document, Go type defaults, protobuf definitions (Apache-2.0)";
const read = (name: string) => JSON.parse(readFileSync(join(folder, name), "utf8"));

type Schema = Record<string, Stored>;
const openapi: Record<string, Schema> = read("kubernetes-openapi-v2.json").definitions;
const defaults: Record<string, Schema> = read("kubernetes-type-defaults.json");
const messages: Record<string, Record<string, [number, string]>> = read("kubernetes-protobuf-fields.json");
const pointers: Record<string, string[]> = read("kubernetes-pointer-scalars.json");

/** Package prefixes (OpenAPI names) of the group-versions the API server serves. */
const served = [
  "core.v1",
  "apps.v1",
  "batch.v1",
  "autoscaling.v1",
  "autoscaling.v2",
  "policy.v1",
  "networking.v1",
  "discovery.v1",
  "coordination.v1",
  "events.v1",
  "rbac.v1",
  "authentication.v1",
  "authorization.v1",
  "admissionregistration.v1",
  "scheduling.v1",
  "storage.v1",
  "node.v1",
  "certificates.v1",
].map((name) => `io.k8s.api.${name}.`);
served.push(
  "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
  "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.",
);
const metaRoots = [
  "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
  "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
  "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
  "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
  "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
  "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

// --- schemas ---------------------------------------------------------------------------------------------------
const schemas: Record<string, Schema> = {};
function take(name: string): void {
  if (schemas[name]) return;
  const base = openapi[name] ?? {};
  const typed = defaults[name] ?? {};
  const schema: Schema = { ...base, ...typed };
  if (base.properties || typed.properties) {
    schema.properties = {};
    const names = new Set([...Object.keys(base.properties ?? {}), ...Object.keys(typed.properties ?? {})]);
    for (const property of [...names].sort()) {
      schema.properties[property] = { ...base.properties?.[property], ...typed.properties?.[property] };
    }
  }
  if (base["x-kubernetes-group-version-kind"]) {
    schema["x-kubernetes-group-version-kind"] = base["x-kubernetes-group-version-kind"];
  }
  schemas[name] = schema;
  for (const ref of JSON.stringify(schema).matchAll(/"#\/definitions\/([^"]+)"/g)) take(ref[1]!);
}
for (const name of new Set([...Object.keys(openapi), ...Object.keys(defaults)])) {
  if (served.some((prefix) => name.startsWith(prefix)) || metaRoots.includes(name)) take(name);
}
// Types shared by every group list every group as their kind's owner; keep only what is served.
for (const name of metaRoots) {
  const kinds = schemas[name]?.["x-kubernetes-group-version-kind"];
  if (kinds)
    schemas[name]!["x-kubernetes-group-version-kind"] = kinds.filter(
      (gvk: Stored) => gvk.group === "" && gvk.version === "v1",
    );
}
const text = JSON.stringify({ $source: source, schemas: sorted(schemas) }).replaceAll(
  "#/definitions/",
  "#/components/schemas/",
);
writeFileSync(join(out, "kubernetes-schemas.json"), text + "\n");

// --- protobuf --------------------------------------------------------------------------------------------------
/**
 * One string a message: `name number type flags` fields joined by ";". Type `.x` is relative to the table (see `short`).
 * Flag `k`: keep zero values (pointer in Go, or never omitted in JSON). Flag `i`: inlined struct.
 */
const table: Record<string, string> = {};
const short = (name: string) => name.replace(/^\.?k8s\.io\./, "");
const scalars = new Set([
  "string",
  "bool",
  "int32",
  "int64",
  "uint32",
  "uint64",
  "double",
  "float",
  "bytes",
  "sint32",
  "sint64",
]);
function resolveType(message: string, type: string): string {
  const list = type.endsWith("[]");
  const bare = list ? type.slice(0, -2) : type;
  if (bare.startsWith("map<")) {
    const [, key, value] = /^map<(\w+),\s*(.+)>$/.exec(bare)!;
    return `map<${key},${resolveType(message, value!)}>`;
  }
  if (scalars.has(bare)) return type;
  const full = bare.startsWith(".") ? bare.slice(1) : `${message.slice(0, message.lastIndexOf("."))}.${bare}`;
  if (!messages[full]) throw new Error(`${message}: no message ${full}`);
  return short(full) + (list ? "[]" : "");
}
const openapiNameOf = (message: string) =>
  message.startsWith("k8s.io.")
    ? `io.k8s.${message.slice("k8s.io.".length).replace("apiextensions_apiserver", "apiextensions-apiserver")}`
    : message;
function groupOf(message: string): string {
  const parts = message.split(".");
  return parts[parts.length - 3]!;
}
const groupsWanted = (message: string) =>
  served.some((prefix) => `${openapiNameOf(message)}`.startsWith(prefix)) ||
  /apimachinery\.pkg\.(apis\.meta\.v1\.|runtime|util|api\.)/.test(message) ||
  /apiextensions.*\.v1\./.test(message) ||
  /apiregistration\.v1\./.test(message);
/** Protobuf names differ from JSON's in case, and in JSON schema's `$ref` and `x-kubernetes-…`. */
function jsonNameOf(name: string, properties: Record<string, Schema>): string | undefined {
  if (name in properties) return name;
  const plain = (text: string) => text.replace(/[^a-zA-Z]/g, "").toLowerCase();
  return Object.keys(properties).find((candidate) => plain(candidate) === plain(name));
}
const queue = Object.keys(messages).filter(groupsWanted);
const seen = new Set<string>();
while (queue.length) {
  const message = queue.pop()!;
  if (seen.has(message)) continue;
  seen.add(message);
  const struct = message.slice(message.lastIndexOf(".") + 1);
  const keep = new Set(pointers[`${groupOf(message)}.${struct}`] ?? []);
  const properties = defaults[openapiNameOf(message)]?.properties ?? {};
  const fields: string[] = [];
  for (const [name, [number, type]] of Object.entries(messages[message]!)) {
    const resolved = resolveType(message, type);
    for (const ref of resolved.matchAll(/[\w.-]+/g)) {
      const full = Object.keys(messages).includes(`k8s.io.${ref[0]}`) ? `k8s.io.${ref[0]}` : undefined;
      if (full && !seen.has(full)) queue.push(full);
    }
    const jsonName = jsonNameOf(name, properties);
    const property = properties[jsonName ?? ""];
    const never = property && "default" in property && [0, "", false].includes(property.default);
    // A message field JSON does not know is an inlined Go struct: its fields stand beside the others.
    const inlined =
      jsonName === undefined && Object.keys(properties).length > 0 && !scalars.has(type.replace("[]", ""));
    const flags = `${keep.has(jsonName ?? name) || never ? "k" : ""}${inlined ? "i" : ""}`;
    fields.push(`${jsonName ?? name} ${number} ${resolved}${flags ? ` ${flags}` : ""}`);
  }
  table[short(message)] = fields.join(";");
}
writeFileSync(
  join(out, "kubernetes-protobuf.json"),
  JSON.stringify({ $source: source, messages: sorted(table) }) + "\n",
);

function sorted<T>(record: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
