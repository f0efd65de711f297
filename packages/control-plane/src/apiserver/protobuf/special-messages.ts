/** Messages whose JSON is not an object of their fields: times, quantities, raw JSON and the either-or types of JSON schema. */
import type { Json, JsonObject } from "./decode.ts";

const meta = "apimachinery.pkg.apis.meta.v1";
const apiextensions = "apiextensions_apiserver.pkg.apis.apiextensions.v1";

/** How a decoded message becomes JSON; `null` means the field is absent. */
export const specialMessages: Readonly<Record<string, (fields: JsonObject) => Json>> = {
  [`${meta}.Time`]: (fields) => time(fields, 0),
  [`${meta}.MicroTime`]: (fields) => time(fields, 6),
  [`${meta}.Timestamp`]: (fields) => time(fields, 0),
  [`${meta}.Duration`]: (fields) => goDuration(Number(fields["duration"] ?? 0)),
  [`${meta}.FieldsV1`]: (fields) => embedded(fields["Raw"]),
  [`${meta}.Verbs`]: (fields) => fields["items"] ?? [],
  "apimachinery.pkg.api.resource.Quantity": (fields) => fields["string"] ?? "0",
  "apimachinery.pkg.api.resource.QuantityValue": (fields) => fields["string"] ?? "0",
  "apimachinery.pkg.util.intstr.IntOrString": (fields) =>
    fields["type"] === 1 ? (fields["strVal"] ?? "") : (fields["intVal"] ?? 0),
  "apimachinery.pkg.runtime.RawExtension": (fields) => embedded(fields["raw"]),
  [`${apiextensions}.JSON`]: (fields) => embedded(fields["raw"]),
  [`${apiextensions}.JSONSchemaPropsOrArray`]: (fields) => fields["schema"] ?? fields["jSONSchemas"] ?? null,
  [`${apiextensions}.JSONSchemaPropsOrBool`]: (fields) => fields["schema"] ?? fields["allows"] ?? false,
  [`${apiextensions}.JSONSchemaPropsOrStringArray`]: (fields) => fields["schema"] ?? fields["property"] ?? null,
  "api.authentication.v1.ExtraValue": (fields) => fields["items"] ?? [],
  "api.authorization.v1.ExtraValue": (fields) => fields["items"] ?? [],
  "api.certificates.v1.ExtraValue": (fields) => fields["items"] ?? [],
};

/** An empty message is Go's zero time, which JSON writes as null: absent. */
function time(fields: JsonObject, digits: 0 | 6): Json {
  if (fields["seconds"] === undefined && fields["nanos"] === undefined) return null;
  const seconds = new Date(Number(fields["seconds"] ?? 0) * 1000).toISOString().slice(0, 19);
  if (digits === 0) return `${seconds}Z`;
  return `${seconds}.${String(Math.floor(Number(fields["nanos"] ?? 0) / 1000)).padStart(6, "0")}Z`;
}

/** `time.Duration`'s text: `1h2m3.5s`. */
function goDuration(nanoseconds: number): string {
  if (nanoseconds === 0) return "0s";
  const sign = nanoseconds < 0 ? "-" : "";
  const total = Math.abs(nanoseconds);
  if (total < 1e3) return `${sign}${total}ns`;
  if (total < 1e6) return `${sign}${total / 1e3}µs`;
  if (total < 1e9) return `${sign}${total / 1e6}ms`;
  const hours = Math.floor(total / 3.6e12);
  const minutes = Math.floor((total % 3.6e12) / 6e10);
  const seconds = (total % 6e10) / 1e9;
  return `${sign}${hours ? `${hours}h` : ""}${hours || minutes ? `${minutes}m` : ""}${seconds}s`;
}

/** Raw bytes that hold JSON text. */
function embedded(base64: Json | undefined): Json {
  if (typeof base64 !== "string" || base64 === "") return null;
  return JSON.parse(Buffer.from(base64, "base64").toString("utf8")) as Json;
}
