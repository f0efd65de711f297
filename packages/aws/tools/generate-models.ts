/**
 * Reduces botocore's service models (Apache-2.0) to the tables in src/generated: `<service>-table.ts` (shapes and
 * wire names, as src/model.ts describes them) and `<service>-types.ts` (types only). Run by hand:
 *   node packages/aws/tools/generate-models.ts <site-packages>/botocore/data [<botocore version>]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { ModelTable, MemberRow, OperationRow, ShapeRow } from "../src/model.ts";
import { actions } from "./actions.ts";

type SourceMember = {
  shape: string;
  locationName?: string;
  queryName?: string;
  location?: string;
  idempotencyToken?: boolean;
  flattened?: boolean;
};
type SourceShape = {
  type: string;
  members?: Record<string, SourceMember>;
  required?: string[];
  member?: SourceMember;
  key?: SourceMember;
  value?: SourceMember;
  enum?: string[];
  error?: { code?: string; httpStatusCode?: number };
  exception?: boolean;
  flattened?: boolean;
};
type SourceModel = {
  metadata: {
    protocol: string;
    apiVersion: string;
    xmlNamespace?: string;
    endpointPrefix: string;
    signingName?: string;
  };
  operations: Record<
    string,
    {
      http: { method: string; requestUri: string; responseCode?: number };
      input?: { shape: string };
      output?: { shape: string; resultWrapper?: string };
      errors?: { shape: string }[];
    }
  >;
  shapes: Record<string, SourceShape>;
};

/** An enum longer than this is not validated (InstanceType: the limits table knows better). */
const longestEnum = 60;

const [dataFolder, version = "1.43.11"] = process.argv.slice(2);
if (dataFolder === undefined) throw new Error("usage: generate-models.ts <botocore data folder> [version]");
const generated = join(import.meta.dirname, "../src/generated");

for (const [service, { folder, names }] of Object.entries(actions)) {
  const source = JSON.parse(readMaybeGzip(join(dataFolder, folder, "service-2.json"))) as SourceModel;
  const paginators = JSON.parse(readMaybeGzip(join(dataFolder, folder, "paginators-1.json"))).pagination;
  const origin = `botocore ${version} ${folder}/service-2.json (Apache-2.0)`;
  const table = reduceModel(source, paginators, names, origin);
  writeFileSync(join(generated, `${service}-table.ts`), render(table, service));
  writeFileSync(join(generated, `${service}-types.ts`), renderTypes(table, service));
}

function reduceModel(
  source: SourceModel,
  paginators: Record<string, { input_token: unknown; output_token: unknown; limit_key?: string; result_key: unknown }>,
  names: readonly string[],
  origin: string,
): ModelTable {
  const shapes: Record<string, ShapeRow> = {};
  const operations: Record<string, OperationRow> = {};
  const { metadata } = source;

  for (const name of [...names].sort()) {
    const from = source.operations[name];
    if (from === undefined) throw new Error(`${origin} has no action ${name}`);
    const operation: OperationRow = { method: from.http.method, uri: from.http.requestUri };
    if (from.http.responseCode !== undefined && from.http.responseCode !== 200)
      operation.status = from.http.responseCode;
    if (from.input !== undefined) operation.input = take(from.input.shape);
    if (from.output !== undefined) operation.output = take(from.output.shape);
    if (from.output?.resultWrapper !== undefined) operation.wrapper = from.output.resultWrapper;
    for (const error of from.errors ?? []) take(error.shape);
    const paging = paginators[name];
    if (paging !== undefined && typeof paging.input_token === "string" && typeof paging.output_token === "string") {
      operation.pages = { token: paging.input_token, next: paging.output_token };
      if (paging.limit_key !== undefined) operation.pages.limit = paging.limit_key;
    }
    operations[name] = operation;
  }
  const table: ModelTable = {
    source: origin,
    protocol: metadata.protocol as ModelTable["protocol"],
    version: metadata.apiVersion,
    signingName: metadata.signingName ?? metadata.endpointPrefix,
    operations,
    shapes: Object.fromEntries(Object.entries(shapes).sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  if (metadata.xmlNamespace !== undefined) table.namespace = metadata.xmlNamespace.replace(/\/?$/, "/");
  return table;

  /** Copies a shape and what it reaches; returns the name to use for it (scalars share a few names). */
  function take(name: string): string {
    const from = source.shapes[name];
    if (from === undefined) throw new Error(`no shape ${name}`);
    const isEnum = from.enum !== undefined && from.enum.length <= longestEnum;
    if (!["structure", "list", "map"].includes(from.type) && !isEnum) return from.type;
    if (shapes[name] !== undefined) return name;
    const row: ShapeRow = { type: from.type as ShapeRow["type"] };
    shapes[name] = row;
    if (isEnum && from.enum !== undefined) row.enum = from.enum;
    if (from.required !== undefined && from.required.length > 0) row.required = from.required;
    if (from.exception === true)
      row.error = { status: from.error?.httpStatusCode ?? 400, code: from.error?.code ?? name };
    if (from.members !== undefined) {
      row.members = {};
      for (const [member, to] of Object.entries(from.members)) row.members[member] = memberRow(member, to);
    }
    if (from.member !== undefined) {
      row.of = take(from.member.shape);
      row.item = from.member.locationName ?? "member";
      if (from.flattened === true) row.flat = true;
    }
    if (from.value !== undefined) row.of = take(from.value.shape);
    return name;
  }

  function memberRow(name: string, from: SourceMember): MemberRow {
    const shape = take(from.shape);
    const inName =
      metadata.protocol === "ec2"
        ? (from.queryName ?? upperFirst(from.locationName ?? name))
        : (from.locationName ?? name);
    const outName = from.locationName ?? name;
    const flags = [
      from.location === "uri" ? "u" : from.location === "querystring" ? "q" : from.location === "header" ? "h" : "",
      from.idempotencyToken === true ? "t" : "",
    ].join("");
    if (flags !== "") return [shape, inName, outName, flags];
    if (inName !== name || outName !== name) return [shape, inName, outName];
    return [shape];
  }
}

/** A module whose table is JSON text: engines read that faster than an object literal, and bundlers carry it along. */
function render(table: ModelTable, service: string): string {
  const { operations, shapes, ...head } = table;
  const lines = (rows: Record<string, unknown>) =>
    Object.entries(rows)
      .map(([name, row]) => `${JSON.stringify(name)}:${JSON.stringify(row)}`)
      .join(",\n");
  const json = `${JSON.stringify(head).slice(0, -1)},\n"operations":{\n${lines(operations)}},\n"shapes":{\n${lines(shapes)}}}`;
  if (/[`\\]|\$\{/.test(json)) throw new Error(`the table of ${service} cannot stand in a template literal`);
  return [
    `// Generated by packages/aws/tools/generate-models.ts from ${table.source}. Do not edit.`,
    'import type { ModelTable } from "../model.ts";\n',
    `export const ${service}Table = JSON.parse(\`${json}\`) as ModelTable;\n`,
  ].join("\n");
}

function renderTypes(table: ModelTable, service: string): string {
  const prefix = upperFirst(service);
  const typeOf = (shape: string): string => {
    const row = table.shapes[shape];
    if (row === undefined || row.enum !== undefined) return scalarType(row === undefined ? shape : row.type);
    if (row.type === "list") return `readonly ${parenthesised(typeOf(row.of ?? "string"))}[]`;
    if (row.type === "map") return `Readonly<Record<string, ${typeOf(row.of ?? "string")}>>`;
    return shape;
  };
  const parts = [
    `// Generated by packages/aws/tools/generate-models.ts from ${table.source}. Do not edit.\n`,
    `export type ${prefix}Actions = {`,
    ...Object.entries(table.operations).map(
      ([name, { input, output }]) =>
        `  ${name}: { input: ${input ?? "Record<string, never>"}; output: ${output ?? "Record<string, never>"} };`,
    ),
    "};\n",
  ];
  for (const [name, row] of Object.entries(table.shapes)) {
    if (row.type !== "structure" || row.error !== undefined) continue;
    const members = Object.entries(row.members ?? {});
    if (members.length === 0) parts.push(`export type ${name} = Record<string, never>;\n`);
    else
      parts.push(
        `export type ${name} = {`,
        ...members.map(([member, [shape]]) => `  ${member}?: ${typeOf(shape)} | undefined;`),
        "};\n",
      );
  }
  return parts.join("\n");
}

function parenthesised(type: string): string {
  return type.includes(" ") ? `(${type})` : type;
}

function scalarType(type: string): string {
  switch (type) {
    case "string":
    case "character":
      return "string";
    case "integer":
    case "long":
    case "float":
    case "double":
      return "number";
    case "boolean":
      return "boolean";
    case "timestamp":
      return "Date";
    case "blob":
      return "Uint8Array";
    default:
      throw new Error(`no type for ${type}`);
  }
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function readMaybeGzip(path: string): string {
  try {
    return gunzipSync(readFileSync(`${path}.gz`)).toString("utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return readFileSync(path, "utf8");
  }
}
