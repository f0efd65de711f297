/**
 * WATCH: a stream of changes after a revision, exactly once and in order. Each event is serialised once per form and
 * shared by all watchers; a watcher that does not read is closed (it resumes by its resourceVersion).
 */
import type { ServerResponse } from "node:http";
import { ApiError, expired, invalid, type Status } from "../api-error.ts";
import { groupVersion, type ResourceInfo } from "../resource-info.ts";
import type { Registry } from "../registry/registry.ts";
import { parseSelection, type Selection } from "../registry/selectors.ts";
import { parseRevision, tableOptions, waitForRevision } from "../routes/read.ts";
import { partialMetadata } from "../routes/partial-metadata.ts";
import type { Format } from "../routes/media-types.ts";
import type { Seams } from "../seams.ts";
import type { Entry, StoreEvent } from "../store/store.ts";

type EventType = "ADDED" | "MODIFIED" | "DELETED";
type Watcher = { bookmark(): void };

const bufferLimit = 16 * 1024 * 1024;
const bookmarkEveryMs = 60_000;

export type WatchRequest = {
  readonly info: ResourceInfo;
  readonly namespace: string;
  readonly name: string;
  readonly query: URLSearchParams;
  readonly format: Format;
};

export type Watches = {
  serve(request: WatchRequest, response: ServerResponse): Promise<void>;
  readonly size: number;
  closeAll(): void;
};

export function createWatches(registry: Registry, seams: Pick<Seams, "renderTable">, now: () => number): Watches {
  const open = new Set<Watcher & { end(): void }>();
  const timer = setInterval(() => {
    for (const watcher of open) watcher.bookmark();
  }, bookmarkEveryMs);
  timer.unref();
  const lines = createLines(registry, seams, now);

  async function serve(
    { info, namespace, name, query, format }: WatchRequest,
    response: ServerResponse,
  ): Promise<void> {
    const options = parseOptions(info, query);
    if (name !== "") query.append("fieldSelector", `metadata.name=${name}`);
    const selection = parseSelection(info, namespace, query);
    const { store } = registry;
    if (!store.isSettled) await store.settled();
    if (options.sendInitialEvents) await waitForRevision(registry, options.revision);

    response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
    response.flushHeaders();
    let seen = options.revision;
    let columns = true;
    let closed = false;
    const send = (text: string | Buffer): void => {
      if (closed) return;
      response.write(text);
      if (response.writableLength > bufferLimit) end(true);
    };
    const line = (type: EventType, entry: Entry, key: object): string => {
      const text = lines.event(type, entry, info, { format, query, columns }, key);
      if (format.as === "Table") columns = false;
      return text;
    };
    const onEvent = (event: StoreEvent): void => {
      if (event.revision <= seen) return;
      seen = event.revision;
      const crossing = transition(event, selection);
      if (crossing !== undefined) send(line(crossing.type, crossing.entry, event));
    };
    const bookmark = (initialEnd = false): void => {
      if (options.bookmarks)
        send(lines.bookmark(info, format, Math.max(seen, store.isSettled ? store.revision : seen), initialEnd));
    };

    // From here to subscribe() nothing is awaited, so no change is missed or sent twice.
    if (options.replay) {
      seen = store.revision;
      let batch: string[] = [];
      for (const entry of store.list(info.storage, namespace)) {
        if (!selection.matches(entry)) continue;
        batch.push(line("ADDED", entry, entry));
        if (batch.length >= 200) {
          send(batch.join(""));
          batch = [];
        }
      }
      if (batch.length > 0) send(batch.join(""));
      if (options.sendInitialEvents) bookmark(true);
    } else if (options.revision === 0) seen = store.revision;
    else {
      const missed = store.since(info.storage, options.revision);
      if (missed === undefined) {
        send(`${JSON.stringify({ type: "ERROR", object: tooOld(options.revision, store.revision) })}\n`);
        response.end();
        return;
      }
      for (const event of missed) onEvent(event);
    }

    const unsubscribe = store.subscribe(info.storage, onEvent);
    const watcher = { bookmark: () => bookmark(), end: () => end(false) };
    open.add(watcher);
    const timeout = setTimeout(() => {
      bookmark();
      end(false);
    }, options.timeoutMs);
    timeout.unref();
    function end(hard: boolean): void {
      if (closed) return;
      closed = true;
      clearTimeout(timeout);
      unsubscribe();
      open.delete(watcher);
      if (hard) response.destroy();
      else response.end();
    }
    response.on("close", () => end(true));
    response.on("error", () => end(true));
    if (response.destroyed) end(true);
  }

  return {
    serve,
    get size() {
      return open.size;
    },
    closeAll() {
      clearInterval(timer);
      for (const watcher of open) watcher.end();
    },
  };
}

type Options = { revision: number; replay: boolean; sendInitialEvents: boolean; bookmarks: boolean; timeoutMs: number };

function parseOptions(info: ResourceInfo, query: URLSearchParams): Options {
  const version = query.get("resourceVersion") ?? "";
  const match = query.get("resourceVersionMatch") ?? "";
  const initial = query.get("sendInitialEvents");
  const forbid = (field: string, detail: string): ApiError =>
    invalid({ group: "meta.k8s.io", kind: "ListOptions" }, "", [{ type: "Forbidden", field, detail }]);
  if (initial !== null && match !== "NotOlderThan")
    throw forbid("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  if (initial === null && match !== "")
    throw forbid(
      "resourceVersionMatch",
      "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    );
  const revision = parseRevision(version);
  const sendInitialEvents = initial === "true" || initial === "1";
  const seconds = Number(query.get("timeoutSeconds") ?? 0);
  return {
    revision,
    sendInitialEvents,
    replay: initial === null ? revision === 0 : sendInitialEvents,
    bookmarks: isTrue(query.get("allowWatchBookmarks")),
    timeoutMs: Math.min(seconds > 0 ? seconds * 1000 : (1800 + Math.random() * 1800) * 1000, 2 ** 31 - 1),
  };
}

export const isTrue = (text: string | null): boolean =>
  text === "true" || text === "1" || text === "True" || text === "t";

/** What a change means to a watcher with a selector: entering is ADDED, leaving is DELETED with the old state. */
function transition(event: StoreEvent, selection: Selection): { type: EventType; entry: Entry } | undefined {
  const is = selection.matches(event.entry);
  const was = event.previous !== undefined && selection.matches(event.previous);
  if (event.type === "DELETED") return was || is ? { type: "DELETED", entry: event.entry } : undefined;
  if (is) return { type: was ? "MODIFIED" : "ADDED", entry: event.entry };
  if (!was) return undefined;
  return { type: "DELETED", entry: withRevision(event.previous!, event.revision) };
}

function withRevision(entry: Entry, revision: number): Entry {
  const object = JSON.parse(entry.json);
  object.metadata.resourceVersion = String(revision);
  return { ...entry, revision, json: JSON.stringify(object) };
}

function tooOld(revision: number, current: number): Status {
  return expired(`too old resource version: ${revision} (${current})`).status;
}

type LineForm = { readonly format: Format; readonly query: URLSearchParams; readonly columns: boolean };

function createLines(registry: Registry, seams: Pick<Seams, "renderTable">, now: () => number) {
  const shared = new WeakMap<object, Map<string, string>>();
  return {
    event(type: EventType, entry: Entry, info: ResourceInfo, form: LineForm, key: object): string {
      // Tables depend on the watcher (columns once, ages), the other forms are the same for everyone.
      if (form.format.as === "Table") return `{"type":"${type}","object":${table(entry, info, form)}}\n`;
      const id = `${type} ${form.format.as} ${info.version}`;
      let texts = shared.get(key);
      if (texts === undefined) shared.set(key, (texts = new Map()));
      let text = texts.get(id);
      if (text === undefined) {
        const json =
          form.format.as === "object"
            ? registry.json(entry, info)
            : JSON.stringify(partialMetadata(registry.object(entry, info), form.format.version));
        text = `{"type":"${type}","object":${json}}\n`;
        // Initial events are one watcher's; only changes are shared.
        if (key !== entry) texts.set(id, text);
      }
      return text;
    },
    bookmark(info: ResourceInfo, format: Format, revision: number, initialEnd: boolean): string {
      const metadata = {
        resourceVersion: String(revision),
        creationTimestamp: null,
        ...(initialEnd ? { annotations: { "k8s.io/initial-events-end": "true" } } : {}),
      };
      const head =
        format.as === "object"
          ? { kind: info.kind, apiVersion: groupVersion(info) }
          : format.as === "PartialObjectMetadata"
            ? { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${format.version}` }
            : { kind: "Table", apiVersion: `meta.k8s.io/${format.version}`, columnDefinitions: null, rows: [] };
      return `${JSON.stringify({ type: "BOOKMARK", object: { ...head, metadata } })}\n`;
    },
  };
  function table(entry: Entry, info: ResourceInfo, form: LineForm): string {
    const object = registry.object(entry, info);
    const options = { ...tableOptions(form.query, form.format, now()), columnDefinitions: form.columns };
    return JSON.stringify(
      seams.renderTable(info, [object], { resourceVersion: object.metadata.resourceVersion }, options),
    );
  }
}
