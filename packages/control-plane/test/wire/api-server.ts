/** Starts a real API server in this process on a free port, and kubectl against it. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApiServer, type ApiServer } from "../../src/apiserver/server.ts";
import { completeSettings } from "../../src/apiserver/settings.ts";

export type Ran = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

export type TestServer = AsyncDisposable & {
  readonly server: ApiServer;
  readonly stateDir: string;
  readonly kubeconfig: string;
  readonly authority: { cert: string; key: string };
  /** Runs kubectl as admin (or with other leading arguments); never throws for its exit code. */
  kubectl(args: readonly string[], input?: string): Promise<Ran>;
  /** Runs kubectl and fails the test unless it exits 0; gives its standard output. */
  ok(args: readonly string[], input?: string): Promise<string>;
};

/** Another kubectl than the first of the path: `UNDERLAY_TEST_KUBECTL=/usr/bin/kubectl.1.28 node --test …`. */
export const kubectlProgram = process.env["UNDERLAY_TEST_KUBECTL"] ?? "kubectl";

const silent = {
  debug() {},
  info() {},
  warn() {},
  error: (event: string, fields?: unknown) => console.error(event, fields),
  child: () => silent,
};

export async function startTestServer(more: Record<string, unknown> = {}): Promise<TestServer> {
  const stateDir = (more["stateDir"] as string | undefined) ?? mkdtempSync(join(tmpdir(), "apiserver-wire-"));
  const settings = completeSettings({ ...more, stateDir, kubePort: 0 });
  const server = await startApiServer(settings, { log: silent as never });
  const kubeconfig = join(stateDir, "admin.kubeconfig");
  const kubectl = (args: readonly string[], input?: string) =>
    run([kubectlProgram, "--kubeconfig", kubeconfig, "--cache-dir", join(stateDir, "cache"), ...args], input);
  return {
    server,
    stateDir,
    kubeconfig,
    kubectl,
    authority: {
      cert: readFileSync(settings.caCertFile ?? join(stateDir, "pki/ca.crt"), "utf8"),
      key: readFileSync(settings.caKeyFile ?? join(stateDir, "pki/ca.key"), "utf8"),
    },
    ok: async (args, input) => {
      const ran = await kubectl(args, input);
      if (ran.code !== 0) throw new Error(`kubectl ${args.join(" ")} exited ${ran.code}: ${ran.stderr}`);
      return ran.stdout;
    },
    [Symbol.asyncDispose]: async () => {
      await server.close();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

/** Runs a program to its end. */
export function run([program, ...args]: readonly string[], input = ""): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"], timeout: 60_000 });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}

/** Waits until `probe` gives a value; fails after `seconds` with what it was waiting for. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  seconds = 15,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`gave up waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
