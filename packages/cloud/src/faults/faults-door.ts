/**
 * The control API of faults, on the host door only (no instance and no pod can reach it), for who has the operator's secret key:
 *   GET /_underlay/faults            the list, with how often each has struck
 *   POST /_underlay/faults           sets one: {"kind": "error", "action": "CreateNetworkInterface", "code": "InternalError", …}
 *   DELETE /_underlay/faults[/<id>]  clears one, or all
 * with `Authorization: Bearer <secret access key>`.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { ApiError } from "../protocol/api-error.ts";
import type { Faults } from "./faults.ts";

export const faultsPath = "/_underlay/faults";

/** True when the request was for this API, and is answered. */
export function handleFaults(
  faults: Faults,
  secret: string,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const path = (request.url ?? "").replace(/\?.*/, "");
  if (path !== faultsPath && !path.startsWith(`${faultsPath}/`)) return false;
  answer(faults, secret, path, request).then(
    (body) => send(response, 200, body),
    (error: unknown) =>
      error instanceof ApiError
        ? send(response, error.status, { code: error.code, message: error.message })
        : send(response, 500, { code: "InternalError", message: String(error) }),
  );
  return true;
}

async function answer(faults: Faults, secret: string, path: string, request: IncomingMessage): Promise<object> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  if (!same(request.headers.authorization ?? "", `Bearer ${secret}`))
    throw new ApiError("AccessDenied", "Cannot touch faults: the operator's secret key is not given as a bearer token");
  switch (request.method) {
    case "GET":
      return { faults: faults.list() };
    case "POST":
      return { fault: faults.set(parseJson(Buffer.concat(chunks).toString("utf8"))) };
    case "DELETE": {
      const id = path.slice(faultsPath.length + 1);
      const cleared = faults.clear(id === "" ? undefined : id);
      if (id !== "" && cleared === 0)
        throw new ApiError("NoSuchFault", `Cannot clear ${id}: there is no such fault`, 404);
      return { cleared };
    }
    default:
      throw new ApiError("MethodNotAllowed", `${request.method ?? ""} is not a way to touch faults`, 405);
  }
}

function parseJson(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Answered below, like JSON that is no object.
  }
  throw new ApiError("InvalidFault", "Cannot set a fault: the body is not a JSON object");
}

function same(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function send(response: ServerResponse, status: number, body: object): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}
