/**
 * A cluster of its own for a test file, started and driven as a user would: `./underlay up`, then stock kubectl and aws.
 * `await using cluster = await TestCluster.up()` takes it down again, also when the test fails.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const repo = resolve(import.meta.dirname, "../..");
export const workshop = resolve(repo, "../shared/workshop");

export type Outcome = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs a command to its end, whatever its exit code. */
export function run(
  file: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; timeoutMs?: number; input?: string } = {},
): Promise<Outcome> {
  return new Promise((settle) => {
    const child = execFile(
      file,
      [...args],
      { env: options.env ?? process.env, timeout: options.timeoutMs ?? 120_000, maxBuffer: 64 << 20, encoding: "utf8" },
      (err, stdout, stderr) =>
        settle({ code: err ? (typeof err.code === "number" ? err.code : 255) : 0, stdout, stderr }),
    );
    child.stdin?.on("error", () => {}); // a command may end without reading its input
    child.stdin?.end(options.input ?? "");
  });
}

/** Like `run`, but a non-zero exit is an error that says what the command wrote. */
export async function runOk(
  file: string,
  args: readonly string[],
  options: Parameters<typeof run>[2] = {},
): Promise<string> {
  const outcome = await run(file, args, options);
  if (outcome.code !== 0)
    throw new Error(`${file} ${args.join(" ")} exited ${outcome.code}\n${outcome.stdout}\n${outcome.stderr}`);
  return outcome.stdout;
}

/** Polls until `look` gives a value; fails after the deadline with what it saw last. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 60_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen !== undefined) return seen;
      last = undefined;
    } catch (err) {
      last = err;
    }
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`, { cause: last });
    await sleep(100);
  }
}

export class TestCluster implements AsyncDisposable {
  readonly name: string;
  readonly stateRoot: string;
  #env: Record<string, string> = {};

  private constructor() {
    this.name = `t-${randomBytes(3).toString("hex")}`;
    this.stateRoot = mkdtempSync(join(tmpdir(), "underlay-test-"));
  }

  static async up(options: { file?: (name: string) => string; args?: readonly string[] } = {}): Promise<TestCluster> {
    const cluster = new TestCluster();
    try {
      await cluster.underlayOk(
        "up",
        ...(options.file ? ["-f", options.file(cluster.name)] : ["--name", cluster.name]),
        ...(options.args ?? []),
      );
      await cluster.readEnv();
      return cluster;
    } catch (err) {
      await cluster.keepEvidence();
      await cluster[Symbol.asyncDispose]();
      throw err;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.underlay("down", "--all");
    rmSync(this.stateRoot, { recursive: true, force: true });
  }

  get stateDir(): string {
    return join(this.stateRoot, this.name);
  }

  get record(): { clusterId: string; apiPort: number; kubePort: number } {
    return JSON.parse(readFileSync(join(this.stateDir, "cluster.json"), "utf8"));
  }

  /** Name of a network namespace of this cluster, e.g. `netns("internet")`. */
  netns(what: string): string {
    return `ul-${this.record.clusterId}-${what}`;
  }

  async readEnv(): Promise<void> {
    this.#env = JSON.parse(await this.underlayOk("env", "--json"));
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, UNDERLAY_STATE: this.stateRoot, ...this.#env };
  }

  underlay(...args: string[]): Promise<Outcome> {
    return run(join(repo, "underlay"), args, { env: this.env, timeoutMs: 240_000 });
  }

  async underlayOk(...args: string[]): Promise<string> {
    const outcome = await this.underlay(...args);
    if (outcome.code !== 0)
      throw new Error(`underlay ${args.join(" ")} exited ${outcome.code}\n${outcome.stdout}\n${outcome.stderr}`);
    return outcome.stdout;
  }

  kubectl(...args: string[]): Promise<Outcome> {
    return run("kubectl", args, { env: this.env });
  }

  kubectlOk(...args: string[]): Promise<string> {
    return runOk("kubectl", args, { env: this.env });
  }

  async kubectlJson<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.kubectlOk(...args, "-o", "json")) as T;
  }

  async aws<T>(...args: string[]): Promise<T> {
    return JSON.parse(await runOk("aws", [...args, "--output", "json"], { env: this.env })) as T;
  }

  /** Runs a command inside one of the cluster's network namespaces. */
  inNetns(what: string, file: string, ...args: string[]): Promise<Outcome> {
    return run("nsenter", [`--net=/run/netns/${this.netns(what)}`, file, ...args]);
  }

  async inNetnsOk(what: string, file: string, ...args: string[]): Promise<string> {
    return runOk("nsenter", [`--net=/run/netns/${this.netns(what)}`, file, ...args]);
  }

  /** A packet capture in a namespace; `stop` gives tcpdump's lines. */
  async capture(what: string, filter: string): Promise<{ stop(): Promise<string[]> }> {
    const child = spawn(
      "nsenter",
      [
        `--net=/run/netns/${this.netns(what)}`,
        "tcpdump",
        "-l",
        "-n",
        "-i",
        "any",
        "--immediate-mode",
        ...filter.split(" "),
      ],
      {
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    const lines = collect(child);
    await eventually("tcpdump to listen", () => (lines.stderr().includes("listening on") ? true : undefined), 10_000);
    return {
      stop: async () => {
        await sleep(200); // what is on its way to tcpdump's output
        child.kill("SIGINT");
        await new Promise((ended) => child.once("close", ended));
        return lines.stdout().split("\n").filter(Boolean);
      },
    };
  }

  /** `kubectl port-forward` on a free local port, until disposed. */
  async portForward(
    namespace: string,
    target: string,
    port: number,
  ): Promise<{ url: string; port: number } & Disposable> {
    const child = spawn("kubectl", ["port-forward", "-n", namespace, target, `:${port}`], {
      env: this.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const lines = collect(child);
    const local = await eventually(
      `port-forward to ${target}`,
      () => /127\.0\.0\.1:(\d+) ->/.exec(lines.stdout())?.[1],
      20_000,
    ).catch((err: Error) => {
      child.kill();
      throw new Error(`${err.message}\n${lines.stderr()}`);
    });
    return { url: `http://127.0.0.1:${local}`, port: Number(local), [Symbol.dispose]: () => void child.kill() };
  }

  /** Prints what one would look at first when a cluster does not come up. */
  async keepEvidence(): Promise<void> {
    try {
      console.log((await this.underlay("status")).stdout);
      console.log((await run("tail", ["-n", "30", join(this.stateDir, "logs/cloud.log")])).stdout);
      const pods = await run("kubectl", [
        "--kubeconfig",
        join(this.stateDir, "eks", this.name, "admin.kubeconfig"),
        "get",
        "pods,nodes",
        "-A",
        "-o",
        "wide",
      ]);
      console.log(pods.stdout, pods.stderr);
    } catch (err) {
      console.log("no evidence to be had", err);
    }
  }
}

function collect(child: ChildProcess): { stdout(): string; stderr(): string } {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return { stdout: () => stdout, stderr: () => stderr };
}

export type PodList = {
  items: {
    metadata: { name: string; namespace: string; uid: string };
    spec: { nodeName: string; hostNetwork?: boolean };
    status: {
      phase: string;
      podIP?: string;
      conditions?: { type: string; status: string; reason?: string; message?: string }[];
      containerStatuses?: { restartCount: number; containerID?: string }[];
    };
  }[];
};

export type NodeList = {
  items: {
    metadata: { name: string; labels: Record<string, string> };
    spec: { providerID: string };
    status: {
      addresses: { type: string; address: string }[];
      conditions: { type: string; status: string }[];
      nodeInfo: { containerRuntimeVersion: string };
      allocatable: Record<string, string>;
    };
  }[];
};

export function conditionOf(
  object: { status: { conditions?: { type: string; status: string }[] } },
  type: string,
): string | undefined {
  return object.status.conditions?.find((condition) => condition.type === type)?.status;
}

export function instanceIdOf(node: NodeList["items"][number]): string {
  return node.spec.providerID.split("/").at(-1) ?? "";
}
