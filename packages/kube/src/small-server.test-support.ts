/** A small real HTTP server with list, watch and WatchList over one in-memory collection, for this room's tests. */
import http from "node:http";
import type { AddressInfo } from "node:net";
import type { KubeObject } from "./objects.ts";

type Change = { rv: number; type: string; object: KubeObject };
export type Handler = (request: http.IncomingMessage, response: http.ServerResponse, body: string) => boolean;

export class SmallServer {
  readonly objects = new Map<string, KubeObject>();
  readonly requests: string[] = [];
  /** First look at every request; true means answered. */
  intercept: Handler | undefined;
  watchList = true;
  /** Changes below this are compacted away. */
  oldest = 0;
  #rv = 100;
  #log: Change[] = [];
  #watchers = new Map<http.ServerResponse, (change: Change) => void>();
  #server: http.Server | undefined;
  #port = 0;

  async start(): Promise<string> {
    this.#server = http.createServer((request, response) => void this.#handle(request, response));
    await new Promise<void>((done) => this.#server?.listen(this.#port, "127.0.0.1", done));
    this.#port = (this.#server.address() as AddressInfo).port;
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Cuts every connection and stops listening, as kill -9 would. */
  async stop(): Promise<void> {
    this.#watchers.clear();
    this.#server?.closeAllConnections();
    await new Promise<void>((done) => this.#server?.close(() => done()) ?? done());
  }

  put(name: string, labels: Record<string, string> = {}): void {
    const old = this.objects.get(name);
    this.#rv += 1;
    const uid = old?.metadata.uid ?? `uid-${name}-${this.#rv}`;
    const object = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default", labels, uid, resourceVersion: String(this.#rv), managedFields: [] },
    };
    this.objects.set(name, object);
    this.#emit(old ? "MODIFIED" : "ADDED", object);
  }

  remove(name: string): void {
    const object = this.objects.get(name);
    if (!object) return;
    this.#rv += 1;
    this.objects.delete(name);
    this.#emit("DELETED", { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#rv) } });
  }

  /** Forgets history: resumes from before now get 410. */
  compact(): void {
    this.oldest = this.#rv;
    this.#log = [];
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  #emit(type: string, object: KubeObject): void {
    const change = { rv: this.#rv, type, object };
    this.#log.push(change);
    for (const tell of this.#watchers.values()) tell(change);
  }

  async #handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    this.requests.push(`${request.method} ${request.url}`);
    if (this.intercept?.(request, response, body)) return;
    const query = new URL(request.url ?? "", "http://x").searchParams;
    if (query.get("watch") === "true") return this.#watch(query, response);
    const items = [...this.objects.values()].map(({ metadata }) => ({ metadata }));
    answer(response, 200, {
      kind: "PodList",
      apiVersion: "v1",
      metadata: { resourceVersion: String(this.#rv) },
      items,
    });
  }

  #watch(query: URLSearchParams, response: http.ServerResponse): void {
    const initial = query.get("sendInitialEvents") === "true";
    if (initial && !this.watchList) {
      return answer(response, 422, {
        kind: "Status",
        status: "Failure",
        reason: "Invalid",
        code: 422,
        message: "sendInitialEvents is forbidden",
      });
    }
    response.writeHead(200, { "Content-Type": "application/json" });
    response.flushHeaders();
    const send = (type: string, object: unknown) => response.write(`${JSON.stringify({ type, object })}\n`);
    const from = Number(query.get("resourceVersion") ?? 0);
    if (initial) {
      for (const object of this.objects.values()) send("ADDED", object);
      const annotations = { "k8s.io/initial-events-end": "true" };
      send("BOOKMARK", { kind: "Pod", metadata: { resourceVersion: String(this.#rv), annotations } });
    } else if (from < this.oldest) {
      send("ERROR", {
        kind: "Status",
        status: "Failure",
        reason: "Expired",
        code: 410,
        message: "too old resource version",
      });
      response.end();
      return;
    } else {
      for (const change of this.#log) if (change.rv > from) send(change.type, change.object);
    }
    this.#watchers.set(response, (change) => send(change.type, change.object));
    response.on("close", () => this.#watchers.delete(response));
  }
}

export function answer(
  response: http.ServerResponse,
  code: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(code, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** Waits until `condition` holds; fails after five seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Timed out waiting until ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}
