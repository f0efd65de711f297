/** Members inside a structure that an operation does not honour are refused by name, as top-level ones are. */
import { ApiError } from "./api-error.ts";

/** Throws `code` for the first member of `value` that is given and not in `takes`. `false` and empty lists say nothing. */
export function refuseOthers(value: object | undefined, takes: readonly string[], path: string, code: string): void {
  for (const [name, given] of Object.entries(value ?? {})) {
    const empty =
      given === undefined || given === "" || given === false || (Array.isArray(given) && given.length === 0);
    if (!empty && !takes.includes(name)) throw new ApiError(code, `The parameter ${path}.${name} is not supported.`);
  }
}
