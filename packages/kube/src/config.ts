/**
 * Where the API server is and who we are: kubeconfig files, exec credential plugins, in-cluster configuration.
 * Read next: exec-credentials.ts (plugins), client.ts (what uses this).
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, resolve } from "node:path";
import { UnderlayError } from "@underlay/log/underlay-error";
import { execCredentials, type ExecConfig } from "./exec-credentials.ts";

/** PEM text throughout. */
export type TlsSettings = { ca?: string; cert?: string; key?: string; servername?: string; insecure?: boolean };

export type Credentials = { token?: string; username?: string; password?: string; cert?: string; key?: string };

export type KubeConfig = {
  /** "https://host:port", without a trailing slash. */
  server: string;
  /** The context's namespace, "default" when unset. */
  namespace: string;
  tls: TlsSettings;
  /** What to send with the next request; `refresh` asks for a fresh answer after a 401. */
  credentials?: (refresh: boolean) => Promise<Credentials>;
};

const serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";
const tokenRereadMs = 60_000;

type Named<K extends string, T> = { name: string } & { [key in K]: T };
type ClusterEntry = {
  server?: string;
  "certificate-authority"?: string;
  "certificate-authority-data"?: string;
  "insecure-skip-tls-verify"?: boolean;
  "tls-server-name"?: string;
};
type UserEntry = {
  "client-certificate"?: string;
  "client-certificate-data"?: string;
  "client-key"?: string;
  "client-key-data"?: string;
  token?: string;
  tokenFile?: string;
  username?: string;
  password?: string;
  exec?: ExecConfig;
};
type KubeConfigFile = {
  "current-context"?: string;
  clusters?: Named<"cluster", ClusterEntry>[];
  users?: Named<"user", UserEntry>[];
  contexts?: Named<"context", { cluster: string; user: string; namespace?: string }>[];
};

/** Reads one kubeconfig file. Relative paths in it are relative to the file, as kubectl has it. */
export async function loadKubeConfig(file: string, options: { context?: string } = {}): Promise<KubeConfig> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (err) {
    throw new UnderlayError("KubeConfigUnreadable", `Cannot read the kubeconfig ${file}: ${(err as Error).message}`, {
      cause: err,
    });
  }
  const parsed = (await parseYaml(text)) as KubeConfigFile | null;
  const contextName = options.context ?? parsed?.["current-context"] ?? "";
  const context = parsed?.contexts?.find((entry) => entry.name === contextName)?.context;
  if (!parsed || !context) throw missing(file, `context "${contextName}"`);
  const cluster = parsed.clusters?.find((entry) => entry.name === context.cluster)?.cluster;
  if (!cluster?.server) throw missing(file, `cluster "${context.cluster}" with a server`);
  const user = parsed.users?.find((entry) => entry.name === context.user)?.user ?? {};
  const inline = async (data: string | undefined, path: string | undefined) => {
    if (data) return Buffer.from(data, "base64").toString("utf8");
    return path ? readFile(resolve(dirname(file), path), "utf8") : undefined;
  };
  const tls = withoutUndefined<TlsSettings>({
    ca: await inline(cluster["certificate-authority-data"], cluster["certificate-authority"]),
    cert: await inline(user["client-certificate-data"], user["client-certificate"]),
    key: await inline(user["client-key-data"], user["client-key"]),
    servername: cluster["tls-server-name"],
    insecure: cluster["insecure-skip-tls-verify"],
  });
  const server = cluster.server.replace(/\/+$/, "");
  const config: KubeConfig = { server, namespace: context.namespace ?? "default", tls };
  const credentials = credentialsOf(user, file, { server, ca: tls.ca });
  return credentials ? { ...config, credentials } : config;
}

/** The configuration of a pod: service variables, the mounted token (re-read every minute) and CA. */
export async function inClusterConfig(
  env: NodeJS.ProcessEnv = process.env,
  directory = serviceAccountDirectory,
): Promise<KubeConfig> {
  const host = env["KUBERNETES_SERVICE_HOST"];
  const port = env["KUBERNETES_SERVICE_PORT"];
  if (!host || !port) {
    throw new UnderlayError(
      "NotInCluster",
      "Cannot use the in-cluster configuration: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set",
      {
        hint: "Give a kubeconfig file, or run as a pod.",
      },
    );
  }
  const namespaceFile = `${directory}/namespace`;
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    namespace: existsSync(namespaceFile) ? (await readFile(namespaceFile, "utf8")).trim() : "default",
    tls: { ca: await readFile(`${directory}/ca.crt`, "utf8") },
    credentials: tokenFile(`${directory}/token`),
  };
}

/** The file given, else $KUBECONFIG (its first existing file), else in-cluster, else ~/.kube/config. */
export async function defaultKubeConfig(options: { file?: string; context?: string } = {}): Promise<KubeConfig> {
  const fromEnv = process.env["KUBECONFIG"]?.split(":").find((file) => file !== "" && existsSync(file));
  const file = options.file ?? fromEnv;
  if (file) return loadKubeConfig(file, options);
  if (process.env["KUBERNETES_SERVICE_HOST"] && existsSync(`${serviceAccountDirectory}/token`))
    return inClusterConfig();
  return loadKubeConfig(`${homedir()}/.kube/config`, options);
}

function credentialsOf(
  user: UserEntry,
  file: string,
  cluster: { server: string; ca: string | undefined },
): KubeConfig["credentials"] {
  if (user.exec) return execCredentials(user.exec, dirname(file), cluster);
  if (user.tokenFile) return tokenFile(resolve(dirname(file), user.tokenFile));
  const { token, username, password } = user;
  if (token) return async () => ({ token });
  if (username !== undefined) return async () => ({ username, password: password ?? "" });
  return undefined;
}

function tokenFile(path: string): NonNullable<KubeConfig["credentials"]> {
  let token = "";
  let readAt = Number.NEGATIVE_INFINITY;
  return async (refresh) => {
    const now = performance.now();
    if (refresh || now - readAt > tokenRereadMs) {
      try {
        token = (await readFile(path, "utf8")).trim();
        readAt = now;
      } catch (err) {
        // The kubelet swaps projected files; the last good token is usually still valid.
        if (token === "") throw err;
      }
    }
    return { token };
  };
}

async function parseYaml(text: string): Promise<unknown> {
  // JSON is YAML; files we write ourselves spare their readers the parser's memory.
  if (text.trimStart().startsWith("{")) return JSON.parse(text);
  return (await import("yaml")).parse(text);
}

function missing(file: string, what: string): UnderlayError {
  return new UnderlayError("KubeConfigIncomplete", `Cannot use the kubeconfig ${file}: it has no ${what}`, {
    hint: "Set current-context, or name a context that exists.",
  });
}

function withoutUndefined<T extends object>(value: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}
