/** A container's log file in the CRI format: `<time> <stream> <F|P> <text>`, one line each, so that any log reader understands it. */
import { C, clock } from "@underlay/lua/libc";
import { makeDirectories, openAppend } from "@underlay/lua/files";
import { writeAll } from "@underlay/lua/unix-socket";

export type Stream = "stdout" | "stderr";

const longestLine = 16384;

/** As the kubelet's containerLogMaxSize; one older file is kept, as `<n>.log.1`. */
const largestFile = 10 * 1024 * 1024;

export type ContainerLog = { fd: number; size: number; readonly path: string; readonly rest: Record<Stream, string> };

export function openLog(path: string): ContainerLog {
  const [folder] = string.match(path, "^(.+)/[^/]+$");
  makeDirectories(folder!);
  return { fd: openAppend(path, 0x1a0 /* 0640 */), size: 0, path, rest: { stdout: "", stderr: "" } };
}

function write(log: ContainerLog, text: string): void {
  if (log.size + text.length > largestFile) {
    C.close(log.fd);
    C.rename(log.path, `${log.path}.1`);
    log.fd = openAppend(log.path, 0x1a0);
    log.size = 0;
  }
  log.size += text.length;
  writeAll(log.fd, text);
}

/** RFC 3339 with nanoseconds, UTC. */
export function timestamp(): string {
  const [seconds, nanos] = clock(0);
  return string.format("%s.%09dZ", os.date("!%Y-%m-%dT%H:%M:%S", seconds), nanos);
}

/** Writes the whole lines in `data` (and over-long beginnings of lines); keeps the rest until more comes. */
export function appendLog(log: ContainerLog, stream: Stream, data: string): void {
  const text = log.rest[stream] + data;
  const prefix = `${timestamp()} ${stream} `;
  const lines: string[] = [];
  let at = 1;
  while (true) {
    const [stop] = string.find(text, "\n", at, true);
    if (stop === undefined) break;
    lines[lines.length] = `${prefix}F ${string.sub(text, at, stop)}`;
    at = stop + 1;
  }
  while (text.length - at + 1 >= longestLine) {
    lines[lines.length] = `${prefix}P ${string.sub(text, at, at + longestLine - 1)}\n`;
    at += longestLine;
  }
  log.rest[stream] = string.sub(text, at);
  if (lines.length > 0) write(log, table.concat(lines as never));
}

/** Writes what is left without a line end, and closes the file. */
export function closeLog(log: ContainerLog): void {
  for (const stream of ["stdout", "stderr"] as Stream[]) {
    if (log.rest[stream].length > 0) write(log, `${timestamp()} ${stream} P ${log.rest[stream]}\n`);
    log.rest[stream] = "";
  }
  C.close(log.fd);
}
