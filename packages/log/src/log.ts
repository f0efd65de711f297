/**
 * Structured logs: an event and fields, one JSON line each, to standard error.
 * `UNDERLAY_LOG_LEVEL` (trace|debug|info|warn|error, default info) is read once per process.
 */
import { pino } from "pino";

export type Log = {
  debug(event: string, fields?: Record<string, unknown>): void;
  info(event: string, fields?: Record<string, unknown>): void;
  warn(event: string, fields?: Record<string, unknown>): void;
  error(event: string, fields?: Record<string, unknown>): void;
  child(fields: Record<string, unknown>): Log;
};

type Level = "debug" | "info" | "warn" | "error";

function wrap(logger: pino.Logger): Log {
  const at =
    (level: Level) =>
    (event: string, fields: Record<string, unknown> = {}) =>
      logger[level](fields, event);
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => wrap(logger.child(fields)),
  };
}

/** A log whose lines carry `program`. An `err` field is printed with message, stack and cause. */
export function createLog(program: string): Log {
  const level = process.env["UNDERLAY_LOG_LEVEL"] ?? "info";
  return wrap(
    pino(
      { level, base: { program }, timestamp: pino.stdTimeFunctions.isoTime },
      pino.destination({ fd: 2, sync: true }),
    ),
  );
}
