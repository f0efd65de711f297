/**
 * The agent's unix socket, asked by the CNI plugin's side (ipamd) for every pod: one JSON line in, one out. Upstream speaks gRPC
 * here (`rpc.NPBackend`); names of calls and fields are its own, and addresses and host veth come along so that nothing is guessed.
 */
import { chmodSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server } from "node:net";
import { isIP } from "node:net";

export type PodRequest = {
  readonly method: "EnforceNpToPod" | "DeletePodNp";
  readonly K8S_POD_NAME: string;
  readonly K8S_POD_NAMESPACE: string;
  readonly NETWORK_POLICY_MODE?: string;
  readonly addresses: readonly string[];
  readonly hostVeth: string;
};

export type PodAnswer = { readonly Success: boolean; readonly error?: string };

const longestRequest = 65536;

export function servePlugin(path: string, answer: (request: PodRequest) => Promise<void>): Server {
  rmSync(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let text = "";
    let isAnswered = false;
    socket.setEncoding("utf8").setTimeout(30_000, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    const take = (): void => {
      if (isAnswered) return;
      isAnswered = true;
      void serve(text, answer).then((reply) => socket.end(`${JSON.stringify(reply)}\n`));
    };
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (text.length > longestRequest) socket.destroy();
      else if (text.includes("\n")) take();
    });
    socket.on("end", take);
  });
  return server.listen(path, () => chmodSync(path, 0o660));
}

async function serve(line: string, answer: (request: PodRequest) => Promise<void>): Promise<PodAnswer> {
  try {
    await answer(parseRequest(line));
    return { Success: true };
  } catch (error) {
    return { Success: false, error: (error as Error).message };
  }
}

function parseRequest(line: string): PodRequest {
  const read = JSON.parse(line) as Partial<PodRequest>;
  const { method, K8S_POD_NAME, K8S_POD_NAMESPACE, addresses = [], hostVeth } = read;
  if (method !== "EnforceNpToPod" && method !== "DeletePodNp")
    throw new Error(`Cannot serve the call ${JSON.stringify(method)}: unknown`);
  if (!K8S_POD_NAME || !K8S_POD_NAMESPACE)
    throw new Error(`Cannot serve ${method}: K8S_POD_NAME and K8S_POD_NAMESPACE must be given`);
  if (!addresses.every((address) => isIP(address) !== 0))
    throw new Error(`Cannot serve ${method}: addresses holds no IP address`);
  // It becomes part of a ruleset.
  if (typeof hostVeth !== "string" || !/^[a-zA-Z0-9_.-]{1,15}$/.test(hostVeth))
    throw new Error(`Cannot serve ${method}: hostVeth is no link name`);
  return { ...read, method, K8S_POD_NAME, K8S_POD_NAMESPACE, addresses, hostVeth };
}

/** One exchange with a socket of this kind. */
export function callSocket(path: string, request: unknown, timeoutMs: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    let text = "";
    socket
      .setEncoding("utf8")
      .setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer from ${path} within ${timeoutMs} ms`)));
    socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on("data", (chunk: string) => (text += chunk));
    socket.on("error", reject);
    socket.on("close", () => {
      try {
        resolve(JSON.parse(text));
      } catch {
        reject(new Error(`no readable answer from ${path}`));
      }
    });
  });
}
