/** A small HTTP server for the store's services: routes by method and path pattern, JSON in and out, log lines on standard output. */
import http from "node:http";

export type Call = {
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly request: http.IncomingMessage;
  readonly body: () => Promise<unknown>;
  readonly text: () => Promise<string>;
};

export type Answer = {
  readonly status?: number;
  readonly headers?: Record<string, string | string[]>;
  readonly body?: unknown;
};

export type Route = readonly [method: string, pattern: string, handle: (call: Call) => Promise<Answer> | Answer];

/** A refusal with a status of its own. */
export class HttpError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const largestBody = 1 << 20;

/** Serves `routes` on `port`. An object body goes out as JSON, text as it is (HTML when it starts with a tag). SIGTERM ends the process at once. */
export function serve(port: number, routes: readonly Route[]): http.Server {
  const compiled = routes.map(([method, pattern, handle]) => ({ method, match: compile(pattern), handle }));
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://store");
    try {
      for (const { method, match, handle } of compiled) {
        const params =
          request.method === method || (request.method === "HEAD" && method === "GET")
            ? match(url.pathname)
            : undefined;
        if (!params) continue;
        send(
          response,
          await handle({
            params,
            query: url.searchParams,
            request,
            body: () => readJson(request),
            text: () => readText(request),
          }),
        );
        return;
      }
      throw new HttpError(404, `no such path: ${request.method} ${url.pathname}`);
    } catch (err) {
      const status = err instanceof HttpError ? err.status : 500;
      if (status === 500) console.error(`${request.method} ${url.pathname}: ${(err as Error).message}`);
      send(response, { status, body: { error: (err as Error).message } });
    }
  });
  server.keepAliveTimeout = 65_000;
  server.listen(port, () => console.log(`listening on :${port}`));
  process.on("SIGTERM", () => process.exit(0));
  return server;
}

/** `/carts/:customer/items` → a matcher that gives `{ customer }`. */
function compile(pattern: string): (path: string) => Record<string, string> | undefined {
  const names: string[] = [];
  const source = pattern.replace(/:(\w+)/g, (_, name: string) => {
    names.push(name);
    return "([^/]+)";
  });
  const expression = new RegExp(`^${source}/?$`);
  return (path) => {
    const found = expression.exec(path);
    return found
      ? Object.fromEntries(names.map((name, index) => [name, decodeURIComponent(found[index + 1] ?? "")]))
      : undefined;
  };
}

function send(response: http.ServerResponse, answer: Answer): void {
  const isText = typeof answer.body === "string";
  const content = isText ? (answer.body as string) : answer.body === undefined ? "" : JSON.stringify(answer.body);
  const type = isText
    ? content.startsWith("<")
      ? "text/html; charset=utf-8"
      : "text/plain; charset=utf-8"
    : "application/json";
  response
    .writeHead(answer.status ?? 200, {
      "content-type": type,
      "content-length": Buffer.byteLength(content),
      ...answer.headers,
    })
    .end(content);
}

async function readText(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > largestBody) throw new HttpError(413, "the body is larger than 1 MiB");
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function readJson(request: http.IncomingMessage): Promise<unknown> {
  const text = await readText(request);
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    throw new HttpError(400, "the body is not JSON");
  }
}

/** A request to another service. `node:http`, because the built-in fetch costs every process some 15 MB. */
export function exchange(
  method: string,
  url: string,
  body: string | undefined,
  headers: Record<string, string>,
): Promise<{ status: number; text: string }> {
  return new Promise((settle, fail) => {
    const request = http.request(url, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }) },
      timeout: 5000,
    });
    request.on("timeout", () => request.destroy(new Error(`${method} ${url}: no answer within 5 s`)));
    request.on("error", fail);
    request.on("response", (response) => {
      readText(response).then((text) => settle({ status: response.statusCode ?? 0, text }), fail);
    });
    request.end(body);
  });
}

/** JSON to and from another service; a status of 400 or more throws with the service's own words. */
export async function callJson<T>(method: string, url: string, body?: unknown): Promise<T> {
  const json = body === undefined ? undefined : JSON.stringify(body);
  const { status, text } = await exchange(
    method,
    url,
    json,
    json === undefined ? {} : { "content-type": "application/json" },
  );
  if (status >= 400) throw new HttpError(502, `${method} ${url} answered ${status}: ${text.slice(0, 200)}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Plain counters in Prometheus's text form, for the `/metrics` the store's pods announce. */
export class RequestCounter {
  readonly #counts = new Map<string, number>();

  count(path: string): void {
    this.#counts.set(path, (this.#counts.get(path) ?? 0) + 1);
  }

  render(): string {
    const lines = [...this.#counts].map(([path, count]) => `http_requests_total{path="${path}"} ${count}`);
    return ["# TYPE http_requests_total counter", ...lines, ""].join("\n");
  }
}
