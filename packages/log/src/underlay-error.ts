/** An error a user can reach: a stable code, what happened, and what to do about it. */
export class UnderlayError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    options: { hint?: string; cause?: unknown; facts?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "UnderlayError";
    this.code = code;
    this.hint = options.hint;
    this.facts = options.facts ?? {};
  }
}
