/** Reads a request's body and parses it by its content type. */
import type { IncomingMessage } from "node:http";
import { ApiError, badRequest, unsupportedMediaType } from "../api-error.ts";
import type { ResourceInfo } from "../resource-info.ts";
import { duplicateKeys } from "../schema/duplicate-keys.ts";
import type { Seams } from "../seams.ts";

const limit = 3 * 1024 * 1024;

export type Body = { readonly value: unknown; readonly duplicates: readonly string[] };

export async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit)
      throw new ApiError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${limit}`, {});
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The media type without parameters, lower case; JSON when absent. */
export const mediaType = (request: IncomingMessage): string =>
  (request.headers["content-type"] ?? "application/json").split(";")[0]!.trim().toLowerCase();

/** Parses an object sent with POST, PUT or DELETE. `strict`: look for duplicate keys too. */
export async function parseBody(
  bytes: Buffer,
  type: string,
  info: ResourceInfo | undefined,
  seams: Pick<Seams, "decodeProtobuf">,
  strict: boolean,
): Promise<Body> {
  if (type === "application/vnd.kubernetes.protobuf")
    return { value: seams.decodeProtobuf(bytes, info), duplicates: [] };
  const text = bytes.toString("utf8");
  if (type === "application/json") return { value: parseJson(text), duplicates: strict ? duplicateKeys(text) : [] };
  if (type === "application/yaml") return { value: await parseYaml(text), duplicates: [] };
  throw unsupportedMediaType(
    `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf`,
  );
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw badRequest(`couldn't get version/kind; json parse error: ${(error as Error).message}`);
  }
}

export async function parseYaml(text: string): Promise<unknown> {
  const { parse } = await import("yaml");
  try {
    return parse(text, { version: "1.1" });
  } catch (error) {
    throw badRequest(`error converting YAML to JSON: ${(error as Error).message}`);
  }
}
