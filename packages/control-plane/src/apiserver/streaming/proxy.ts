/** The proxy subresource of pods, services and nodes: HTTP and upgrades to `[scheme:]name[:port]`, from the server's namespace. */
import {
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
  type ServerResponse,
} from "node:http";
import { request as httpsRequest } from "node:https";
import type { Duplex } from "node:stream";
import { ApiError, badRequest, notFound } from "../api-error.ts";
import type { ObjectReader, StreamingTarget } from "../seams.ts";
import { dialErrorText } from "./dial-error.ts";
import type { KubeletDialer } from "./kubelet.ts";
import { serviceEndpoint } from "./service-endpoint.ts";
import type { Stored } from "../stored.ts";

type Reach = { readonly dialer: KubeletDialer; readonly objects: ObjectReader };
type Backend = {
  readonly scheme: "http" | "https";
  readonly address: string;
  readonly port: number;
  readonly kubelet: boolean;
};

const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "host",
  // The caller's credentials are for this server, not for what stands behind it.
  "authorization",
]);

/** Answers with what the backend answers. */
export async function proxyRequest(
  request: IncomingMessage,
  response: ServerResponse,
  target: StreamingTarget,
  reach: Reach,
): Promise<void> {
  const { call, backend } = await callBackend(request, target, reach, {});
  await new Promise<void>((resolve, reject) => {
    call.on("error", (error) => {
      if (response.headersSent) response.destroy();
      else reject(unreachable(error, backend, target));
      resolve();
    });
    call.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, endToEnd(answer.headers));
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    response.on("close", () => {
      call.destroy();
      resolve();
    });
    request.pipe(call);
  });
}

/** Joins the two sockets once the backend has switched protocols. */
export async function proxyUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  target: StreamingTarget,
  reach: Reach,
): Promise<void> {
  const { call, backend } = await callBackend(request, target, reach, {
    connection: "Upgrade",
    upgrade: request.headers.upgrade,
  });
  await new Promise<void>((resolve, reject) => {
    call.on("error", (error) => reject(unreachable(error, backend, target)));
    call.on("response", (answer) => {
      answer.resume();
      reject(
        new ApiError(
          answer.statusCode ?? 502,
          "InternalError",
          `the backend did not switch protocols: ${answer.statusCode}`,
        ),
      );
    });
    call.on("upgrade", (answer, backendSocket, backendHead) => {
      const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`];
      for (let i = 0; i < answer.rawHeaders.length; i += 2)
        lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
      socket.write(`${lines.join("\r\n")}\r\n\r\n`);
      if (backendHead.length) socket.write(backendHead);
      if (head.length) backendSocket.write(head);
      backendSocket.on("error", () => socket.destroy());
      socket.on("error", () => backendSocket.destroy());
      backendSocket.pipe(socket);
      socket.pipe(backendSocket);
      resolve();
    });
    call.end();
  });
}

async function callBackend(
  request: IncomingMessage,
  target: StreamingTarget,
  { dialer, objects }: Reach,
  extra: Record<string, string | undefined>,
): Promise<{ call: ClientRequest; backend: Backend }> {
  const backend = backendOf(target, dialer, objects);
  const headers = { ...endToEnd(request.headers), host: `${backend.address}:${backend.port}`, ...extra };
  const search = target.query.size ? `?${target.query.toString()}` : "";
  const options: RequestOptions = {
    host: backend.address,
    port: backend.port,
    method: request.method,
    headers,
    agent: false,
    path: `/${target.rest.replace(/^\//, "")}${search}`,
  };
  if (backend.scheme === "http") return { call: httpRequest(options), backend };
  // As upstream: a proxied https backend is not verified, except kubelets, which know our certificate.
  const tls = backend.kubelet ? await dialer.credentials() : { rejectUnauthorized: false };
  return { call: httpsRequest({ ...options, ...tls }), backend };
}

function backendOf(target: StreamingTarget, dialer: KubeletDialer, objects: ObjectReader): Backend {
  const { scheme, name, port } = splitName(target.name);
  const https = scheme === "https" ? "https" : "http";
  switch (target.info.plural) {
    case "nodes": {
      const address = dialer.addressOf(name);
      const kubelet = port === "" || Number(port) === address.port;
      return {
        scheme: kubelet ? "https" : https,
        address: address.host,
        port: kubelet ? address.port : Number(port),
        kubelet,
      };
    }
    case "services": {
      const endpoint = serviceEndpoint(objects, target.namespace, name, port);
      if (!endpoint.ok) throw new ApiError(503, "ServiceUnavailable", endpoint.why);
      return { scheme: https, address: endpoint.address, port: endpoint.port, kubelet: false };
    }
    default: {
      const pod = objects.get("/pods", target.namespace, name);
      if (!pod) throw notFound({ group: "", plural: "pods" }, name);
      const address: string | undefined = pod["status"]?.podIP;
      if (!address) throw badRequest("address not allowed");
      const ports: Stored[] = (pod["spec"]?.containers ?? []).flatMap((container: Stored) => container.ports ?? []);
      const number =
        port === ""
          ? (ports[0]?.containerPort ?? 80)
          : /^\d+$/.test(port)
            ? Number(port)
            : ports.find((p) => p.name === port)?.containerPort;
      if (!number) throw badRequest(`pod ${name} has no port ${port}`);
      return { scheme: https, address, port: number, kubelet: false };
    }
  }
}

/** `name`, `name:port` or `scheme:name:port`. */
function splitName(text: string): { scheme: string; name: string; port: string } {
  const parts = text.split(":");
  if (parts.length === 3) return { scheme: parts[0]!, name: parts[1]!, port: parts[2]! };
  return { scheme: "", name: parts[0] ?? "", port: parts[1] ?? "" };
}

function endToEnd(headers: IncomingMessage["headers"]): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !hopByHop.has(name)) kept[name] = value;
  return kept;
}

function unreachable(error: unknown, backend: Backend, target: StreamingTarget): ApiError {
  return new ApiError(
    503,
    "ServiceUnavailable",
    `error trying to reach service: ${dialErrorText(error, backend.address, backend.port)}`,
    { name: target.name, kind: target.info.plural },
  );
}
