/** The agent's log where upstream's is: JSON lines in a file on the host, rotated at 200 MB × 8, or standard output. */
import { appendFileSync, mkdirSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";

export type Level = "debug" | "info" | "warn" | "error";

const levels: readonly Level[] = ["debug", "info", "warn", "error"];
const rotateAt = 200 * 1024 * 1024;
const keep = 8;

export class AgentLog {
  readonly #file: string;
  readonly #least: number;
  #size: number;

  /** `file`: a path, or `stdout`. */
  constructor(file: string, level: string) {
    this.#file = file;
    this.#least = Math.max(0, levels.indexOf(level.toLowerCase() as Level));
    this.#size = 0;
    if (file === "stdout") return;
    mkdirSync(dirname(file), { recursive: true });
    this.#size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  }

  write(level: Level, fields: Readonly<Record<string, unknown>>): void {
    if (levels.indexOf(level) < this.#least) return;
    const line = `${JSON.stringify({ level, timestamp: new Date().toISOString(), ...fields })}\n`;
    if (this.#file === "stdout") {
      process.stdout.write(line);
      return;
    }
    if (this.#size > rotateAt) this.#rotate();
    appendFileSync(this.#file, line);
    this.#size += Buffer.byteLength(line);
  }

  /** One event with its fields; an error is told by its message. */
  event(level: Level, msg: string, { err, ...fields }: Readonly<Record<string, unknown>> = {}): void {
    const error = err === undefined ? {} : { error: err instanceof Error ? err.message : JSON.stringify(err) };
    this.write(level, { logger: "policy-agent", msg, ...fields, ...error });
  }

  #rotate(): void {
    for (let i = keep - 1; i >= 1; i--) {
      const from = i === 1 ? this.#file : `${this.#file}.${i - 1}`;
      if (statSync(from, { throwIfNoEntry: false })) renameSync(from, `${this.#file}.${i}`);
    }
    this.#size = 0;
  }
}
