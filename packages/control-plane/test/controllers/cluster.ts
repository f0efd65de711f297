/** For tests: a real API server and the real controllers as processes of their own, on free ports, in a folder of their own. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KubeClient } from "@underlay/kube/client";
import { loadKubeConfig } from "@underlay/kube/config";
import { FakeKubelets } from "./fake-kubelet.ts";

const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url));

export class TestCluster {
  readonly directory: string;
  client!: KubeClient;
  kubelets!: FakeKubelets;
  #apiserver: ChildProcess | undefined;
  #controllers: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async start(): Promise<TestCluster> {
    const cluster = new TestCluster(await mkdtemp(join(tmpdir(), "ul-t-cp-")));
    try {
      await cluster.#settings(0);
      await cluster.startApiserver();
      const { server } = cluster.client.config;
      // Restarts must come back at the same door.
      await cluster.#settings(Number(new URL(server).port));
      cluster.startControllers();
      cluster.kubelets = new FakeKubelets(cluster.client);
      return cluster;
    } catch (err) {
      await cluster[Symbol.asyncDispose]();
      throw err;
    }
  }

  get kubeconfig(): string {
    return join(this.directory, "admin.kubeconfig");
  }

  async startApiserver(): Promise<void> {
    this.#apiserver = this.#run("apiserver/main.ts");
    await until("the API server is ready", async () => {
      this.client ??= new KubeClient(await loadKubeConfig(this.kubeconfig));
      await this.client.request("GET", "/readyz", { retryForMs: 0 });
      return true;
    });
  }

  startControllers(): void {
    this.#controllers = this.#run("controllers/main.ts");
  }

  async killApiserver(): Promise<void> {
    await kill(this.#apiserver);
  }

  async killControllers(): Promise<void> {
    await kill(this.#controllers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kubelets?.stop();
    this.client?.close();
    await Promise.all([kill(this.#controllers), kill(this.#apiserver)]);
    await rm(this.directory, { recursive: true, force: true });
  }

  #run(program: string): ChildProcess {
    const child = spawn(process.execPath, [source(program), join(this.directory, "settings.json")], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const lines: string[] = [];
    child.stderr?.on("data", (chunk: Buffer) => lines.push(String(chunk)));
    child.once("exit", (code) => {
      if (code) console.error(`${program} ended with ${code}:\n${lines.join("").slice(-4000)}`);
    });
    return child;
  }

  async #settings(kubePort: number): Promise<void> {
    await writeFile(join(this.directory, "settings.json"), JSON.stringify({ stateDir: this.directory, kubePort }));
  }
}

async function kill(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((done) => child.once("exit", done));
  child.kill("SIGKILL");
  await gone;
}

/** Waits until `condition` is true; errors count as not yet. Fails after 30 seconds with the last error. */
export async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  let last: unknown;
  for (;;) {
    try {
      if (await condition()) return;
    } catch (err) {
      last = err;
    }
    if (performance.now() > deadline) throw new Error(`Timed out waiting until ${what}`, { cause: last });
    await new Promise((done) => setTimeout(done, 30));
  }
}
