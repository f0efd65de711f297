/**
 * The instance metadata service of one VPC, on 169.254.169.254:80 of its router. Who asks is told by the source address:
 * the router lets an address in only from the ENI that owns it. Version 2 tokens, version 1 where the instance allows it.
 * The TTL of token replies (hop limit) is the router's work: plan-router.ts, chain token_reply.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createLog } from "@underlay/log/log";
import { contains } from "@underlay/addr/cidr";
import { metadataOf, read } from "./metadata.ts";
import { maximumTtlSeconds, type Tokens } from "./tokens.ts";
import type { CloudView, FabricInstance, FabricState } from "../fabric/seam.ts";

export type ImdsOptions = {
  readonly vpcId: string;
  readonly view: Pick<CloudView, "state" | "metadataState" | "issueRoleCredentials">;
  readonly tokens: Tokens;
};

const log = createLog("imds");
const tokenHeader = "x-aws-ec2-metadata-token";
const ttlHeader = "x-aws-ec2-metadata-token-ttl-seconds";

/** An HTTP server for the caller to start on the router's descriptor. */
export function createImds(options: ImdsOptions): Server {
  return createServer((request, response) => {
    request.resume();
    try {
      answer(options, request, response);
    } catch (err) {
      log.error("cannot answer a metadata request", { path: request.url, err });
      if (!response.headersSent) refuse(response, 500);
    }
  });
}

function answer({ vpcId, view, tokens }: ImdsOptions, request: IncomingMessage, response: ServerResponse): void {
  const state = view.state();
  const instance = findInstance(state, vpcId, request.socket.remoteAddress ?? "");
  if (instance === undefined) return refuse(response, 404);
  if (instance.metadataOptions.httpEndpoint === "disabled") return refuse(response, 403);
  const path = (request.url ?? "/")
    .replace(/[?#].*/, "")
    .split("/")
    .filter((part) => part !== "");

  if (request.method === "PUT") {
    if (path.join("/") !== "latest/api/token") return refuse(response, 404);
    return issueToken(tokens, instance, request, response);
  }
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);

  const token = request.headers[tokenHeader];
  const required = instance.metadataOptions.httpTokens === "required";
  if (token === undefined ? required : typeof token !== "string" || !tokens.isValid(instance.instanceId, token)) {
    return refuse(response, 401);
  }
  const lagging = view.metadataState?.() ?? state;
  // An instance younger than the lag knows itself: what lags is what changes about it.
  const known = lagging.instances.some(({ instanceId }) => instanceId === instance.instanceId);
  const text = readPath(path, known ? lagging : state, instance, view);
  if (text === undefined) return refuse(response, 404);
  const body = Buffer.from(text, path[1] === "user-data" ? "latin1" : "utf8");
  const type = path[1] === "user-data" ? "application/octet-stream" : "text/plain";
  response.writeHead(200, {
    "content-type": type,
    "content-length": body.length,
    server: "EC2ws",
    "accept-ranges": "none",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

function readPath(
  path: readonly string[],
  state: FabricState,
  instance: FabricInstance,
  view: ImdsOptions["view"],
): string | undefined {
  const [version, ...rest] = path;
  if (version === undefined) return "latest";
  if (version !== "latest" && !/^\d{4}-\d\d-\d\d$|^1\.0$/.test(version)) return undefined;
  const issueRoleCredentials = () => view.issueRoleCredentials(instance.instanceId);
  return read(metadataOf({ state, instance, issueRoleCredentials }), rest);
}

function issueToken(
  tokens: Tokens,
  instance: FabricInstance,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  // A proxy in between would let others ask in the instance's name.
  if (request.headers["x-forwarded-for"] !== undefined) return refuse(response, 403);
  const given = request.headers[ttlHeader];
  const ttl = Number(given);
  if (typeof given !== "string" || !/^\d+$/.test(given) || ttl < 1 || ttl > maximumTtlSeconds)
    return refuse(response, 400);
  const token = tokens.issue(instance.instanceId, ttl);
  response.writeHead(200, {
    "content-type": "text/plain",
    "content-length": token.length,
    [ttlHeader]: given,
    server: "EC2ws",
  });
  response.end(token);
}

/** The instance one of whose ENIs owns the address, in this VPC (another may use the same range). */
export function findInstance(state: FabricState, vpcId: string, address: string): FabricInstance | undefined {
  const eni = state.enis.find(
    (candidate) =>
      candidate.vpcId === vpcId &&
      candidate.attachment?.kind === "instance" &&
      (candidate.addresses.some((own) => own.address === address) ||
        candidate.prefixes.some((prefix) => contains(prefix, address))),
  );
  const { attachment } = eni ?? {};
  if (attachment?.kind !== "instance") return undefined;
  return state.instances.find(({ instanceId }) => instanceId === attachment.instanceId);
}

const reasons: Readonly<Record<number, string>> = {
  400: "Bad Request",
  500: "Internal Server Error",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
};

function refuse(response: ServerResponse, status: number): void {
  const title = `${status} - ${reasons[status]}`;
  const body = `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head><title>${title}</title></head>
 <body><h1>${title}</h1></body>
</html>
`;
  response.writeHead(status, {
    "content-type": "text/html",
    "content-length": Buffer.byteLength(body),
    server: "EC2ws",
  });
  response.end(body);
}
