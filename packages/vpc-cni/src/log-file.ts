/** ipamd's log as upstream places it: JSON lines in a file on the host, rotated at 100 MB × 5, or standard output or error. */
import { appendFileSync, closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import type { Log } from "@underlay/log/log";

const levels = ["debug", "info", "warn", "error"] as const;
type Level = (typeof levels)[number];
const rotateAt = 100 * 1024 * 1024;
const keep = 5;

/** `path`: a file, or `stdout`/`stderr`. What goes to a file goes to `alsoTo` (the pod's own log) from info up. */
export function openLog(path: string, levelName: string, alsoTo?: Log): Log {
  const wanted = levels.indexOf(levelName.toLowerCase() as Level);
  const least = wanted === -1 ? 0 : wanted;
  const write = path === "stdout" ? descriptorWriter(1) : path === "stderr" ? descriptorWriter(2) : fileWriter(path);
  const make = (base: Record<string, unknown>): Log => {
    const at =
      (level: Level) =>
      (event: string, fields: Record<string, unknown> = {}) => {
        if (levels.indexOf(level) < least) return;
        const line = { level, ts: new Date().toISOString(), msg: event, ...base, ...printable(fields) };
        write(`${JSON.stringify(line)}\n`);
        if (level !== "debug") alsoTo?.[level](event, { ...base, ...fields });
      };
    return {
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => make({ ...base, ...fields }),
    };
  };
  return make({});
}

function printable(fields: Record<string, unknown>): Record<string, unknown> {
  const { err, ...rest } = fields;
  if (err === undefined) return rest;
  if (!(err instanceof Error)) return { ...rest, err: String(err) };
  return {
    ...rest,
    err: { message: err.message, stack: err.stack, ...(err.cause ? { cause: String(err.cause) } : {}) },
  };
}

function descriptorWriter(fd: number): (text: string) => void {
  return (text) => void writeSync(fd, text);
}

function fileWriter(path: string): (text: string) => void {
  mkdirSync(dirname(path), { recursive: true });
  let fd = openSync(path, "a", 0o644);
  let size = fstatSync(fd).size;
  return (text) => {
    if (size > rotateAt) {
      closeSync(fd);
      for (let i = keep - 1; i >= 1; i--) {
        try {
          renameSync(i === 1 ? path : `${path}.${i - 1}`, `${path}.${i}`);
        } catch {
          // That generation does not exist yet.
        }
      }
      fd = openSync(path, "a", 0o644);
      size = 0;
    }
    appendFileSync(fd, text);
    size += text.length;
  };
}
