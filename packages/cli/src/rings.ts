/**
 * Runs the tests ring by ring and ends in one line `N passed, N failed` (`, N skipped`). A skip says why; with CI set,
 * a skipped test or a ring without a single test is a failure, because a ring that should have run did not.
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { resolve } from "node:path";
import { run } from "node:test";
import { UnderlayError } from "@underlay/log/underlay-error";

const repo = resolve(import.meta.dirname, "../../..");

type Ring = {
  readonly files: readonly string[];
  readonly concurrency: number;
  readonly timeoutMs: number;
  /** Why the ring cannot run on this machine; undefined when it can. */
  readonly missing?: () => string | undefined;
};

/** Clusters are driven by the stock kubectl, and Debian's own (1.20) is too old for exec and port-forward over WebSocket. */
function kubectlMissing(): string | undefined {
  const result = spawnSync("kubectl", ["version", "--client", "-o", "json"], { encoding: "utf8" });
  if (result.error || result.status !== 0) return "there is no kubectl (1.30 or later) on the PATH";
  const version = JSON.parse(result.stdout).clientVersion as { minor: string; gitVersion: string };
  return Number.parseInt(version.minor, 10) >= 30
    ? undefined
    : `kubectl is ${version.gitVersion}, 1.30 or later is needed`;
}

const rings: Record<string, Ring> = {
  pure: { files: ["packages/*/src/**/*.test.ts", "tools/*.test.ts"], concurrency: 2, timeoutMs: 60_000 },
  kernel: { files: ["packages/*/test/kernel/**/*.test.ts"], concurrency: 1, timeoutMs: 180_000 },
  wire: {
    files: ["packages/*/test/{wire,conformance,controllers}/**/*.test.ts"],
    concurrency: 1,
    timeoutMs: 240_000,
    missing: kubectlMissing,
  },
  e2e: { files: ["test/e2e/*.test.ts"], concurrency: 1, timeoutMs: 600_000, missing: kubectlMissing },
  faults: { files: ["test/faults/*.test.ts"], concurrency: 1, timeoutMs: 600_000, missing: kubectlMissing },
};

type Tally = { passed: number; failed: number; skipped: number };

/** Runs the named rings (all when none is named); the exit code. */
export async function runRings(names: readonly string[]): Promise<number> {
  Object.assign(process.env, withPinnedNode());
  const chosen = names.length > 0 ? names : ["check", ...Object.keys(rings)];
  const total: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const name of chosen) {
    const began = Date.now();
    const tally = name === "check" ? runChecks() : await runRing(name);
    console.log(
      `${name}: ${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped in ${Math.round((Date.now() - began) / 1000)} s`,
    );
    total.passed += tally.passed;
    total.failed += tally.failed;
    total.skipped += tally.skipped;
  }
  console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ""}`);
  return total.failed > 0 || (process.env["CI"] && total.skipped > 0) ? 1 : 0;
}

function runChecks(): Tally {
  const result = spawnSync(resolve(repo, "tools/check"), { cwd: repo, stdio: "inherit" });
  return result.status === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
}

async function runRing(name: string): Promise<Tally> {
  const ring = rings[name];
  if (!ring)
    throw new UnderlayError(
      "NoSuchRing",
      `Cannot run ring ${name}: the rings are check, ${Object.keys(rings).join(", ")}`,
    );
  const files = ring.files.flatMap((pattern) => globSync(pattern, { cwd: repo })).sort();
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  if (files.length === 0) {
    console.log(`✗ ring ${name} has no test file`);
    return { ...tally, failed: 1 };
  }
  const missing = ring.missing?.();
  if (missing) {
    console.log(`- skipped: ring ${name} (${files.length} files): ${missing}`);
    return { ...tally, skipped: files.length };
  }
  const stream = run({
    files: files.map((file) => resolve(repo, file)),
    cwd: repo,
    concurrency: ring.concurrency,
    timeout: ring.timeoutMs,
  });
  for await (const event of stream) {
    if (event.type === "test:pass" || event.type === "test:fail") count(tally, event);
  }
  return tally;
}

type Outcome = {
  type: "test:pass" | "test:fail";
  data: {
    name: string;
    skip?: string | boolean;
    todo?: string | boolean;
    file?: string;
    details: { type?: string | undefined; error?: Error & { cause?: unknown } };
  };
};

function count(tally: Tally, { type, data }: Outcome): void {
  if (data.details.type === "suite") return;
  const where = (data.file ?? "").replace(`${repo}/`, "");
  if (data.skip !== undefined) {
    tally.skipped++;
    console.log(`- skipped: ${data.name} (${where}): ${String(data.skip)}`);
  } else if (type === "test:pass") {
    tally.passed++;
  } else {
    tally.failed++;
    const cause = data.details.error?.cause ?? data.details.error;
    console.log(
      `✗ ${data.name} (${where})\n${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}`,
    );
  }
}

/** Tests and checks start `node` by name: it must be this one. */
function withPinnedNode(): { PATH: string } {
  return { PATH: `${resolve(process.execPath, "..")}:${process.env["PATH"] ?? ""}` };
}
