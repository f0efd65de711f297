/** Writes answers: objects, lists, Status errors, warnings. */
import type { ServerResponse } from "node:http";
import type { Status } from "../api-error.ts";
import type { HttpAnswer } from "../seams.ts";
import type { Format } from "./media-types.ts";

/** Sends a JSON text that is ready. */
export function sendJson(response: ServerResponse, code: number, json: string, warnings: readonly string[] = []): void {
  if (response.headersSent || response.destroyed) return;
  const headers: Record<string, string | string[] | number> = {
    "content-type": "application/json",
    "cache-control": "no-cache, private",
    "content-length": Buffer.byteLength(json),
  };
  if (warnings.length > 0) headers["warning"] = warnings.map((text) => `299 - ${JSON.stringify(text)}`);
  response.writeHead(code, headers).end(json);
}

export async function sendObject(
  response: ServerResponse,
  code: number,
  object: unknown,
  format: Format,
  warnings: readonly string[] = [],
): Promise<void> {
  if (format.encoding === "json") return sendJson(response, code, JSON.stringify(object), warnings);
  const { stringify } = await import("yaml");
  response
    .writeHead(code, { "content-type": "application/yaml", "cache-control": "no-cache, private" })
    .end(stringify(object));
}

export function sendStatus(response: ServerResponse, status: Status): void {
  const retry = status.details?.retryAfterSeconds;
  if (retry !== undefined && !response.headersSent) response.setHeader("retry-after", String(retry));
  sendJson(response, status.code, JSON.stringify(status));
}

export function sendAnswer(response: ServerResponse, answer: HttpAnswer): void {
  response
    .writeHead(answer.status, { "content-length": Buffer.byteLength(answer.body), ...answer.headers })
    .end(answer.body);
}

export function sendText(response: ServerResponse, code: number, text: string): void {
  response
    .writeHead(code, {
      "content-type": "text/plain; charset=utf-8",
      "content-length": Buffer.byteLength(text),
      "x-content-type-options": "nosniff",
    })
    .end(text);
}
