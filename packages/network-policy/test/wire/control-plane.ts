/** A real API server and the controller, as processes on a state folder of their own; kubectl and a client for both. */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { KubeClient } from "@underlay/kube/client";
import { loadKubeConfig } from "@underlay/kube/config";
import { customResourceDefinitions, configMaps } from "@underlay/kube/resources";
import { parse } from "yaml";
import { policyEndpoints, type PolicyEndpoint } from "../../src/api/policy-endpoint.ts";

const repo = join(import.meta.dirname, "../../../..");
const programs = {
  apiserver: join(repo, "packages/control-plane/src/apiserver/main.ts"),
  controller: join(repo, "packages/network-policy/src/controller/main.ts"),
};

export class ControlPlane implements AsyncDisposable {
  readonly stateDir = mkdtempSync(join(tmpdir(), "underlay-policy-"));
  readonly #children = new Set<ChildProcess>();
  #client: KubeClient | undefined;
  #log = "";

  /** An API server that has the definition of PolicyEndpoint, with network policies switched on. */
  static async start(): Promise<ControlPlane> {
    const plane = new ControlPlane();
    writeFileSync(plane.settings, JSON.stringify({ stateDir: plane.stateDir, kubePort: 0 }));
    plane.#spawn(programs.apiserver, [plane.settings]);
    await until("the API server", () => existsSync(plane.kubeconfig));
    plane.#client = new KubeClient(await loadKubeConfig(plane.kubeconfig));
    const text = readFileSync(join(repo, "packages/network-policy/manifests/policyendpoints.yaml"), "utf8");
    await plane.client.create(customResourceDefinitions, parse(text));
    await plane.switch(true);
    return plane;
  }

  get settings(): string {
    return join(this.stateDir, "settings.json");
  }

  get kubeconfig(): string {
    return join(this.stateDir, "admin.kubeconfig");
  }

  get client(): KubeClient {
    return this.#client!;
  }

  /** Everything the programs logged. */
  get log(): string {
    return this.#log;
  }

  controller(...flags: string[]): ChildProcess {
    return this.#spawn(programs.controller, [this.settings, ...flags]);
  }

  async switch(isOn: boolean): Promise<void> {
    const data = { "enable-network-policy-controller": String(isOn) };
    const object = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "amazon-vpc-cni", namespace: "kube-system" },
      data,
    };
    await this.client.apply(configMaps, object, { fieldManager: "test", force: true });
  }

  async kubectl(...args: string[]): Promise<string> {
    const all = ["--kubeconfig", this.kubeconfig, "--cache-dir", join(this.stateDir, "cache"), ...args];
    return (await promisify(execFile)("kubectl", all, { timeout: 60_000 })).stdout;
  }

  endpoints(): Promise<PolicyEndpoint[]> {
    return this.client.listAll(policyEndpoints);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.close();
    await Promise.all([...this.#children].map((child) => stopped(child, "SIGKILL")));
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    child.stderr.on("data", (chunk: Buffer) => (this.#log += chunk.toString()));
    this.#children.add(child);
    return child;
  }
}

/** Ends a child and waits for its end. */
export async function stopped(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await ended;
}

/** Waits until `probe` gives true; fails with what it was waiting for, and what was last thrown. */
export async function until(what: string, probe: () => Promise<boolean> | boolean, seconds = 20): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  for (let last: unknown; ;) {
    try {
      if (await probe()) return;
    } catch (err) {
      last = err;
    }
    if (Date.now() > deadline) throw new Error(`gave up waiting for ${what}`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
