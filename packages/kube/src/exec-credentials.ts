/** Exec credential plugins (client.authentication.k8s.io): run once, kept until shortly before they expire. */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { UnderlayError } from "@underlay/log/underlay-error";
import type { Credentials } from "./config.ts";

export type ExecConfig = {
  apiVersion: string;
  command: string;
  args?: string[] | null;
  env?: { name: string; value: string }[] | null;
  provideClusterInfo?: boolean;
  installHint?: string;
};

type ExecCredential = {
  apiVersion?: string;
  status?: { expirationTimestamp?: string; token?: string; clientCertificateData?: string; clientKeyData?: string };
};

const expiryMarginMs = 10_000;

/** A credentials function over the plugin `exec`. Concurrent callers share one run. */
export function execCredentials(
  exec: ExecConfig,
  directory: string,
  cluster: { server: string; ca: string | undefined },
) {
  let cached: { credentials: Credentials; expiresAt: number } | undefined;
  let running: Promise<Credentials> | undefined;
  return async (refresh: boolean): Promise<Credentials> => {
    if (!refresh && cached && Date.now() < cached.expiresAt - expiryMarginMs) return cached.credentials;
    running ??= runPlugin(exec, directory, cluster)
      .then((credential) => {
        cached = readCredential(credential);
        return cached.credentials;
      })
      .finally(() => {
        running = undefined;
      });
    return running;
  };
}

function readCredential(credential: ExecCredential): { credentials: Credentials; expiresAt: number } {
  const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = credential.status ?? {};
  const expiresAt = expirationTimestamp ? Date.parse(expirationTimestamp) : Number.POSITIVE_INFINITY;
  return { credentials: { ...(token ? { token } : {}), ...(cert && key ? { cert, key } : {}) }, expiresAt };
}

function runPlugin(
  exec: ExecConfig,
  directory: string,
  cluster: { server: string; ca: string | undefined },
): Promise<ExecCredential> {
  const env: NodeJS.ProcessEnv = { ...process.env };
  for (const { name, value } of exec.env ?? []) env[name] = value;
  const clusterInfo = {
    server: cluster.server,
    ...(cluster.ca ? { "certificate-authority-data": Buffer.from(cluster.ca).toString("base64") } : {}),
  };
  env["KUBERNETES_EXEC_INFO"] = JSON.stringify({
    apiVersion: exec.apiVersion,
    kind: "ExecCredential",
    spec: { interactive: false, ...(exec.provideClusterInfo ? { cluster: clusterInfo } : {}) },
  });
  // As kubectl: a command with a slash is relative to the kubeconfig, otherwise it is looked up in PATH.
  const command = exec.command.includes("/") ? resolve(directory, exec.command) : exec.command;
  return new Promise((done, fail) => {
    execFile(command, exec.args ?? [], { env, timeout: 60_000, maxBuffer: 1 << 20 }, (err, stdout, stderr) => {
      const refuse = (why: string) =>
        fail(
          new UnderlayError(
            "CredentialPluginFailed",
            `Cannot get credentials from ${[exec.command, ...(exec.args ?? [])].join(" ")}: ${why}`,
            {
              cause: err,
              ...(exec.installHint ? { hint: exec.installHint } : {}),
            },
          ),
        );
      if (err) return refuse(stderr.trim() || err.message);
      let credential: ExecCredential;
      try {
        credential = JSON.parse(stdout) as ExecCredential;
      } catch {
        return refuse("its output is not JSON");
      }
      if (credential.apiVersion !== exec.apiVersion) {
        return refuse(`it answered ${credential.apiVersion}, the kubeconfig asks for ${exec.apiVersion}`);
      }
      done(credential);
    });
  });
}
