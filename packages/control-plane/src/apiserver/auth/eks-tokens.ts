/**
 * Tokens of `aws eks get-token`: `k8s-aws-v1.` + base64url of a presigned STS GetCallerIdentity URL that signs this cluster's
 * name. STS itself says who signed it: we call the URL (only if it is exactly that) and map the ARN by the access entries.
 */
import { request as httpsRequest } from "node:https";
import type { Log } from "@underlay/log/log";
import type { UserInfo } from "../seams.ts";
import type { AccessEntries, CallerIdentity } from "./access-entries.ts";

type Options = {
  readonly clusterName: string;
  readonly region: string;
  readonly sts: { readonly host: string; readonly connect: { readonly address: string; readonly port: number } };
  readonly ca: string;
  readonly entries: AccessEntries;
  readonly log: Log;
  readonly now: () => number;
};

const clusterHeader = "x-k8s-aws-id";
/** A presigned URL may say less, but the authenticator honours a token for a quarter of an hour. */
const tokenLifeMs = 15 * 60_000;
const stsTimeoutMs = 5_000;
const allowedParameters = new Set([
  "action",
  "version",
  "x-amz-algorithm",
  "x-amz-credential",
  "x-amz-date",
  "x-amz-expires",
  "x-amz-security-token",
  "x-amz-signature",
  "x-amz-signedheaders",
  "x-amz-user-agent",
]);

export class EksTokens {
  readonly #options: Options;
  readonly #identities = new Map<
    string,
    { readonly until: number; readonly identity: Promise<CallerIdentity | undefined> }
  >();

  constructor(options: Options) {
    this.#options = options;
  }

  /** The user of a token, or undefined when it is not valid here. */
  async authenticate(token: string): Promise<UserInfo | undefined> {
    const now = this.#options.now();
    const cached = this.#identities.get(token);
    if (cached && cached.until > now) return this.#user(await cached.identity);
    const checked = checkToken(token, { ...this.#options, now });
    if (!checked.ok) {
      this.#options.log.warn("refused an EKS token", { why: checked.why });
      return undefined;
    }
    const identity = this.#callerIdentity(checked.pathAndQuery, checked.host);
    if (this.#identities.size > 1000) this.#identities.clear();
    this.#identities.set(token, { until: checked.expires, identity });
    const found = await identity;
    // A failed call is not an answer about the token: ask again next time.
    if (!found) this.#identities.delete(token);
    return this.#user(found);
  }

  #user(identity: CallerIdentity | undefined): UserInfo | undefined {
    if (!identity) return undefined;
    const user = this.#options.entries.userOf(identity);
    if (!user) this.#options.log.warn("no access entry for an IAM principal", { arn: identity.arn });
    return user;
  }

  #callerIdentity(path: string, host: string): Promise<CallerIdentity | undefined> {
    const { sts, ca, clusterName, log } = this.#options;
    return new Promise((resolve) => {
      const call = httpsRequest(
        {
          host: sts.connect.address,
          port: sts.connect.port,
          servername: host,
          ca,
          path,
          method: "GET",
          agent: false,
          headers: { host, [clusterHeader]: clusterName, accept: "application/json" },
          timeout: stsTimeoutMs,
        },
        (response) => {
          let body = "";
          response.setEncoding("utf8");
          response.on("data", (chunk: string) => (body += chunk));
          response.on("end", () => {
            const identity = response.statusCode === 200 ? parseIdentity(body) : undefined;
            if (!identity)
              log.warn("STS did not accept an EKS token", { status: response.statusCode, body: body.slice(0, 300) });
            resolve(identity);
          });
          response.on("error", () => resolve(undefined));
        },
      );
      call.on("timeout", () => call.destroy(new Error(`no answer from STS within ${stsTimeoutMs} ms`)));
      call.on("error", (err) => {
        log.warn("cannot ask STS about an EKS token", { err, ...sts.connect });
        resolve(undefined);
      });
      call.end();
    });
  }
}

type Checked =
  | { readonly ok: true; readonly host: string; readonly pathAndQuery: string; readonly expires: number }
  | { readonly ok: false; readonly why: string };

/** Pure: is this a URL we may call, and until when is it good. */
export function checkToken(
  token: string,
  expected: { clusterName: string; region: string; sts: { host: string }; now: number },
): Checked {
  const no = (why: string): Checked => ({ ok: false, why });
  let url: URL;
  try {
    url = new URL(Buffer.from(token.slice("k8s-aws-v1.".length), "base64url").toString("utf8"));
  } catch {
    return no("not a URL");
  }
  const hosts = [expected.sts.host, "sts.amazonaws.com", `sts.${expected.region}.amazonaws.com`];
  if (url.protocol !== "https:") return no(`unexpected scheme ${url.protocol}`);
  if (!hosts.includes(url.hostname)) return no(`unexpected host ${url.hostname}`);
  if (url.pathname !== "/" && url.pathname !== "") return no(`unexpected path ${url.pathname}`);
  const parameters = new Map<string, string>();
  for (const [name, value] of url.searchParams) {
    const key = name.toLowerCase();
    if (!allowedParameters.has(key)) return no(`unexpected query parameter ${name}`);
    if (parameters.has(key)) return no(`query parameter ${name} stands twice`);
    parameters.set(key, value);
  }
  if (parameters.get("action") !== "GetCallerIdentity") return no(`unexpected action ${parameters.get("action")}`);
  const signed = (parameters.get("x-amz-signedheaders") ?? "").toLowerCase().split(";");
  if (!signed.includes(clusterHeader)) return no(`header ${clusterHeader} is not signed`);
  if (!signed.includes("host")) return no("header host is not signed");
  const seconds = Number(parameters.get("x-amz-expires"));
  if (!(seconds >= 0 && seconds <= 900)) return no(`unexpected X-Amz-Expires ${parameters.get("x-amz-expires")}`);
  const date = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(parameters.get("x-amz-date") ?? "");
  if (!date) return no("X-Amz-Date is missing or malformed");
  const [, year, month, day, hour, minute, second] = date.map(Number);
  const expires = Date.UTC(year!, month! - 1, day, hour, minute, second) + tokenLifeMs;
  if (expires <= expected.now) return no("expired");
  return { ok: true, host: url.hostname, pathAndQuery: `/${url.search}`, expires };
}

/** STS answers JSON when asked to, and XML otherwise. */
function parseIdentity(body: string): CallerIdentity | undefined {
  // Names stand in quotes in JSON and in brackets in XML; the three values hold neither.
  const json = (name: string) => new RegExp(`"${name}"\\s*:\\s*"([^"]*)"`).exec(body)?.[1];
  if (body.trimStart().startsWith("{")) {
    const arn = json("Arn");
    return arn === undefined ? undefined : { arn, account: json("Account") ?? "", userId: json("UserId") ?? "" };
  }
  const element = (name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(body)?.[1];
  const arn = element("Arn");
  return arn === undefined ? undefined : { arn, account: element("Account") ?? "", userId: element("UserId") ?? "" };
}
