/** Pages of Describe answers: `MaxResults` and an opaque `NextToken` that stays right while items come and go. */
import { ApiError } from "../protocol/api-error.ts";

type PageInput = { MaxResults?: number | undefined; NextToken?: string | undefined };

/** One page of `items` (in a stable order) and the token of the next. `ids`: what the caller named one by one. */
export function pageOf<T extends { readonly id: string }>(
  items: readonly T[],
  input: PageInput,
  options: { ids?: readonly string[] | undefined; least?: number; most?: number } = {},
): { page: T[]; NextToken?: string } {
  const { ids = [], least = 5, most = 1000 } = options;
  const { MaxResults, NextToken } = input;
  if (MaxResults !== undefined && ids.length > 0)
    throw new ApiError(
      "InvalidParameterCombination",
      "The parameter MaxResults cannot be used with explicit resource IDs",
    );
  if (MaxResults !== undefined && (MaxResults < least || MaxResults > most))
    throw new ApiError(
      "InvalidParameterValue",
      `Value ( ${MaxResults} ) for parameter maxResults is invalid. Expecting a value between ${least} and ${most}.`,
    );
  const start = NextToken === undefined || NextToken === "" ? 0 : startAfter(items, NextToken);
  const page = items.slice(start, start + (MaxResults ?? items.length));
  const last = page.at(-1);
  if (last === undefined || start + page.length >= items.length) return { page };
  return { page, NextToken: Buffer.from(JSON.stringify([start + page.length, last.id])).toString("base64url") };
}

function startAfter(items: readonly { readonly id: string }[], token: string): number {
  let position: unknown;
  let id: unknown;
  try {
    [position, id] = JSON.parse(Buffer.from(token, "base64url").toString("utf8")) as unknown[];
  } catch {
    throw invalidToken();
  }
  if (typeof position !== "number" || typeof id !== "string") throw invalidToken();
  const found = items.findIndex((item) => item.id === id);
  return found < 0 ? position : found + 1;
}

function invalidToken(): ApiError {
  return new ApiError("InvalidParameterValue", "Invalid value for parameter nextToken");
}
