/**
 * The kubelet's end of a pod shim: start one, find one that runs, command it, hear of containers that end.
 * The other end and the wire: `src-lua/shim-server.ts`.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { luajit } from "./places.ts";
import type { AttachedStreams, PodProcesses } from "./runtime.ts";
import { readFrames, writeFrame } from "./shim-frames.ts";

export type ContainerState = {
  readonly id: string;
  readonly name: string;
  readonly attempt: number;
  /** As the node sees it. */
  readonly pid: number;
  readonly startedAt: string;
  readonly running: boolean;
  readonly finishedAt?: string;
  readonly exitCode?: number;
  readonly signal?: number;
  /** Why it ended, when the runtime knows more than the exit code (`OOMKilled`). */
  readonly reason?: string;
};

export type SandboxSpec = {
  readonly hostname: string;
  readonly netns?: string;
  readonly hostPid?: boolean;
  readonly hostIpc?: boolean;
  readonly sysctls?: Record<string, string>;
};

export type ShimMount = {
  readonly source: string;
  readonly target: string;
  readonly readOnly?: boolean;
  readonly propagation?: "None" | "HostToContainer" | "Bidirectional";
};

export type ContainerUser = {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly capabilities?: readonly number[];
  readonly noNewPrivs?: boolean;
};

export type ShimContainer = ContainerUser & {
  readonly id: string;
  readonly name: string;
  readonly attempt: number;
  /** The image as the runtime knows it; a shim does not need it. */
  readonly image: string;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly dir: string;
  readonly skeleton: string;
  readonly usrLayers?: readonly string[];
  readonly directories?: readonly string[];
  readonly readOnlyRoot?: boolean;
  readonly privileged?: boolean;
  readonly mounts: readonly ShimMount[];
  readonly logPath: string;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
  readonly tty?: boolean;
  readonly sharePid?: boolean;
};

export class ShimClient implements PodProcesses {
  readonly dir: string;
  #watch: Socket | undefined;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** Makes the sandbox: returns when the shim answers. */
  static async launch(luaDir: string, dir: string, spec: SandboxSpec): Promise<ShimClient> {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, "sandbox.json"), JSON.stringify(spec));
    await run(luajit, [join(luaDir, "pod-shim.lua"), dir]);
    return new ShimClient(dir);
  }

  /** The shim that still runs in `dir`, with what it knows; undefined when there is none. */
  static async find(dir: string): Promise<{ shim: ShimClient; containers: ContainerState[] } | undefined> {
    const shim = new ShimClient(dir);
    try {
      return { shim, containers: await shim.status() };
    } catch {
      return undefined;
    }
  }

  /** What a dead shim had written down: containers that ran then have ended without a known exit code. */
  static async lastStates(dir: string): Promise<ContainerState[]> {
    const names = await readdir(join(dir, "containers")).catch(() => [] as string[]);
    const states = await Promise.all(
      names
        .filter((n) => n.endsWith(".json"))
        .map(async (n) => JSON.parse(await readFile(join(dir, "containers", n), "utf8")) as ContainerState),
    );
    return states.map((s) =>
      s.running ? { ...s, running: false, exitCode: 137, signal: 9, finishedAt: new Date().toISOString() } : s,
    );
  }

  async status(): Promise<ContainerState[]> {
    const answer = await this.#ask<{ containers: ContainerState[] }>({ do: "status" });
    return answer.containers;
  }

  async start(container: ShimContainer): Promise<{ ok: true; state: ContainerState } | { ok: false; error: string }> {
    return this.#ask({ do: "start", container });
  }

  async signal(id: string, signal: number): Promise<void> {
    await this.#ask({ do: "signal", id, signal });
  }

  /** Kills everything in the sandbox and ends the shim. No error when it has gone already. */
  async stop(): Promise<void> {
    this.#watch?.destroy();
    await this.#ask({ do: "stop" }).catch(() => {});
  }

  /** Calls `ended` for each container that ends, `lost` once when the shim itself has gone. Resolves when the watch stands. */
  async watch(on: { ended: (state: ContainerState) => void; lost: () => void }): Promise<ContainerState[]> {
    const socket = connect(this.#socketPath());
    this.#watch = socket;
    return new Promise((resolve, reject) => {
      let answered = false;
      socket.on("error", (err) => (answered ? undefined : reject(err)));
      socket.on("close", () =>
        answered ? on.lost() : reject(new Error(`Cannot watch ${this.dir}: its shim closed the connection`)),
      );
      onLines(socket, (line) => {
        const message = JSON.parse(line) as { containers?: ContainerState[]; ended?: ContainerState };
        if (message.ended) on.ended(message.ended);
        else if (message.containers) {
          answered = true;
          resolve(message.containers);
        }
      });
      socket.write(`${JSON.stringify({ do: "watch" })}\n`);
    });
  }

  /** Stops hearing of ends; the shim goes on. */
  unwatch(): void {
    this.#watch?.removeAllListeners("close");
    this.#watch?.destroy();
  }

  /** Frames as `shim-server.ts` describes. */
  attach(id: string): AttachedStreams {
    const socket = connect(this.#socketPath());
    socket.on("error", () => {});
    socket.write(`${JSON.stringify({ do: "attach", id })}\n`);
    return {
      onOutput: (each) => readFrames(socket, each),
      onClose: (done) => void socket.on("close", done),
      write: (data) => writeFrame(socket, 0, data),
      endInput: () => writeFrame(socket, 3, Buffer.alloc(0)),
      resize: (w, h) => writeFrame(socket, 4, Buffer.from(JSON.stringify({ w, h }))),
      close: () => void socket.end(),
    };
  }

  #socketPath(): string {
    return join(this.dir, "control.sock");
  }

  #ask<T>(request: unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#socketPath());
      let text = "";
      socket.setTimeout(30_000, () =>
        socket.destroy(new Error(`Cannot command the shim in ${this.dir}: no answer in 30 s`)),
      );
      socket.setEncoding("utf8");
      socket.on("data", (more: string) => (text += more));
      socket.on("error", reject);
      socket.on("close", () => {
        if (text.endsWith("\n")) resolve(JSON.parse(text) as T);
        else reject(new Error(`Cannot command the shim in ${this.dir}: it closed the connection`));
      });
      socket.write(`${JSON.stringify(request)}\n`);
    });
  }
}

export function onLines(socket: Socket, each: (line: string) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) each(line);
  });
}

/** Runs a small program to its end; throws its stderr when it fails. */
export function run(program: string, argv: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, argv, { stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} ${argv.join(" ")} failed (${signal ?? code}): ${stderr.trim()}`));
    });
  });
}
