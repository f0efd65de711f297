/**
 * Errors of the Kubernetes API: an `ApiError` carries the whole `Status` object that goes on the wire.
 * Validation collects `FieldError`s and turns them into one 422 with upstream's wording.
 */
import type { ResourceInfo } from "./resource-info.ts";

export type StatusCause = { reason?: string; message?: string; field?: string };
export type StatusDetails = {
  name?: string;
  group?: string;
  kind?: string;
  uid?: string;
  causes?: StatusCause[];
  retryAfterSeconds?: number;
};
export type Status = {
  kind: "Status";
  apiVersion: "v1";
  metadata: Record<string, unknown>;
  status: "Success" | "Failure";
  message?: string;
  reason?: string;
  details?: StatusDetails;
  code: number;
};

/** An answer that is not a success; `status` is its body. */
export class ApiError extends Error {
  readonly status: Status;
  constructor(code: number, reason: string, message: string, details?: StatusDetails) {
    super(message);
    this.name = "ApiError";
    this.status = {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message,
      reason,
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

type Named = Pick<ResourceInfo, "group" | "plural">;
const qualified = (info: Named): string => (info.group === "" ? info.plural : `${info.plural}.${info.group}`);
const details = (info: Named, name: string): StatusDetails => ({
  ...(name === "" ? {} : { name }),
  ...(info.group === "" ? {} : { group: info.group }),
  kind: info.plural,
});

export const notFound = (info: Named, name: string): ApiError =>
  new ApiError(404, "NotFound", `${qualified(info)} "${name}" not found`, details(info, name));
export const alreadyExists = (info: Named, name: string): ApiError =>
  new ApiError(409, "AlreadyExists", `${qualified(info)} "${name}" already exists`, details(info, name));
export const conflict = (info: Named, name: string, why?: string): ApiError =>
  new ApiError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(info)} "${name}": ` +
      (why ?? "the object has been modified; please apply your changes to the latest version and try again"),
    details(info, name),
  );
export const badRequest = (message: string): ApiError => new ApiError(400, "BadRequest", message);
export const unauthorized = (): ApiError => new ApiError(401, "Unauthorized", "Unauthorized");
export const forbidden = (info: Named, name: string, why: string, causes?: StatusCause[]): ApiError =>
  new ApiError(403, "Forbidden", `${qualified(info)}${name === "" ? "" : ` "${name}"`} is forbidden: ${why}`, {
    ...details(info, name),
    ...(causes === undefined ? {} : { causes }),
  });
export const methodNotAllowed = (): ApiError =>
  new ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {});
export const unsupportedMediaType = (message: string): ApiError => new ApiError(415, "UnsupportedMediaType", message);
export const expired = (message: string): ApiError => new ApiError(410, "Expired", message);
export const internalError = (message: string): ApiError =>
  new ApiError(500, "InternalError", `Internal error occurred: ${message}`, { causes: [{ message }] });
export const resourceNotServed = (): ApiError =>
  new ApiError(404, "NotFound", "the server could not find the requested resource", {});
export const tooManyRequests = (message: string, retryAfterSeconds: number, causes?: StatusCause[]): ApiError =>
  new ApiError(429, "TooManyRequests", message, { retryAfterSeconds, ...(causes === undefined ? {} : { causes }) });

export type FieldErrorType =
  | "Required"
  | "Invalid"
  | "NotSupported"
  | "Duplicate"
  | "Forbidden"
  | "TooLong"
  | "TooMany"
  | "NotFound"
  | "TypeInvalid";
/** One thing wrong at one field path; `detail` is upstream's text after the type's own words. */
export type FieldError = { type: FieldErrorType; field: string; value?: unknown; detail?: string };

const words: Record<FieldErrorType, [reason: string, text: string, showsValue: boolean]> = {
  Required: ["FieldValueRequired", "Required value", false],
  Invalid: ["FieldValueInvalid", "Invalid value", true],
  TypeInvalid: ["FieldValueTypeInvalid", "Invalid value", true],
  NotSupported: ["FieldValueNotSupported", "Unsupported value", true],
  Duplicate: ["FieldValueDuplicate", "Duplicate value", true],
  Forbidden: ["FieldValueForbidden", "Forbidden", false],
  TooLong: ["FieldValueTooLong", "Too long", false],
  TooMany: ["FieldValueTooMany", "Too many", true],
  NotFound: ["FieldValueNotFound", "Not found", true],
};

/** `Unsupported value: "zz": supported values: "a", "b"`, without the path. */
export function fieldErrorText(error: FieldError): string {
  const [, text, showsValue] = words[error.type];
  const value = showsValue ? `: ${showValue(error.value)}` : "";
  return `${text}${value}${error.detail === undefined || error.detail === "" ? "" : `: ${error.detail}`}`;
}

function showValue(value: unknown): string {
  if (value === undefined || value === null) return "null";
  return JSON.stringify(value);
}

/** `"a", "b"`: the detail of a NotSupported error. */
export const supportedValues = (values: readonly string[]): string =>
  `supported values: ${values.map((v) => JSON.stringify(v)).join(", ")}`;

/** The 422 for a list of field errors (call it only when there are some). */
export function invalid(info: { group: string; kind: string }, name: string, errors: readonly FieldError[]): ApiError {
  const texts = errors.map((e) => `${e.field}: ${fieldErrorText(e)}`);
  const unique = [...new Set(texts)];
  const kind = info.group === "" ? info.kind : `${info.kind}.${info.group}`;
  return new ApiError(
    422,
    "Invalid",
    `${kind} "${name}" is invalid: ${unique.length === 1 ? unique[0] : `[${unique.join(", ")}]`}`,
    {
      ...(name === "" ? {} : { name }),
      ...(info.group === "" ? {} : { group: info.group }),
      kind: info.kind,
      causes: errors.map((e) => ({ reason: words[e.type][0], message: fieldErrorText(e), field: e.field })),
    },
  );
}
