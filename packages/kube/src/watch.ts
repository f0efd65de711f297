/** One watch request: newline-separated events until the server closes, the signal aborts, or silence. */
import { StringDecoder } from "node:string_decoder";
import type { KubeClient } from "./client.ts";
import { KubeApiError, KubeConnectionError } from "./errors.ts";
import type { KubeObject, Status } from "./objects.ts";
import { pathOf, type Resource } from "./resources.ts";

export type WatchEvent<T> =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: T }
  | { type: "BOOKMARK"; object: KubeObject };

export type WatchOptions<T> = {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  resourceVersion?: string | undefined;
  /** WatchList: the current state first, then a bookmark with annotation k8s.io/initial-events-end. */
  sendInitialEvents?: boolean | undefined;
  timeoutSeconds?: number | undefined;
  /** Silence after which the connection counts as dead (bookmarks come about once a minute). */
  silenceMs?: number | undefined;
  accept?: string | undefined;
  signal?: AbortSignal | undefined;
  onEvent: (event: WatchEvent<T>) => void;
};

/** Resolves when the server closes cleanly or the signal aborts; an ERROR event is thrown as KubeApiError. */
export async function watch<T extends KubeObject>(
  client: KubeClient,
  of: Resource<T>,
  options: WatchOptions<T>,
): Promise<void> {
  const { signal } = options;
  const response = await client.stream("GET", pathOf(of, options.namespace), {
    signal,
    retryForMs: 0,
    ...(options.accept ? { accept: options.accept } : {}),
    query: {
      watch: true,
      allowWatchBookmarks: true,
      labelSelector: options.labelSelector,
      fieldSelector: options.fieldSelector,
      resourceVersion: options.resourceVersion,
      sendInitialEvents: options.sendInitialEvents || undefined,
      resourceVersionMatch: options.sendInitialEvents ? "NotOlderThan" : undefined,
      timeoutSeconds: options.timeoutSeconds,
    },
  });
  const what = `watch ${of.plural}`;
  const server = client.config.server;
  await new Promise<void>((done, fail) => {
    const silent = () => response.destroy(new Error(`nothing heard for ${options.silenceMs} ms`));
    const timer = options.silenceMs ? setTimeout(silent, options.silenceMs) : undefined;
    const splitter = new LineSplitter((line) => options.onEvent(parseEvent<T>(line, what)));
    response.on("data", (chunk: Buffer) => {
      timer?.refresh();
      try {
        splitter.push(chunk);
      } catch (err) {
        response.destroy(err as Error);
      }
    });
    response.once("end", done);
    response.once("error", (err) => {
      if (signal?.aborted) done();
      else fail(err instanceof KubeApiError ? err : new KubeConnectionError(what, server, err));
    });
    response.once("close", () => {
      clearTimeout(timer);
      // After "end" or "error" this changes nothing.
      done();
    });
  });
}

function parseEvent<T>(line: string, what: string): WatchEvent<T> {
  const event = JSON.parse(line) as { type: string; object: unknown };
  if (event.type !== "ERROR") return event as WatchEvent<T>;
  const status = event.object as Status;
  throw new KubeApiError(status.code ?? 500, status, what);
}

/** Cuts a byte stream into lines; characters may be split between chunks. */
export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    const text = this.#decoder.write(chunk);
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const line = this.#rest + text.slice(start, end);
      this.#rest = "";
      start = end + 1;
      if (line.trim() !== "") this.#onLine(line);
    }
    this.#rest += text.slice(start);
  }
}
