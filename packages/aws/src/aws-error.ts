/** What an AWS call fails with: the service's own code and message, or one of ours when no answer came. */
import { UnderlayError } from "@underlay/log/underlay-error";

export class AwsError extends UnderlayError {
  /** HTTP status; 0 when no answer came (`NetworkingError`, `TimeoutError`). */
  readonly status: number;
  readonly requestId: string | undefined;
  readonly service: string | undefined;
  readonly action: string | undefined;

  constructor(facts: {
    code: string;
    message: string;
    status: number;
    requestId?: string | undefined;
    service?: string;
    action?: string;
    hint?: string;
    cause?: unknown;
  }) {
    super(facts.code, facts.message, {
      ...(facts.hint === undefined ? {} : { hint: facts.hint }),
      ...(facts.cause === undefined ? {} : { cause: facts.cause }),
    });
    this.name = "AwsError";
    this.status = facts.status;
    this.requestId = facts.requestId;
    this.service = facts.service;
    this.action = facts.action;
  }
}

/** True for an AwsError with one of `codes` (`InvalidNetworkInterfaceID.*` matches by prefix); any AwsError without codes. */
export function isAwsError(error: unknown, ...codes: string[]): error is AwsError {
  if (!(error instanceof AwsError)) return false;
  if (codes.length === 0) return true;
  return codes.some((code) => (code.endsWith(".*") ? error.code.startsWith(code.slice(0, -1)) : error.code === code));
}

const throttles = new Set([
  "RequestLimitExceeded",
  "Throttling",
  "ThrottlingException",
  "ThrottledException",
  "TooManyRequestsException",
  "EC2ThrottledException",
  "SlowDown",
]);

/** Whether the same request may succeed when it is sent again (as the SDKs' standard retry mode decides). */
export function isRetryable(error: unknown): boolean {
  if (!(error instanceof AwsError)) return false;
  return error.status === 0 || error.status >= 500 || error.status === 429 || throttles.has(error.code);
}
