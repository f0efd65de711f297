/** A real API server process on a free port with a state folder of its own, and kubectl against it. */
import type { AnyJson } from "../../src/apiserver/api-object.ts";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";

const main = join(import.meta.dirname, "../../src/apiserver/main.ts");

export type KubectlResult = { code: number; stdout: string; stderr: string };

export class ServerProcess {
  readonly stateDir: string;
  #child: ChildProcess | undefined;
  #log = "";

  constructor() {
    this.stateDir = mkdtempSync(join(tmpdir(), "underlay-apiserver-"));
  }

  static async start(): Promise<ServerProcess> {
    const server = new ServerProcess();
    await server.start();
    return server;
  }

  get kubeconfig(): string {
    return join(this.stateDir, "admin.kubeconfig");
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  /** Starts (again) on the same state; the port stays once chosen. */
  async start(port = 0): Promise<void> {
    const settings = join(this.stateDir, "settings.json");
    writeFileSync(settings, JSON.stringify({ stateDir: this.stateDir, kubePort: port }));
    this.#child = spawn(process.execPath, [main, settings], { stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr!.on("data", (chunk: Buffer) => {
      this.#log += chunk.toString();
    });
    const started = this.#log.length;
    await until(() => {
      if (this.#child!.exitCode !== null) throw new Error(`the server ended: ${this.#log}`);
      return this.#log.slice(started).includes('"msg":"serving"');
    });
  }

  async kill(): Promise<void> {
    const child = this.#child!;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async dispose(): Promise<void> {
    if (this.#child?.exitCode === null && this.#child.signalCode === null) await this.kill();
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  kubectl(args: string | readonly string[], input?: string): Promise<KubectlResult> {
    const argv = typeof args === "string" ? args.split(" ") : args;
    return new Promise((resolve) => {
      const child = execFile(
        "kubectl",
        [`--kubeconfig=${this.kubeconfig}`, `--cache-dir=${join(this.stateDir, "cache")}`, ...argv],
        { timeout: 60_000, maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, stdout, stderr });
        },
      );
      child.stdin!.end(input ?? "");
    });
  }

  /** kubectl that must succeed; answers its standard output. */
  async ok(args: string | readonly string[], input?: string): Promise<string> {
    const { code, stdout, stderr } = await this.kubectl(args, input);
    if (code !== 0) throw new Error(`kubectl ${String(args)} ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  /** A bare request as admin. */
  request(
    method: string,
    path: string,
    options: { body?: unknown; headers?: Record<string, string>; anonymous?: boolean } = {},
  ): Promise<{ status: number; headers: Record<string, unknown>; text: string; json: AnyJson }> {
    const { server, ca, cert, key } = this.credentials();
    const body =
      options.body === undefined
        ? undefined
        : typeof options.body === "string" || Buffer.isBuffer(options.body)
          ? options.body
          : JSON.stringify(options.body);
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        server + path,
        {
          method,
          ca,
          ...(options.anonymous === true ? {} : { cert, key }),
          agent: false,
          headers: {
            "content-type": "application/json",
            ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
            ...options.headers,
          },
        },
        (response) => {
          let text = "";
          response.on("data", (chunk: Buffer) => (text += chunk.toString()));
          response.on("end", () =>
            resolve({
              status: response.statusCode!,
              headers: response.headers,
              text,
              json: text.startsWith("{") && !text.includes("}\n{") ? JSON.parse(text) : undefined,
            }),
          );
        },
      );
      request.on("error", reject);
      request.end(body);
    });
  }

  /** Opens a watch; `events` fills as they come. */
  watch(
    path: string,
    headers: Record<string, string> = {},
  ): { events: AnyJson[]; close(): void; ended: Promise<void> } {
    const { server, ca, cert, key } = this.credentials();
    const events: AnyJson[] = [];
    let rest = "";
    let finish: () => void = () => {};
    const ended = new Promise<void>((resolve) => (finish = resolve));
    const request = httpsRequest(server + path, { ca, cert, key, agent: false, headers }, (response) => {
      response.on("data", (chunk: Buffer) => {
        const lines = (rest + chunk.toString()).split("\n");
        rest = lines.pop()!;
        for (const line of lines) events.push(JSON.parse(line));
      });
      response.on("close", () => finish());
      response.on("error", () => finish());
    });
    request.on("error", () => finish());
    request.end();
    return { events, close: () => request.destroy(), ended };
  }

  credentials(): { server: string; ca: string; cert: string; key: string } {
    const config = parse(readFileSync(this.kubeconfig, "utf8"));
    const decode = (text: string): string => Buffer.from(text, "base64").toString();
    const { user } = config.users[0];
    return {
      server: config.clusters[0].cluster.server,
      ca: decode(config.clusters[0].cluster["certificate-authority-data"]),
      cert: decode(user["client-certificate-data"]),
      key: decode(user["client-key-data"]),
    };
  }

  get port(): number {
    return Number(new URL(this.credentials().server).port);
  }
}

/** Waits until `condition` holds; throws after ten seconds. */
export async function until(condition: () => boolean | Promise<boolean>, what = "condition"): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what} did not come true within ten seconds`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
