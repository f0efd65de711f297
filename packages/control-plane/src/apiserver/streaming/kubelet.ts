/**
 * The way to a kubelet: `https://<node InternalIP>:10250` with the API server's own client certificate, TLS verified against
 * the cluster's CA. Plain requests for logs, WebSockets for exec, attach and port-forward (ARCHITECTURE.md, wires).
 */
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { issueLeaf, type KeyPair } from "@underlay/pki/authority";
import type { WebSocket } from "ws";
import { ApiError, badRequest, internalError, notFound } from "../api-error.ts";
import type { ApiObject } from "../api-object.ts";
import type { ObjectReader } from "../seams.ts";
import { dialErrorText } from "./dial-error.ts";

const kubeletPort = 10250;
const dialTimeoutMs = 10_000;

export type KubeletAddress = { readonly host: string; readonly port: number };

export class KubeletDialer {
  readonly #authority: KeyPair;
  readonly #objects: Pick<ObjectReader, "get">;
  #client: Promise<KeyPair> | undefined;

  constructor(authority: KeyPair, objects: Pick<ObjectReader, "get">) {
    this.#authority = authority;
    this.#objects = objects;
  }

  /** Where the kubelet of a node listens. */
  addressOf(nodeName: string): KubeletAddress {
    const node = this.#objects.get("/nodes", "", nodeName);
    if (!node) throw notFound({ group: "", plural: "nodes" }, nodeName);
    const addresses: { type: string; address: string }[] = node["status"]?.addresses ?? [];
    const host = ["InternalIP", "ExternalIP"]
      .map((type) => addresses.find((candidate) => candidate.type === type)?.address)
      .find((address) => address !== undefined);
    if (host === undefined) throw internalError(`no preferred addresses found; known addresses: []`);
    return { host, port: node["status"]?.daemonEndpoints?.kubeletEndpoint?.Port ?? kubeletPort };
  }

  /** The kubelet that runs a pod. */
  addressOfPod(pod: ApiObject): KubeletAddress {
    const nodeName: string | undefined = pod["spec"]?.nodeName;
    if (!nodeName) throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
    return this.addressOf(nodeName);
  }

  /** TLS material of the API server as the kubelet's client. */
  async credentials(): Promise<{ ca: string; cert: string; key: string }> {
    this.#client ??= issueLeaf(this.#authority, {
      commonName: "kube-apiserver-kubelet-client",
      organizations: ["system:masters"],
      usage: "client",
    });
    return { ca: this.#authority.cert, ...(await this.#client) };
  }

  /** GET; resolves with the answer's head. A kubelet's refusal becomes this server's. */
  async get(address: KubeletAddress, path: string, signal: AbortSignal): Promise<IncomingMessage> {
    const credentials = await this.credentials();
    return new Promise((resolve, reject) => {
      const call = httpsRequest(
        { ...address, path, method: "GET", agent: false, ...credentials, signal },
        (response) => {
          if (response.statusCode === 200) resolve(response);
          else refusal(response).then(reject, reject);
        },
      );
      const timer = setTimeout(
        () => call.destroy(Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })),
        dialTimeoutMs,
      );
      call.on("socket", (socket) => socket.on("secureConnect", () => clearTimeout(timer)));
      call.on("close", () => clearTimeout(timer));
      call.on("error", (error) => {
        const url = `https://${address.host}:${address.port}${path.split("?")[0]}`;
        reject(internalErrorText(`Get "${url}": ${dialErrorText(error, address.host, address.port)}`));
      });
      call.end();
    });
  }

  /** Opens a WebSocket; throws before it is open with the kubelet's refusal or what happened on the way. */
  async open(address: KubeletAddress, path: string, protocol: string): Promise<WebSocket> {
    const [{ WebSocket: Client }, credentials] = await Promise.all([import("ws"), this.credentials()]);
    return new Promise((resolve, reject) => {
      const host = address.host.includes(":") ? `[${address.host}]` : address.host;
      const socket = new Client(`wss://${host}:${address.port}${path}`, [protocol], {
        ...credentials,
        handshakeTimeout: dialTimeoutMs,
        perMessageDeflate: false,
        maxPayload: 64 * 1024 * 1024,
      });
      // Frames may come with the handshake's last packet: hold them until the bridge listens.
      socket.once("open", () => {
        socket.pause();
        resolve(socket);
      });
      socket.once("unexpected-response", (_request, response) => refusal(response).then(reject, reject));
      socket.once("error", (error) =>
        reject(internalErrorText(`error dialing backend: ${dialErrorText(error, address.host, address.port)}`)),
      );
    });
  }
}

/** Upstream tells dial errors as a plain InternalError without the usual prefix. */
function internalErrorText(message: string): ApiError {
  return new ApiError(500, "InternalError", message);
}

/** The kubelet's own words, as the Status its code stands for. */
async function refusal(response: IncomingMessage): Promise<ApiError> {
  let text = "";
  response.setEncoding("utf8");
  for await (const chunk of response) {
    text += chunk as string;
    if (text.length > 2048) break;
  }
  const code = response.statusCode ?? 500;
  const reasons: Record<number, string> = { 400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound" };
  return new ApiError(code, reasons[code] ?? "InternalError", text.trim() || `the kubelet answered ${code}`);
}
