/**
 * AWS Signature Version 4, in the three steps of its specification: canonical request → string to sign → signature.
 * Clients sign with it and the embedded cloud verifies with it, so paths and query strings are taken as they are on
 * the wire. By hand rather than from @smithy/signature-v4: the verifier needs these steps, and every process saves 3 MB.
 */
import { createHash, createHmac } from "node:crypto";

export type SigningKeys = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
};
export type Scope = { readonly date: string; readonly region: string; readonly service: string };

export type WireRequest = {
  readonly method: string;
  /** Path as sent (already percent-encoded), without query. */
  readonly path: string;
  /** Decoded pairs in any order. */
  readonly query: readonly (readonly [string, string])[];
  readonly headers: Readonly<Record<string, string>>;
};

export const algorithm = "AWS4-HMAC-SHA256";
const emptyHash = sha256Hex("");

/** Headers to add (authorization, x-amz-date, …) so that `request` is signed. `host` must be among its headers. */
export function signHeaders(
  request: WireRequest,
  body: string | Uint8Array,
  options: { keys: SigningKeys; region: string; service: string; now: Date },
): Record<string, string> {
  const timestamp = amzDate(options.now);
  const added: Record<string, string> = { "x-amz-date": timestamp };
  if (options.keys.sessionToken !== undefined) added["x-amz-security-token"] = options.keys.sessionToken;
  const headers = lowerKeys({ ...request.headers, ...added });
  const names = Object.keys(headers).sort();
  const scope = { date: timestamp.slice(0, 8), region: options.region, service: options.service };
  const signature = sign(
    canonicalRequest({ ...request, headers }, names, sha256Hex(body)),
    timestamp,
    scope,
    options.keys.secretAccessKey,
  );
  added["authorization"] =
    `${algorithm} Credential=${options.keys.accessKeyId}/${scopeText(scope)}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
  return added;
}

/** The query pairs of `request` with those of a presigned URL added. All headers of `request` are signed. */
export function presign(
  request: WireRequest,
  options: { keys: SigningKeys; region: string; service: string; now: Date; expiresSeconds: number },
): [string, string][] {
  const timestamp = amzDate(options.now);
  const headers = lowerKeys(request.headers);
  const names = Object.keys(headers).sort();
  const scope = { date: timestamp.slice(0, 8), region: options.region, service: options.service };
  const query: [string, string][] = [
    ...request.query.map(([name, value]): [string, string] => [name, value]),
    ["X-Amz-Algorithm", algorithm],
    ["X-Amz-Credential", `${options.keys.accessKeyId}/${scopeText(scope)}`],
    ["X-Amz-Date", timestamp],
    ["X-Amz-Expires", String(options.expiresSeconds)],
  ];
  if (options.keys.sessionToken !== undefined) query.push(["X-Amz-Security-Token", options.keys.sessionToken]);
  query.push(["X-Amz-SignedHeaders", names.join(";")]);
  const canonical = canonicalRequest({ ...request, headers, query }, names, emptyHash);
  query.push(["X-Amz-Signature", sign(canonical, timestamp, scope, options.keys.secretAccessKey)]);
  return query;
}

/** The canonical request over `signedNames` (lower case); `headers` must have lower-case keys. */
export function canonicalRequest(request: WireRequest, signedNames: readonly string[], payloadHash: string): string {
  const path = request.path
    .split("/")
    .map((segment) => encodeRfc3986(segment))
    .join("/");
  const headers = [...signedNames]
    .sort()
    .map((name) => `${name}:${(request.headers[name] ?? "").trim().replace(/\s+/g, " ")}\n`);
  return [
    request.method,
    path === "" ? "/" : path,
    canonicalQuery(request.query),
    headers.join(""),
    [...signedNames].sort().join(";"),
    payloadHash,
  ].join("\n");
}

/** The signature of a canonical request. */
export function sign(canonical: string, timestamp: string, scope: Scope, secretAccessKey: string): string {
  const text = [algorithm, timestamp, scopeText(scope), sha256Hex(canonical)].join("\n");
  let key: Buffer | string = `AWS4${secretAccessKey}`;
  for (const part of [scope.date, scope.region, scope.service, "aws4_request"]) key = hmac(key, part);
  return hmac(key, text).toString("hex");
}

/** Query pairs as text, sorted and encoded as the signature wants them; also fine to send. */
export function canonicalQuery(pairs: readonly (readonly [string, string])[]): string {
  return pairs
    .map(([name, value]): [string, string] => [encodeRfc3986(name), encodeRfc3986(value)])
    .sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

/** Percent-encodes all but the unreserved characters of RFC 3986. */
export function encodeRfc3986(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

export function sha256Hex(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** `20260131T123456Z`. */
export function amzDate(now: Date): string {
  return now.toISOString().replace(/[-:]|\.\d{3}/g, "");
}

function scopeText(scope: Scope): string {
  return `${scope.date}/${scope.region}/${scope.service}/aws4_request`;
}

function hmac(key: string | Buffer, data: string): Buffer {
  return createHmac("sha256", key).update(data).digest();
}

function lowerKeys(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
