/**
 * Who sends a request: checks a Signature Version 4, in the Authorization header or presigned in the query string,
 * against the keys the cloud knows. Failures are named without a service's dialect; `dialect` turns them into codes.
 */
import { timingSafeEqual } from "node:crypto";
import { algorithm, canonicalRequest, sha256Hex, sign, type Scope } from "@underlay/aws/sigv4";

export type ReceivedRequest = {
  readonly method: string;
  /** As on the wire, without query. */
  readonly path: string;
  readonly query: readonly (readonly [string, string])[];
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
};

export type PresentedSignature = {
  readonly accessKeyId: string;
  readonly scope: Scope;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  readonly timestamp: string;
  readonly sessionToken: string | undefined;
  /** Present in presigned requests only. */
  readonly expiresSeconds?: number;
};

/** A key the cloud issued, and whom it stands for. */
export type KnownKey = {
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: string;
  readonly principal: Principal;
};

export type Principal = { readonly account: string; readonly arn: string; readonly userId: string };

export type AuthenticationFailure =
  | { readonly why: "missing" }
  | { readonly why: "malformed"; readonly detail: string }
  | { readonly why: "unknown-key"; readonly accessKeyId: string }
  | { readonly why: "expired"; readonly detail: string }
  | { readonly why: "bad-token" }
  | { readonly why: "wrong-region"; readonly detail: string }
  | { readonly why: "mismatch"; readonly canonical: string };

export type Authentication =
  | { readonly ok: true; readonly principal: Principal }
  | { readonly ok: false; readonly failure: AuthenticationFailure };

const clockSkewMs = 5 * 60_000;
const weekSeconds = 7 * 24 * 3600;

/** The signature a request carries; undefined when it has none, a failure when it cannot be read. */
export function readSignature(request: ReceivedRequest): PresentedSignature | AuthenticationFailure {
  const header = request.headers["authorization"];
  const query = new Map(request.query);
  if (header === undefined && !query.has("X-Amz-Signature")) return { why: "missing" };
  const parts = new Map<string, string>();
  if (header !== undefined) {
    if (!header.startsWith(`${algorithm} `))
      return { why: "malformed", detail: `Authorization header must start with '${algorithm}'` };
    for (const part of header.slice(algorithm.length + 1).split(",")) {
      const at = part.indexOf("=");
      parts.set(part.slice(0, at).trim(), part.slice(at + 1).trim());
    }
  } else {
    for (const name of ["Credential", "SignedHeaders", "Signature"]) parts.set(name, query.get(`X-Amz-${name}`) ?? "");
  }
  const credential = (parts.get("Credential") ?? "").split("/");
  const [terminator, service, region, date] = credential.slice(-4).reverse();
  const accessKeyId = credential.slice(0, -4).join("/");
  const timestamp =
    header === undefined
      ? query.get("X-Amz-Date")
      : (request.headers["x-amz-date"] ?? isoBasic(request.headers["date"]));
  const signature = parts.get("Signature") ?? "";
  const signedHeaders = (parts.get("SignedHeaders") ?? "").split(";").filter((name) => name !== "");
  if (
    accessKeyId === "" ||
    terminator !== "aws4_request" ||
    service === undefined ||
    region === undefined ||
    date === undefined
  )
    return { why: "malformed", detail: "Credential must have at least 5 slash-delimited elements" };
  if (timestamp === undefined || !/^\d{8}T\d{6}Z$/.test(timestamp))
    return { why: "malformed", detail: "X-Amz-Date must be in ISO-8601 'basic format'" };
  if (signature === "" || signedHeaders.length === 0)
    return { why: "malformed", detail: "Authorization requires 'Signature' and 'SignedHeaders'" };
  const presented = {
    accessKeyId,
    scope: { date, region, service },
    signedHeaders,
    signature,
    timestamp,
    sessionToken: header === undefined ? query.get("X-Amz-Security-Token") : request.headers["x-amz-security-token"],
  };
  return header === undefined ? { ...presented, expiresSeconds: Number(query.get("X-Amz-Expires") ?? "0") } : presented;
}

/** Checks a presented signature. `findKey` knows users' keys and issued role credentials. */
export function authenticate(
  request: ReceivedRequest,
  presented: PresentedSignature,
  options: { findKey: (accessKeyId: string) => KnownKey | undefined; regions: readonly string[]; now: Date },
): Authentication {
  const fail = (failure: AuthenticationFailure): Authentication => ({ ok: false, failure });
  const key = options.findKey(presented.accessKeyId);
  if (key === undefined) return fail({ why: "unknown-key", accessKeyId: presented.accessKeyId });
  if (key.sessionToken !== undefined && key.sessionToken !== presented.sessionToken) return fail({ why: "bad-token" });
  if (key.expiration !== undefined && Date.parse(key.expiration) <= options.now.getTime())
    return fail({ why: "expired", detail: "The security token included in the request is expired" });
  if (!options.regions.includes(presented.scope.region))
    return fail({ why: "wrong-region", detail: "Credential should be scoped to a valid region." });

  const signedAt = Date.parse(
    presented.timestamp.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"),
  );
  const age = options.now.getTime() - signedAt;
  // A token made by `aws eks get-token` says 60 seconds but counts for 15 minutes: the authenticator decides, not STS.
  const lifetimeMs =
    presented.expiresSeconds === undefined ? clockSkewMs : Math.max(presented.expiresSeconds, 15 * 60) * 1000;
  if (
    presented.expiresSeconds !== undefined &&
    !(presented.expiresSeconds > 0 && presented.expiresSeconds <= weekSeconds)
  )
    return fail({ why: "malformed", detail: "X-Amz-Expires must be between 1 and 604800 seconds" });
  if (age > lifetimeMs || age < -clockSkewMs || !presented.timestamp.startsWith(presented.scope.date))
    return fail({ why: "expired", detail: `Signature expired: ${presented.timestamp}` });

  const query =
    presented.expiresSeconds === undefined
      ? request.query
      : request.query.filter(([name]) => name !== "X-Amz-Signature");
  const payloadHash = presented.expiresSeconds === undefined ? sha256Hex(request.body) : sha256Hex("");
  const canonical = canonicalRequest({ ...request, query }, presented.signedHeaders, payloadHash);
  const expected = Buffer.from(sign(canonical, presented.timestamp, presented.scope, key.secretAccessKey));
  const given = Buffer.from(presented.signature);
  const matches =
    expected.length === given.length && timingSafeEqual(expected, given) && presented.signedHeaders.includes("host");
  return matches ? { ok: true, principal: key.principal } : fail({ why: "mismatch", canonical });
}

function isoBasic(date: string | undefined): string | undefined {
  if (date === undefined || Number.isNaN(Date.parse(date))) return undefined;
  return new Date(date).toISOString().replace(/[-:]|\.\d{3}/g, "");
}
