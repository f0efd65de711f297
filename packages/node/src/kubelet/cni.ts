/**
 * Runs CNI plugins by the specification (ADD, DEL, CHECK): environment and stdin in, JSON out; plugins chained through prevResult;
 * results kept under /var/lib/cni/results so that DEL and CHECK get them back also after a restart of the kubelet.
 * The pure half is `cni-config.ts`.
 */
import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { findNetwork, pluginInput, type CniResult, type NetworkList, type PortMapping } from "./cni-config.ts";

export type Attachment = {
  readonly containerId: string;
  readonly netns: string;
  readonly podNamespace: string;
  readonly podName: string;
  readonly podUid: string;
  readonly portMappings: readonly PortMapping[];
  readonly bandwidth?: { readonly ingressRate?: number; readonly egressRate?: number };
};

export type CniPlaces = { readonly confDir: string; readonly binDirs: readonly string[]; readonly cacheDir: string };

/** A plugin's own error object (CNI spec, "Error"), or a crash of it. */
export class CniError extends Error {
  readonly code: number;
  readonly details: string;
  constructor(plugin: string, code: number, msg: string, details = "") {
    super(details ? `${msg}; ${details}` : msg);
    this.name = `CNI plugin ${plugin}`;
    this.code = code;
    this.details = details;
  }
}

type Cached = { readonly network: NetworkList; readonly result: CniResult; readonly attachment: Attachment };

const ifName = "eth0";
const timeoutMs = 120_000;

export class Cni {
  readonly #places: CniPlaces;

  constructor(places: CniPlaces) {
    this.#places = places;
  }

  network(): NetworkList | undefined {
    return findNetwork(this.#places.confDir);
  }

  async add(attachment: Attachment): Promise<CniResult> {
    const network = this.network();
    if (!network) throw new CniError("", 999, "cni plugin not initialized");
    let result: CniResult | undefined;
    for (const plugin of network.plugins) {
      const input = pluginInput(network, plugin, capabilities(attachment), result);
      result = JSON.parse(await this.#run("ADD", plugin.type, attachment, input)) as CniResult;
    }
    await this.#remember({ network, result: result ?? {}, attachment });
    return result ?? {};
  }

  /** In reverse order; all plugins are called, the first error is thrown at the end. */
  async delete(attachment: Attachment): Promise<void> {
    const cached = await this.#cached(attachment);
    const network = cached?.network ?? this.network();
    if (!network) return;
    let failure: unknown;
    for (const plugin of [...network.plugins].reverse()) {
      const input = pluginInput(network, plugin, capabilities(cached?.attachment ?? attachment), cached?.result);
      await this.#run("DEL", plugin.type, attachment, input).catch((err: unknown) => (failure ??= err));
    }
    if (failure) throw failure;
    await rm(this.#cacheFile(attachment, network.name), { force: true });
    await rm(this.#indexFile(attachment), { force: true });
  }

  async check(attachment: Attachment): Promise<void> {
    const cached = await this.#cached(attachment);
    if (!cached || cached.network.disableCheck) return;
    for (const plugin of cached.network.plugins) {
      await this.#run(
        "CHECK",
        plugin.type,
        attachment,
        pluginInput(cached.network, plugin, capabilities(cached.attachment), cached.result),
      );
    }
  }

  /** Everything that was added and not deleted, by what is written down. */
  async listAttachments(): Promise<Attachment[]> {
    const dir = join(this.#places.cacheDir, "results");
    const names = await readdir(dir).catch(() => [] as string[]);
    const found = await Promise.all(
      names
        .filter((name) => !name.startsWith("."))
        .map((name) =>
          readFile(join(dir, name), "utf8").then(
            (text) => (JSON.parse(text) as Cached).attachment,
            () => undefined,
          ),
        ),
    );
    return found.filter((attachment) => attachment !== undefined);
  }

  async #run(command: string, type: string, attachment: Attachment, input: unknown): Promise<string> {
    const file = this.#places.binDirs.map((dir) => join(dir, type)).find((path) => existsSync(path));
    if (!file)
      throw new CniError(type, 999, `failed to find plugin "${type}" in path [${this.#places.binDirs.join(" ")}]`);
    const args = {
      IgnoreUnknown: "1",
      K8S_POD_NAMESPACE: attachment.podNamespace,
      K8S_POD_NAME: attachment.podName,
      K8S_POD_INFRA_CONTAINER_ID: attachment.containerId,
      K8S_POD_UID: attachment.podUid,
    };
    const env = {
      PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      CNI_COMMAND: command,
      CNI_CONTAINERID: attachment.containerId,
      CNI_NETNS: attachment.netns,
      CNI_IFNAME: ifName,
      CNI_ARGS: Object.entries(args)
        .map(([key, value]) => `${key}=${value}`)
        .join(";"),
      CNI_PATH: this.#places.binDirs.join(":"),
    };
    const { code, stdout, stderr } = await runPlugin(file, env, JSON.stringify(input));
    if (code === 0) return stdout;
    throw parseError(type, stdout, stderr, code);
  }

  async #remember(cached: Cached): Promise<void> {
    const file = this.#cacheFile(cached.attachment, cached.network.name);
    await mkdir(join(this.#places.cacheDir, "results"), { recursive: true });
    await writeFile(`${file}.new`, JSON.stringify({ kind: "cniCacheV1", ...cached }));
    await rename(`${file}.new`, file);
    await writeFile(this.#indexFile(cached.attachment), cached.network.name);
  }

  async #cached(attachment: Attachment): Promise<Cached | undefined> {
    try {
      const name = await readFile(this.#indexFile(attachment), "utf8");
      return JSON.parse(await readFile(this.#cacheFile(attachment, name), "utf8")) as Cached;
    } catch {
      return undefined;
    }
  }

  #cacheFile(attachment: Attachment, network: string): string {
    return join(this.#places.cacheDir, "results", `${network}-${attachment.containerId}-${ifName}`);
  }

  #indexFile(attachment: Attachment): string {
    return join(this.#places.cacheDir, "results", `.network-of-${attachment.containerId}`);
  }
}

function capabilities(attachment: Attachment): Record<string, unknown> {
  return {
    portMappings: attachment.portMappings,
    ...(attachment.bandwidth ? { bandwidth: attachment.bandwidth } : {}),
  };
}

function parseError(type: string, stdout: string, stderr: string, code: number | null): CniError {
  try {
    const error = JSON.parse(stdout) as { code?: number; msg?: string; details?: string };
    if (error.msg) return new CniError(type, error.code ?? 999, error.msg, error.details);
  } catch {
    // not JSON: the plugin died before it could answer
  }
  return new CniError(
    type,
    999,
    `plugin type="${type}" failed with exit code ${code}: ${(stderr || stdout).trim().slice(0, 500) || "no error message"}`,
  );
}

function runPlugin(
  file: string,
  env: Record<string, string>,
  input: string,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, [], { env, stdio: ["pipe", "pipe", "pipe"], timeout: timeoutMs, killSignal: "SIGKILL" });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject);
    child.stdin.on("error", () => {}); // a plugin may end without reading
    child.on("close", (code, signal) =>
      resolve({
        code: code ?? (signal ? 128 : null),
        stdout,
        stderr: signal ? `${stderr} (killed by ${signal})` : stderr,
      }),
    );
    child.stdin.end(input);
  });
}
