/** Runs a program in a container that runs: a child of `exec-in-pod.lua`, which enters the container's namespaces. */
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import type { Duplex, Readable, Writable } from "node:stream";
import { luajit } from "./places.ts";
import type { ContainerUser } from "./shim-client.ts";

export type ExecTarget = ContainerUser & {
  readonly containerId: string;
  readonly pid: number;
  readonly env: readonly string[];
  readonly cwd: string;
};

export type Running = {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  resize(width: number, height: number): void;
  kill(): void;
  /** Resolves after both outputs have ended. `error` says why the program could not be started. */
  readonly done: Promise<{ code: number; error?: string }>;
};

export function execInPod(luaDir: string, target: ExecTarget, argv: readonly string[], tty: boolean): Running {
  const child: ChildProcess = spawn(luajit, [join(luaDir, "exec-in-pod.lua")], {
    stdio: ["pipe", "pipe", "pipe", "pipe"],
  });
  const control = child.stdio[3] as Duplex;
  let report = "";
  control.setEncoding("utf8");
  control.on("data", (text: string) => (report += text));
  control.on("error", () => {});
  const env = tty && !target.env.some((e) => e.startsWith("TERM=")) ? [...target.env, "TERM=xterm"] : target.env;
  control.write(`${JSON.stringify({ ...target, env, argv, tty })}\n`);
  const [stdin, stdout, stderr] = [child.stdin, child.stdout, child.stderr];
  if (!stdin || !stdout || !stderr) throw new Error("Cannot exec: the child has no pipes");
  stdin.on("error", () => {});
  const done = new Promise<{ code: number; error?: string }>((resolve) => {
    child.on("error", (err) => resolve({ code: 126, error: err.message }));
    child.on("close", (code, signal) => {
      const error = findError(report);
      resolve({ code: code ?? (signal ? 137 : 1), ...(error === undefined ? {} : { error }) });
    });
  });
  return {
    stdin,
    stdout,
    stderr,
    resize: (width, height) => void control.write(`${JSON.stringify({ w: width, h: height })}\n`),
    kill: () => void child.kill("SIGKILL"),
    done,
  };
}

export type Collected = { code: number; output: string; timedOut: boolean; error?: string };

/** Runs to the end or the time limit and returns what it printed. */
export async function execAndCollect(
  luaDir: string,
  target: ExecTarget,
  argv: readonly string[],
  timeoutMs: number,
): Promise<Collected> {
  const running = execInPod(luaDir, target, argv, false);
  let output = "";
  let timedOut = false;
  const take = (chunk: Buffer) => {
    if (output.length < 10_240) output += chunk.toString("utf8");
  };
  running.stdout.on("data", take);
  running.stderr.on("data", take);
  running.stdin.end();
  const timer = setTimeout(() => {
    timedOut = true;
    running.kill();
  }, timeoutMs);
  const result = await running.done;
  clearTimeout(timer);
  return { code: result.code, output, timedOut, ...(result.error === undefined ? {} : { error: result.error }) };
}

function findError(report: string): string | undefined {
  if (!report.includes("\n")) return undefined;
  return (JSON.parse(report.slice(0, report.indexOf("\n"))) as { error?: string }).error;
}
