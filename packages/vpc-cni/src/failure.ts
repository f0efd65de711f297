/** The last words of a program: what a person reads in `kubectl logs` of a pod that does not start. */
import { UnderlayError } from "@underlay/log/underlay-error";

/** A failure we foresaw is said in one line with its hint; any other with its stack. */
export function describeFailure(error: unknown): string {
  if (!(error instanceof UnderlayError)) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  const cause = error.cause instanceof Error ? `\n  caused by: ${error.cause.message}` : "";
  return `${error.message}${error.hint === undefined ? "" : `\n  ${error.hint}`}${cause}`;
}
