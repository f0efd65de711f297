/** The instance metadata service, version 2: a session token per client, renewed before it ends or when refused. */
import { AwsError } from "./aws-error.ts";
import type { Env } from "./endpoints.ts";
import { createExchange, type HttpAnswer } from "./http-exchange.ts";

export type ImdsClient = {
  /** The text at `path` (below `/latest/`: "meta-data/mac", "user-data"); undefined when there is none (404). */
  get(path: string): Promise<string | undefined>;
  getBytes(path: string): Promise<Buffer | undefined>;
  /** The lines of a listing; empty when there is none. */
  list(path: string): Promise<string[]>;
  identityDocument(): Promise<IdentityDocument>;
  close(): void;
};

export type IdentityDocument = {
  readonly accountId: string;
  readonly availabilityZone: string;
  readonly imageId: string;
  readonly instanceId: string;
  readonly instanceType: string;
  readonly privateIp: string;
  readonly region: string;
  readonly [key: string]: unknown;
};

/** `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or the link-local address. */
export function imdsEndpoint(env: Env): string {
  return (env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] || "http://169.254.169.254").replace(/\/$/, "");
}

export function createImdsClient(
  options: { endpoint?: string; timeoutMs?: number; tokenTtlSeconds?: number } = {},
): ImdsClient {
  const { endpoint = imdsEndpoint({}), timeoutMs = 5000, tokenTtlSeconds = 21_600 } = options;
  const exchange = createExchange();
  let token: { text: string; until: number } | undefined;
  let asking: Promise<string> | undefined;

  const send = (method: string, path: string, headers: Record<string, string>): Promise<HttpAnswer> =>
    exchange.send({ url: new URL(`${endpoint}/latest/${path}`), method, headers, body: "", timeoutMs });

  async function askToken(): Promise<string> {
    const answer = await send("PUT", "api/token", { "x-aws-ec2-metadata-token-ttl-seconds": String(tokenTtlSeconds) });
    if (answer.status !== 200) throw refused(answer.status, "api/token");
    const text = answer.body.toString("utf8");
    token = { text, until: Date.now() + (tokenTtlSeconds - 60) * 1000 };
    return text;
  }

  async function currentToken(): Promise<string> {
    if (token !== undefined && token.until > Date.now()) return token.text;
    asking ??= askToken().finally(() => (asking = undefined));
    return asking;
  }

  async function getBytes(path: string): Promise<Buffer | undefined> {
    for (let tried = 1; ; tried += 1) {
      try {
        const answer = await send("GET", path, { "x-aws-ec2-metadata-token": await currentToken() });
        if (answer.status === 200) return answer.body;
        if (answer.status === 404) return undefined;
        if (answer.status === 401) token = undefined;
        throw refused(answer.status, path);
      } catch (error) {
        const again = error instanceof AwsError && (error.status === 0 || error.status === 401 || error.status >= 500);
        if (!again || tried >= 3) throw error;
      }
    }
  }

  const get = async (path: string) => (await getBytes(path))?.toString("utf8");

  return {
    get,
    getBytes,
    async list(path) {
      const text = await get(path);
      return text === undefined ? [] : text.split("\n").filter((line) => line !== "");
    },
    async identityDocument() {
      const text = await get("dynamic/instance-identity/document");
      if (text === undefined) throw refused(404, "dynamic/instance-identity/document");
      return JSON.parse(text) as IdentityDocument;
    },
    close: () => exchange.close(),
  };
}

function refused(status: number, path: string): AwsError {
  const hint =
    status === 403
      ? "The instance's metadata endpoint is disabled"
      : "Check the instance's metadata options: token and hop limit";
  return new AwsError({
    code: "ImdsError",
    status,
    message: `Cannot read instance metadata /latest/${path}: HTTP ${status}`,
    hint,
  });
}
