/** Typed errors of the Kubernetes edge: an answer that says no, or no answer at all. */
import { UnderlayError } from "@underlay/log/underlay-error";
import type { Status } from "./objects.ts";

/** The server answered with a failure. `reason` is the Status reason, e.g. "NotFound". */
export class KubeApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly status: Status;
  /** What the server asked to wait, from Retry-After or Status.details. */
  readonly retryAfterMs: number | undefined;

  constructor(code: number, status: Status, what: string, retryAfterMs?: number) {
    super(status.message ?? `Cannot ${what}: the server answered ${code}`);
    this.name = "KubeApiError";
    this.code = code;
    this.reason = status.reason ?? "";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** No answer: refused, reset, timed out, untrusted certificate. `code` is the system's. */
export class KubeConnectionError extends UnderlayError {
  constructor(what: string, server: string, cause: unknown) {
    const code = systemCode(cause);
    const why = cause instanceof Error ? cause.message : String(cause);
    super(code, `Cannot ${what} at ${server}: ${why}`, {
      cause,
      hint:
        code === "ECONNREFUSED"
          ? "Is the API server running, and is this its address?"
          : "Check the network path to the API server.",
      facts: { server },
    });
    this.name = "KubeConnectionError";
  }
}

function systemCode(cause: unknown): string {
  const code = (cause as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "ECONNFAILED";
}

export function isApiError(err: unknown): err is KubeApiError {
  return err instanceof KubeApiError;
}
export function isConnectionError(err: unknown): err is KubeConnectionError {
  return err instanceof KubeConnectionError;
}
export function isNotFound(err: unknown): boolean {
  return isApiError(err) && err.code === 404;
}
export function isAlreadyExists(err: unknown): boolean {
  return isApiError(err) && err.reason === "AlreadyExists";
}
/** A lost compare-and-swap, a failed precondition, or an apply conflict (not AlreadyExists). */
export function isConflict(err: unknown): boolean {
  return isApiError(err) && err.code === 409 && err.reason !== "AlreadyExists";
}
export function isGone(err: unknown): boolean {
  return isApiError(err) && (err.code === 410 || err.reason === "Expired" || err.reason === "Gone");
}
export function isForbidden(err: unknown): boolean {
  return isApiError(err) && err.code === 403;
}
export function isUnauthorized(err: unknown): boolean {
  return isApiError(err) && err.code === 401;
}
export function isInvalid(err: unknown): boolean {
  return isApiError(err) && err.code === 422;
}
export function isTooManyRequests(err: unknown): boolean {
  return isApiError(err) && err.code === 429;
}
/** A create that was refused because its namespace is being deleted. */
export function isNamespaceTerminating(err: unknown): boolean {
  return isApiError(err) && (err.status.details?.causes ?? []).some((cause) => cause.reason === "NamespaceTerminating");
}
