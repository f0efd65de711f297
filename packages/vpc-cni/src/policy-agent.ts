/**
 * ipamd's side of network policy: it tells the policy agent the mode, and tells it of every pod wired and unwired.
 * Upstream speaks gRPC on both sockets (`rpc.ConfigServerBackend`, `rpc.NPBackend`); here one JSON line each way, same names.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { serveUnixFd, callUnixFd } from "@underlay/kernel/unix-fd";
import { isNotFound } from "@underlay/kernel/errors";
import type { Log } from "@underlay/log/log";
import { CniError, cniCode } from "./cni-result.ts";
import type { Settings } from "./settings.ts";

export type PolicyPod = {
  readonly namespace: string;
  readonly name: string;
  readonly address: string;
  readonly hostVeth: string;
};

export type PolicyAgent = {
  /** Resolves when the pod's policies are in force; throws a CniError when the agent does not say so. */
  enforce(pod: PolicyPod): Promise<void>;
  /** Throws a CniError when the agent cannot be reached; what it answers is logged only. */
  release(pod: PolicyPod): Promise<void>;
};

/** Upstream's plugin waits this long for the socket. */
const connectWithinMs = 2_000;
const answerWithinMs = 10_000;

/** undefined when no mode is set: pods are wired without asking anybody. */
export function policyAgentOf(settings: Settings, log: Log): PolicyAgent | undefined {
  const mode = settings.networkPolicyMode;
  if (mode === undefined) return undefined;
  const ask = async (method: string, pod: PolicyPod): Promise<{ Success?: boolean; error?: string }> => {
    const request = `${JSON.stringify({ method, K8S_POD_NAME: pod.name, K8S_POD_NAMESPACE: pod.namespace, NETWORK_POLICY_MODE: mode, InterfaceCount: 1, addresses: [pod.address], hostVeth: pod.hostVeth })}\n`;
    const deadline = performance.now() + connectWithinMs;
    for (;;) {
      try {
        const answer = await callUnixFd({ path: settings.policyAgentSocket, request, timeoutMs: answerWithinMs });
        return JSON.parse(answer.toString("utf8")) as { Success?: boolean; error?: string };
      } catch (error) {
        if (!isAbsent(error) || performance.now() > deadline) throw error;
        await sleep(20);
      }
    }
  };
  const refusal = (what: string, error: unknown): CniError =>
    new CniError(cniCode.tryAgainLater, `${what}: failed to reach the network policy agent`, (error as Error).message);
  return {
    async enforce(pod) {
      const answer = await ask("EnforceNpToPod", pod).catch((error: unknown) => {
        throw refusal("add cmd", error);
      });
      if (answer.Success !== true)
        throw new CniError(cniCode.tryAgainLater, "add cmd: failed to setup network policy", answer.error ?? "");
    },
    async release(pod) {
      const answer = await ask("DeletePodNp", pod).catch((error: unknown) => {
        throw refusal("del cmd", error);
      });
      if (answer.Success !== true)
        log.warn("the policy agent could not release a pod", {
          pod: `${pod.namespace}/${pod.name}`,
          why: answer.error,
        });
    },
  };
}

/** What the policy agent asks ipamd when it starts. */
export async function serveConfig(settings: Settings, log: Log): Promise<{ close(): Promise<void> }> {
  const answer = `${JSON.stringify({ NetworkPolicyMode: settings.networkPolicyMode ?? "", MultiNICEnabled: false })}\n`;
  return serveUnixFd({
    path: settings.configSocket,
    mode: 0o660,
    handle: () => answer,
    onError: (error) => log.warn("a policy agent's connection failed", { err: error }),
  });
}

/** No socket file, or nobody behind it. */
function isAbsent(error: unknown): boolean {
  return isNotFound(error) || (error as { errno?: string }).errno === "ECONNREFUSED";
}
