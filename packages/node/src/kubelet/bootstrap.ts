/**
 * What nodeadm does on an EKS node: IMDS says who the machine is, user data says which cluster, the instance role signs the tokens.
 * Tried again until IMDS answers: an instance may be up before its metadata service.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { instanceRoleCredentials } from "@underlay/aws/credentials";
import { eksToken } from "@underlay/aws/eks-token";
import { createImdsClient, imdsEndpoint, type ImdsClient } from "@underlay/aws/imds-client";
import type { KubeConfig } from "@underlay/kube/config";
import type { Log } from "@underlay/log/log";
import { parse } from "yaml";
import { findNodeConfig, settingsFrom, type NodeIdentity } from "./node-config.ts";
import type { NodeSettings } from "./settings.ts";

export type Bootstrapped = { readonly settings: NodeSettings; readonly kubeConfig: KubeConfig };

export async function bootstrap(env: NodeJS.ProcessEnv, log: Log): Promise<Bootstrapped> {
  const imds = createImdsClient({ endpoint: imdsEndpoint(env), timeoutMs: 2000 });
  const [identity, userData] = await untilAnswered(log, () => askImds(imds));
  const config = findNodeConfig(userData, parse);
  const settings = settingsFrom(config, identity);
  const credentials = instanceRoleCredentials(imds);
  let token: { token: string; expiration: Date } | undefined;
  return {
    settings,
    kubeConfig: {
      server: settings.apiServer,
      namespace: "default",
      tls: { ca: settings.clusterCa },
      credentials: async (refresh) => {
        // A minute is left, so that a token does not end on its way.
        if (refresh || !token || token.expiration.getTime() - Date.now() < 60_000) {
          token = await eksToken({ clusterName: settings.clusterName, region: settings.region, credentials });
        }
        return { token: token.token };
      },
    },
  };
}

async function askImds(imds: ImdsClient): Promise<[NodeIdentity, string]> {
  const [document, hostname, userData] = await Promise.all([
    imds.identityDocument(),
    imds.get("meta-data/local-hostname"),
    imds.get("user-data"),
  ]);
  if (!userData) throw new Error("Cannot join a cluster: the instance has no user data; give it a NodeConfig");
  const hostnameFallback = `ip-${document.privateIp.replaceAll(".", "-")}.${document.region}.compute.internal`;
  return [
    {
      instanceId: document.instanceId,
      instanceType: document.instanceType,
      region: document.region,
      zone: document.availabilityZone,
      privateIp: document.privateIp,
      privateDnsName: hostname?.trim() || hostnameFallback,
    },
    userData,
  ];
}

async function untilAnswered<T>(log: Log, ask: () => Promise<T>): Promise<T> {
  for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 5000)) {
    try {
      return await ask();
    } catch (err) {
      log.warn("cannot learn about this instance, trying again", { err });
      await sleep(delayMs);
    }
  }
}

/** Settings and kubeconfig from files, for a kubelet outside an instance: `--settings FILE --kubeconfig FILE`. */
export async function bootstrapFromFiles(settingsFile: string, kubeconfigFile: string): Promise<Bootstrapped> {
  const { loadKubeConfig } = await import("@underlay/kube/config");
  const { defaultSettings } = await import("./settings.ts");
  const given = JSON.parse(await readFile(settingsFile, "utf8")) as Partial<NodeSettings>;
  const kubeConfig = await loadKubeConfig(kubeconfigFile);
  const nodeIp = given.nodeIp ?? "127.0.0.1";
  const nodeName = given.nodeName ?? "node";
  const settings: NodeSettings = {
    ...defaultSettings,
    nodeName,
    nodeIp,
    instanceId: "i-00000000000000000",
    instanceType: "m5.large",
    region: "us-west-2",
    zone: "us-west-2a",
    privateDnsName: nodeName,
    clusterName: "local",
    apiServer: kubeConfig.server,
    clusterCa: kubeConfig.tls.ca ?? "",
    clusterDns: [],
    ...given,
  };
  return { settings, kubeConfig };
}
