/**
 * The server's certificates: the cluster's CA (given, or made under `<stateDir>/pki`), the serving leaf with every name
 * the API server is reached by, the client certificate towards kubelets, and the kubeconfigs of the control plane.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority, issueLeaf, type KeyPair } from "@underlay/pki/authority";
import type { Settings } from "../settings.ts";

/** Reads the CA named by the settings, or the one of the state folder, which is made when there is none. */
export async function loadAuthority(settings: Settings): Promise<KeyPair> {
  if (settings.caCertFile !== undefined && settings.caKeyFile !== undefined) {
    return { cert: readFileSync(settings.caCertFile, "utf8"), key: readFileSync(settings.caKeyFile, "utf8") };
  }
  const folder = join(settings.stateDir, "pki");
  const certFile = join(folder, "ca.crt");
  const keyFile = join(folder, "ca.key");
  if (!existsSync(certFile)) {
    mkdirSync(folder, { recursive: true });
    const made = await createAuthority("kubernetes");
    writeFileSync(keyFile, made.key, { mode: 0o600 });
    writeFileSync(certFile, made.cert);
  }
  return { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
}

/** Every name and address the server answers as. */
export function servingNames(settings: Settings, firstServiceAddress: string): string[] {
  const endpointHost =
    settings.endpoint === undefined
      ? undefined
      : new URL(settings.endpoint.includes("://") ? settings.endpoint : `https://${settings.endpoint}`).hostname;
  const names = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    firstServiceAddress,
    ...settings.xenis.map((xeni) => xeni.address),
    settings.publicAddress,
    endpointHost,
  ];
  return [...new Set(names.filter((name): name is string => name !== undefined && name !== ""))];
}

export const issueServing = (authority: KeyPair, names: readonly string[]): Promise<KeyPair> =>
  issueLeaf(authority, { commonName: "kube-apiserver", names, usage: "server" });

const identities = [
  { file: "admin.kubeconfig", user: "kubernetes-admin", groups: ["system:masters"] },
  { file: "controller-manager.kubeconfig", user: "system:kube-controller-manager", groups: [] },
  { file: "scheduler.kubeconfig", user: "system:kube-scheduler", groups: [] },
];

/** Writes the kubeconfigs of the control plane through the host door, each with a fresh client certificate. */
export async function writeKubeconfigs(settings: Settings, authority: KeyPair, port: number): Promise<void> {
  for (const { file, user, groups } of identities) {
    const leaf = await issueLeaf(authority, { commonName: user, organizations: groups, usage: "client" });
    const path = join(settings.stateDir, file);
    writeFileSync(
      `${path}.new`,
      kubeconfig({
        cluster: settings.clusterName,
        user,
        server: `https://127.0.0.1:${port}`,
        ca: authority.cert,
        ...leaf,
      }),
      { mode: 0o600 },
    );
    renameSync(`${path}.new`, path);
  }
}

function kubeconfig(o: {
  cluster: string;
  user: string;
  server: string;
  ca: string;
  cert: string;
  key: string;
}): string {
  const base64 = (text: string): string => Buffer.from(text).toString("base64");
  return `apiVersion: v1
kind: Config
clusters:
- name: ${o.cluster}
  cluster:
    server: ${o.server}
    certificate-authority-data: ${base64(o.ca)}
users:
- name: ${o.user}
  user:
    client-certificate-data: ${base64(o.cert)}
    client-key-data: ${base64(o.key)}
contexts:
- name: ${o.user}@${o.cluster}
  context:
    cluster: ${o.cluster}
    user: ${o.user}
current-context: ${o.user}@${o.cluster}
`;
}
