/** From parsed bytes to an object of the kind: unknown fields dropped and reported, nulls gone, canonical scalars. */
import { badRequest } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import { groupVersion, type ResourceInfo } from "../resource-info.ts";
import { conform, DecodeError } from "../schema/conform.ts";
import { builtinType, typeOf } from "../schema/type-node.ts";
import type { WriteOptions } from "./write-options.ts";

/** A conforming copy. `duplicates` are keys found twice in the body. Throws 400 (Strict, wrong types, wrong kind). */
export function decodeObject(
  raw: unknown,
  info: ResourceInfo,
  options: Pick<WriteOptions, "fieldValidation" | "warn">,
  duplicates: readonly string[] = [],
): ApiObject {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw badRequest(
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${Array.isArray(raw) ? "array" : typeof raw} into Go value of type struct`,
    );
  }
  const given = raw as Record<string, unknown>;
  checkKind(given, info);
  const unknown: string[] = [];
  const object = info.custom === undefined ? builtin(given, info, unknown) : custom(given, info, unknown);
  object.apiVersion = groupVersion(info);
  object.kind = info.kind;
  object.metadata ??= { name: "" };
  object.metadata.name ??= "";
  if (
    object["status"] !== undefined &&
    typeof object["status"] === "object" &&
    Object.keys(object["status"]).length === 0
  )
    delete object["status"];
  report(info, unknown, duplicates, options);
  return object;
}

function checkKind(given: Record<string, unknown>, info: ResourceInfo): void {
  const apiVersion = given["apiVersion"];
  const kind = given["kind"];
  if (apiVersion !== undefined && apiVersion !== "" && apiVersion !== groupVersion(info)) {
    throw badRequest(
      `the API version in the data (${String(apiVersion)}) does not match the expected API version (${groupVersion(info)})`,
    );
  }
  if (kind !== undefined && kind !== "" && kind !== info.kind) {
    throw badRequest(`the kind in the data (${String(kind)}) does not match the expected kind (${info.kind})`);
  }
}

function builtin(given: Record<string, unknown>, info: ResourceInfo, unknown: string[]): ApiObject {
  try {
    return conform(given, typeOf(info), unknown) as ApiObject;
  } catch (error) {
    if (error instanceof DecodeError)
      throw badRequest(
        `${info.kind} in version ${JSON.stringify(info.version)} cannot be handled as a ${info.kind}: ${error.message}`,
      );
    throw error;
  }
}

function custom(given: Record<string, unknown>, info: ResourceInfo, unknown: string[]): ApiObject {
  const object = structuredClone(given) as ApiObject;
  const meta: string[] = [];
  try {
    object.metadata = conform(
      object.metadata ?? {},
      builtinType("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
      meta,
    ) as ApiObject["metadata"];
  } catch (error) {
    if (error instanceof DecodeError)
      throw badRequest(
        `${info.kind} in version ${JSON.stringify(info.version)} cannot be handled as a ${info.kind}: ${error.message}`,
      );
    throw error;
  }
  unknown.push(...meta.map((path) => `metadata.${path}`), ...(info.custom?.prune(object) ?? []));
  return object;
}

function report(
  info: ResourceInfo,
  unknown: readonly string[],
  duplicates: readonly string[],
  options: Pick<WriteOptions, "fieldValidation" | "warn">,
): void {
  if (options.fieldValidation === "Ignore") return;
  const problems = [
    ...duplicates.map((path) => `duplicate field "${path}"`),
    ...unknown.map((path) => `unknown field "${path}"`),
  ];
  if (problems.length === 0) return;
  if (options.fieldValidation === "Warn") {
    for (const problem of problems) options.warn(problem);
    return;
  }
  const prefix =
    info.custom === undefined
      ? `${info.kind} in version ${JSON.stringify(info.version)} cannot be handled as a ${info.kind}: `
      : "";
  throw badRequest(`${prefix}strict decoding error: ${problems.join(", ")}`);
}
