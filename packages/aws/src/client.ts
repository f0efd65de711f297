/**
 * The client behind ec2-client.ts, sts-client.ts and eks-client.ts: encode by the table, sign, send, retry, parse.
 * Retries as the SDKs' standard mode: throttles, 5xx and connection errors, exponential back-off with full jitter.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "@underlay/log/log";
import { AwsError, isRetryable } from "./aws-error.ts";
import type { CredentialProvider } from "./credentials.ts";
import { endpointFor, type Env } from "./endpoints.ts";
import { createExchange } from "./http-exchange.ts";
import type { ModelTable, ServiceName } from "./model.ts";
import { encodeForm, parseOutput, parseXmlError } from "./query-wire.ts";
import { encodeRest, parseRest } from "./rest-json-wire.ts";
import { canonicalQuery, signHeaders } from "./sigv4.ts";

export type ClientOptions = {
  readonly region: string;
  readonly credentials: CredentialProvider;
  readonly endpoint?: string | undefined;
  /** Only read for the endpoint overrides. */
  readonly env?: Env;
  /** Per attempt. */
  readonly timeoutMs?: number;
  readonly maxAttempts?: number;
  readonly userAgent?: string;
  readonly log?: Log;
};

type Actions = Record<string, { input: unknown; output: unknown }>;
export type CallOptions = { readonly signal?: AbortSignal | undefined };

export type Client<T extends Actions> = {
  send<A extends keyof T & string>(action: A, input: T[A]["input"], options?: CallOptions): Promise<T[A]["output"]>;
  /** Follows the action's paginator; yields each page's output. */
  pages<A extends keyof T & string>(
    action: A,
    input: T[A]["input"],
    options?: CallOptions,
  ): AsyncGenerator<T[A]["output"]>;
  /** Closes idle connections. */
  close(): void;
};

const firstDelayMs = 100;
const longestDelayMs = 20_000;

export function createClient<T extends Actions>(
  service: ServiceName,
  table: ModelTable,
  options: ClientOptions,
): Client<T> {
  const endpoint = options.endpoint ?? endpointFor(service, options.region, options.env ?? {});
  const exchange = createExchange();
  const { timeoutMs = 10_000, maxAttempts = 3, userAgent = "underlay" } = options;

  async function attempt(
    action: string,
    request: Encoded,
    signal: AbortSignal | undefined,
  ): Promise<Record<string, unknown>> {
    const url = new URL(
      endpoint + request.path + (request.query.length === 0 ? "" : `?${canonicalQuery(request.query)}`),
    );
    const headers: Record<string, string> = { host: url.host, "content-type": request.contentType };
    const keys = await options.credentials();
    const signed = signHeaders(
      { method: request.method, path: url.pathname, query: request.query, headers },
      request.body,
      { keys, region: options.region, service: table.signingName, now: new Date() },
    );
    const answer = await exchange.send({
      url,
      method: request.method,
      headers: { ...headers, ...signed, "user-agent": userAgent },
      body: request.body,
      timeoutMs,
      signal,
    });
    const text = answer.body.toString("utf8");
    if (answer.status >= 300) throw errorOf(answer.status, answer.headers, text, service, action);
    return table.protocol === "rest-json" ? parseRest(table, action, text) : parseOutput(table, action, text);
  }

  async function send(action: string, input: unknown, { signal }: CallOptions = {}): Promise<Record<string, unknown>> {
    const request = encode(action, input as Record<string, unknown>);
    for (let tried = 1; ; tried += 1) {
      try {
        return await attempt(action, request, signal);
      } catch (error) {
        if (tried >= maxAttempts || !isRetryable(error)) throw error;
        const delay = Math.random() * Math.min(longestDelayMs, firstDelayMs * 2 ** tried);
        options.log?.debug("retrying an AWS call", { service, action, tried, code: (error as AwsError).code });
        await sleep(delay, undefined, signal === undefined ? {} : { signal });
      }
    }
  }

  function encode(action: string, input: Record<string, unknown>): Encoded {
    if (table.protocol === "rest-json") return { ...encodeRest(table, action, input), contentType: "application/json" };
    const contentType = "application/x-www-form-urlencoded; charset=utf-8";
    return { method: "POST", path: "/", query: [], body: encodeForm(table, action, input), contentType };
  }

  async function* pages(action: string, input: unknown, call?: CallOptions): AsyncGenerator<Record<string, unknown>> {
    const paging = table.operations[action]?.pages ?? { token: "NextToken", next: "NextToken" };
    let token: unknown;
    do {
      const page = await send(
        action,
        token === undefined ? input : { ...(input as object), [paging.token]: token },
        call,
      );
      yield page;
      token = page[paging.next];
    } while (typeof token === "string" && token !== "");
  }

  return { send, pages, close: () => exchange.close() } as Client<T>;
}

type Encoded = { method: string; path: string; query: [string, string][]; body: string; contentType: string };

function errorOf(
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body: string,
  service: string,
  action: string,
): AwsError {
  const requestId = headers["x-amzn-requestid"];
  const fallback = { code: `HTTP${status}`, message: body.slice(0, 200) };
  const facts = parseXmlError(body) ?? parseJsonError(headers["x-amzn-errortype"], body) ?? fallback;
  return new AwsError({
    requestId: typeof requestId === "string" ? requestId : undefined,
    ...facts,
    status,
    service,
    action,
  });
}

function parseJsonError(
  type: string | string[] | undefined,
  body: string,
): { code: string; message: string } | undefined {
  let content: Record<string, unknown>;
  try {
    content = JSON.parse(body) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const code = typeof type === "string" ? type : (content["__type"] ?? content["code"]);
  if (typeof code !== "string") return undefined;
  const message = content["message"] ?? content["Message"] ?? "";
  return { code: code.replace(/:.*$/, "").replace(/^.*#/, ""), message: String(message) };
}
