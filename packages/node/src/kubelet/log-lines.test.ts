import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseLogLine, tailStart } from "./log-lines.ts";

const line = "2026-01-01T00:00:01.000000000Z stdout F hello  world";

test("a line's text keeps its blanks; a partial line goes on in the next", () => {
  assert.equal(parseLogLine(line, { timestamps: false }), "hello  world\n");
  assert.equal(parseLogLine(line.replace(" F ", " P "), { timestamps: false }), "hello  world");
  assert.equal(parseLogLine("2026-01-01T00:00:01Z stdout F ", { timestamps: false }), "\n");
});

test("timestamps, since and stream choose", () => {
  assert.equal(parseLogLine(line, { timestamps: true }), "2026-01-01T00:00:01.000000000Z hello  world\n");
  assert.equal(parseLogLine(line, { timestamps: false, since: Date.parse("2026-01-01T00:00:02Z") }), "");
  assert.equal(parseLogLine(line, { timestamps: false, stream: "stderr" }), "");
});

test("tailStart() finds the last lines from the end, whatever the file's size", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "log-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, "0.log");
  const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`);
  writeFileSync(file, lines.join(""));
  const tail = (n: number) => readFileSync(file, "utf8").slice(tailStart(file, n));
  assert.equal(tail(2), "line 19998\nline 19999\n");
  assert.equal(tail(0), "");
  assert.equal(tail(15_000), lines.slice(-15_000).join(""));
  assert.equal(tail(30_000), lines.join(""));
});
