/** `/containerLogs`: reads a container's CRI log file, with follow, tail, since, timestamps, previous and a byte limit. */
import { existsSync, watch } from "node:fs";
import { open, stat, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import type { ServerResponse } from "node:http";
import { once } from "node:events";
import { StringDecoder } from "node:string_decoder";
import { parseLogLine, tailStart, type LogOptions } from "./log-lines.ts";
import type { KubeletContext } from "./kubelet-context.ts";
import { logFile } from "./places.ts";
import type { PodWorker } from "./pod-worker.ts";

export async function serveLogs(
  context: KubeletContext,
  worker: PodWorker,
  container: string,
  query: URLSearchParams,
  response: ServerResponse,
): Promise<void> {
  const { name = "", namespace = "", uid = "" } = worker.pod.metadata;
  const record = worker.records.get(container);
  const previous = query.get("previous") === "true";
  const attempt = (record?.restarts ?? 0) - (previous && !lastRunIsOver(record) ? 1 : 0);
  const file = logFile(context.places, { namespace, name, uid }, container, attempt);
  if (previous && (attempt < 0 || (!record?.previous && !record?.ended))) {
    return void response.writeHead(400).end(`previous terminated container "${container}" in pod "${name}" not found`);
  }
  if (!existsSync(file)) {
    return void response
      .writeHead(400)
      .end(
        `container "${container}" in pod "${name}" is waiting to start: ${record?.waiting?.reason ?? "ContainerCreating"}`,
      );
  }
  response.writeHead(200, { "Content-Type": "text/plain" });
  response.flushHeaders();
  const options = parseOptions(query);
  const follow = query.get("follow") === "true" && !previous;
  await streamLog(
    file,
    options,
    response,
    () =>
      follow &&
      worker.records.get(container)?.restarts === attempt &&
      worker.records.get(container)?.running !== undefined,
  );
  response.end();
}

/** The latest run has ended and waits for its next start: then it is "previous" too, as kubectl logs -p expects in a crash loop. */
function lastRunIsOver(record: { running: unknown; waiting: unknown; ended: unknown } | undefined): boolean {
  return (
    record !== undefined && record.running === undefined && record.waiting !== undefined && record.ended !== undefined
  );
}

function parseOptions(query: URLSearchParams): LogOptions {
  const sinceSeconds = query.get("sinceSeconds");
  const sinceTime = query.get("sinceTime");
  const since = sinceSeconds ? Date.now() - Number(sinceSeconds) * 1000 : sinceTime ? Date.parse(sinceTime) : undefined;
  const tail = query.get("tailLines");
  const limit = query.get("limitBytes");
  return {
    timestamps: query.get("timestamps") === "true",
    ...(since === undefined ? {} : { since }),
    ...(tail === null ? {} : { tailLines: Number(tail) }),
    ...(limit === null ? {} : { limitBytes: Number(limit) }),
    ...(query.get("stream") && query.get("stream") !== "All"
      ? { stream: query.get("stream")?.toLowerCase() === "stderr" ? ("stderr" as const) : ("stdout" as const) }
      : {}),
  };
}

async function streamLog(
  file: string,
  options: LogOptions,
  response: ServerResponse,
  goesOn: () => boolean,
): Promise<void> {
  let position = options.tailLines === undefined ? 0 : tailStart(file, options.tailLines);
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  let rest = "";
  const closed = new AbortController();
  response.on("close", () => closed.abort());
  // Told of changes by the kernel; looked at once a second as well, for the container's end.
  const watcher = goesOn() ? watch(dirname(file)) : undefined;
  // Held open: what a container said last can be read although the pod's folder is being removed.
  let handle = await open(file);
  const decoder = new StringDecoder("utf8");
  const block = Buffer.alloc(65_536);
  try {
    while (!closed.signal.aborted) {
      const goes = goesOn();
      const { bytesRead } = await handle.read(block, 0, block.length, position);
      if (bytesRead > 0) {
        position += bytesRead;
        const lines = (rest + decoder.write(block.subarray(0, bytesRead))).split("\n");
        rest = lines.pop() ?? "";
        const text = lines.map((line) => parseLogLine(line, options)).join("");
        const cut = Buffer.byteLength(text) > left ? Buffer.from(text).subarray(0, left).toString("utf8") : text;
        left -= Buffer.byteLength(cut);
        if (cut !== "" && !response.write(cut))
          await Promise.race([once(response, "drain"), once(closed.signal, "abort")]);
        if (left <= 0 || closed.signal.aborted) return;
        continue;
      }
      if (await wasRotated(file, handle)) {
        await handle.close();
        handle = await open(file);
        position = 0;
        continue;
      }
      if (!goes) return;
      const wake = AbortSignal.any([closed.signal, AbortSignal.timeout(1000)]);
      if (watcher) await once(watcher, "change", { signal: wake }).catch(() => {});
    }
  } finally {
    watcher?.close();
    await handle.close();
  }
}

/** The shim has put a new file in the place of the one that is open. */
async function wasRotated(file: string, handle: FileHandle): Promise<boolean> {
  const now = await stat(file).catch(() => undefined);
  return now !== undefined && now.ino !== (await handle.stat()).ino;
}
