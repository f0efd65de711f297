/**
 * HTTP to one API server: kept connections, credentials, deadlines, repeats with back-off.
 * Knows nothing of resources; client.ts puts paths and types on top.
 */
import { setMaxListeners } from "node:events";
import http from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import type { Credentials, KubeConfig } from "./config.ts";
import { KubeApiError, KubeConnectionError, isApiError, isConnectionError } from "./errors.ts";
import type { Status } from "./objects.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD";

export type TransportRequest = {
  method: Method;
  /** With the query string. */
  path: string;
  body?: string | undefined;
  contentType?: string | undefined;
  accept?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Until the whole answer is read (or, for streams, until its head arrived). */
  timeoutMs: number;
  /** How long refused connections and 429/503 are tried again. */
  retryForMs: number;
};

/** What decides whether a failed request may be sent again. */
export type Failure = {
  method: Method;
  error: unknown;
  /** The request went out on a connection the server may just have closed as idle. */
  onReusedConnection: boolean;
};

const firstDelayMs = 100;
const longestDelayMs = 2_000;

/** The wait before the next attempt, or undefined when the failure is final. Pure. */
export function retryDelayMs(
  failure: Failure,
  attempt: number,
  spentMs: number,
  retryForMs: number,
): number | undefined {
  const backoff = Math.min(firstDelayMs * 2 ** attempt, longestDelayMs);
  const { error } = failure;
  if (isApiError(error)) {
    const asked = error.code === 429 || error.code === 503 || error.code === 504 ? error.retryAfterMs : undefined;
    const wait = asked === undefined ? undefined : Math.max(asked, backoff);
    return wait !== undefined && spentMs + wait <= retryForMs ? wait : undefined;
  }
  if (!isConnectionError(error) || spentMs + backoff > retryForMs) return undefined;
  if (error.code === "ECONNREFUSED" || error.code === "EAI_AGAIN") return backoff;
  if (error.code !== "ECONNRESET" && error.code !== "EPIPE") return undefined;
  // A lost connection may have lost the request or only its answer. Repeating a POST could create twice;
  // the others are guarded by names and resource versions.
  if (failure.method === "GET") return backoff;
  return failure.method !== "POST" && failure.onReusedConnection ? backoff : undefined;
}

export class Transport {
  readonly server: string;
  readonly #config: KubeConfig;
  readonly #url: URL;
  readonly #userAgent: string;
  #agent: http.Agent | undefined;
  #agentIdentity = "";

  constructor(config: KubeConfig, userAgent: string) {
    this.#config = config;
    this.server = config.server;
    this.#url = new URL(config.server);
    this.#userAgent = userAgent;
  }

  /** The whole answer as text; throws KubeApiError on status ≥ 400. */
  async send(request: TransportRequest): Promise<{ text: string; contentType: string }> {
    return this.#withRetries(request, async (exchange) => {
      const { response } = await exchange.head();
      const text = await readAll(response);
      return { text, contentType: response.headers["content-type"] ?? "" };
    });
  }

  /** The answer as a stream, once its head says success. `timeoutMs` covers the head only. */
  async open(request: TransportRequest): Promise<http.IncomingMessage> {
    return this.#withRetries(request, async (exchange) => {
      const { response } = await exchange.head();
      exchange.keepOpen();
      return response;
    });
  }

  /** Drops kept connections; the next request opens a new one. */
  close(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
  }

  async #withRetries<R>(request: TransportRequest, attempt: (exchange: Exchange) => Promise<R>): Promise<R> {
    const start = performance.now();
    let refreshed = false;
    for (let attempts = 0; ; attempts += 1) {
      const exchange = await this.#start(request, refreshed && attempts > 0);
      try {
        return await attempt(exchange);
      } catch (thrown) {
        if (request.signal?.aborted) throw request.signal.reason;
        const error = isApiError(thrown) ? thrown : new KubeConnectionError(describe(request), this.server, thrown);
        if (isApiError(error) && error.code === 401 && this.#config.credentials && !refreshed) {
          refreshed = true;
          continue;
        }
        const wait = retryDelayMs(
          { method: request.method, error, onReusedConnection: exchange.reused() },
          attempts,
          performance.now() - start,
          request.retryForMs,
        );
        if (wait === undefined) throw error;
        await sleep(wait, undefined, request.signal ? { signal: request.signal } : {});
      } finally {
        exchange.settle();
      }
    }
  }

  async #start(request: TransportRequest, refresh: boolean): Promise<Exchange> {
    const credentials = (await this.#config.credentials?.(refresh)) ?? {};
    request.signal?.throwIfAborted();
    const headers: http.OutgoingHttpHeaders = {
      "User-Agent": this.#userAgent,
      Accept: request.accept ?? "application/json",
    };
    const authorization = authorizationOf(credentials);
    if (authorization) headers["Authorization"] = authorization;
    if (request.body !== undefined) {
      headers["Content-Type"] = request.contentType ?? "application/json";
      // Explicit, because a DELETE with a body otherwise corrupts the kept connection.
      headers["Content-Length"] = Buffer.byteLength(request.body);
    }
    const module = this.#url.protocol === "https:" ? https : http;
    const prefix = this.#url.pathname === "/" ? "" : this.#url.pathname;
    const outgoing = module.request({
      agent: this.#agentFor(credentials),
      protocol: this.#url.protocol,
      hostname: this.#url.hostname.replace(/^\[|\]$/g, ""),
      port: this.#url.port || (this.#url.protocol === "https:" ? 443 : 80),
      method: request.method,
      path: prefix + request.path,
      headers,
    });
    return new Exchange(outgoing, request);
  }

  #agentFor(credentials: Credentials): http.Agent {
    const { tls } = this.#config;
    const cert = credentials.cert ?? tls.cert;
    const key = credentials.key ?? tls.key;
    if (this.#agent && this.#agentIdentity === (cert ?? "")) return this.#agent;
    this.#agent?.destroy();
    this.#agentIdentity = cert ?? "";
    const options = { keepAlive: true, keepAliveMsecs: 15_000, maxFreeSockets: 8 };
    this.#agent =
      this.#url.protocol === "https:"
        ? new https.Agent({
            ...options,
            ...(tls.ca ? { ca: tls.ca } : {}),
            ...(cert ? { cert } : {}),
            ...(key ? { key } : {}),
            ...(tls.servername ? { servername: tls.servername } : {}),
            rejectUnauthorized: tls.insecure !== true,
          })
        : new http.Agent(options);
    return this.#agent;
  }
}

/** One request on its way: its head, its deadline, its cancellation. */
class Exchange {
  readonly #outgoing: http.ClientRequest;
  readonly #request: TransportRequest;
  readonly #timer: NodeJS.Timeout;
  readonly #abort: () => void;
  #open = false;

  constructor(outgoing: http.ClientRequest, request: TransportRequest) {
    this.#outgoing = outgoing;
    this.#request = request;
    this.#timer = setTimeout(() => {
      const timeout = new Error(`no answer within ${request.timeoutMs} ms`);
      outgoing.destroy(Object.assign(timeout, { code: "ETIMEDOUT" }));
    }, request.timeoutMs);
    this.#abort = () => outgoing.destroy(new Error("aborted"));
    if (request.signal) {
      setMaxListeners(0, request.signal);
      request.signal.addEventListener("abort", this.#abort, { once: true });
    }
  }

  async head(): Promise<{ response: http.IncomingMessage }> {
    const outgoing = this.#outgoing;
    const response = await new Promise<http.IncomingMessage>((done, fail) => {
      outgoing.on("error", fail);
      outgoing.once("response", done);
      outgoing.end(this.#request.body);
    });
    const code = response.statusCode ?? 0;
    if (code < 400) return { response };
    throw apiError(code, await readAll(response), response.headers, describe(this.#request));
  }

  reused(): boolean {
    return this.#outgoing.reusedSocket;
  }

  /** Ends the deadline but leaves the cancellation in force until the stream closes. */
  keepOpen(): void {
    this.#open = true;
    clearTimeout(this.#timer);
    this.#outgoing.once("close", () => this.#release());
  }

  settle(): void {
    if (!this.#open) this.#release();
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#request.signal?.removeEventListener("abort", this.#abort);
  }
}

function apiError(code: number, text: string, headers: http.IncomingHttpHeaders, what: string): KubeApiError {
  let status: Status = {};
  if ((headers["content-type"] ?? "").includes("json")) {
    try {
      status = JSON.parse(text) as Status;
    } catch {
      // Not a Status after all; the text below serves as the message.
    }
  }
  if (status.kind !== "Status")
    status = { message: text.trim() || `Cannot ${what}: the server answered ${code}`, code };
  const retryAfter = Number(headers["retry-after"]);
  return new KubeApiError(
    code,
    status,
    what,
    headers["retry-after"] && Number.isFinite(retryAfter) ? retryAfter * 1000 : undefined,
  );
}

function authorizationOf(credentials: Credentials): string | undefined {
  if (credentials.token) return `Bearer ${credentials.token}`;
  if (credentials.username === undefined) return undefined;
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password ?? ""}`).toString("base64")}`;
}

function readAll(response: http.IncomingMessage): Promise<string> {
  return new Promise((done, fail) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.once("end", () => done(Buffer.concat(chunks).toString("utf8")));
    response.once("error", fail);
    response.once("close", () =>
      fail(Object.assign(new Error("the connection was lost in mid-answer"), { code: "ECONNRESET" })),
    );
  });
}

function describe(request: TransportRequest): string {
  const query = request.path.indexOf("?");
  return `${request.method} ${query < 0 ? request.path : request.path.slice(0, query)}`;
}
