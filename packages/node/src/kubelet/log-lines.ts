/** Lines of a CRI log file: `<time> <stream> <F|P> <text>`. */
import { closeSync, openSync, readSync, statSync } from "node:fs";

export type LogOptions = {
  readonly timestamps: boolean;
  /** Milliseconds since the epoch. */
  readonly since?: number;
  readonly tailLines?: number;
  readonly limitBytes?: number;
  readonly stream?: "stdout" | "stderr";
};

/** What the reader sees of one line: its text, with a line end unless it goes on in the next one. */
export function parseLogLine(line: string, options: LogOptions): string {
  const first = line.indexOf(" ");
  const second = line.indexOf(" ", first + 1);
  const third = line.indexOf(" ", second + 1);
  if (first < 0 || second < 0 || third < 0) return "";
  const time = line.slice(0, first);
  if (options.since !== undefined && Date.parse(time) < options.since) return "";
  if (options.stream && line.slice(first + 1, second) !== options.stream) return "";
  const text = line.slice(third + 1) + (line.slice(second + 1, third) === "P" ? "" : "\n");
  return options.timestamps ? `${time} ${text}` : text;
}

/** Where the last `count` lines of a file begin, found from its end. */
export function tailStart(file: string, count: number): number {
  const size = statSync(file).size;
  if (count <= 0) return size;
  const fd = openSync(file, "r");
  const block = Buffer.alloc(65_536);
  try {
    let seen = 0;
    for (let end = size; end > 0;) {
      const start = Math.max(0, end - block.length);
      readSync(fd, block, 0, end - start, start);
      for (let i = end - start - 1; i >= 0; i--) {
        // The file's own last line end does not begin a line.
        if (block[i] === 10 && start + i !== size - 1 && ++seen === count) return start + i + 1;
      }
      end = start;
    }
    return 0;
  } finally {
    closeSync(fd);
  }
}
