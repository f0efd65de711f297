import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { claimPort, releasePorts } from "./ports.ts";

test("claimPort() gives two clusters two ports though neither listens yet, passes over one in use, and takes back a void claim", async () => {
  const [first, second] = ["a", "b"].map((name) => mkdtempSync(join(tmpdir(), `underlay-ports-${name}-`)));
  assert.ok(first && second);
  const base = 42_000 + (process.pid % 1000) * 10;
  const server = createServer().listen(base, "127.0.0.1");
  try {
    assert.equal(await claimPort(base, first), base + 1);
    assert.equal(await claimPort(base, second), base + 2);
    rmSync(first, { recursive: true });
    assert.equal(await claimPort(base, second), base + 1, "the first cluster is gone");
  } finally {
    server.close();
    releasePorts(first);
    releasePorts(second);
    rmSync(second, { recursive: true, force: true });
  }
});
