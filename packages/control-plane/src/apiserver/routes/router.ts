/**
 * One request: health and version, authentication, authorization, then to the reader, writer, watches or a seam.
 * Every failure leaves here as a `Status`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import {
  ApiError,
  internalError,
  methodNotAllowed,
  resourceNotServed,
  unauthorized,
  type Status,
} from "../api-error.ts";
import type { Registry } from "../registry/registry.ts";
import type { ResourceInfo, SubresourceInfo } from "../resource-info.ts";
import type { HttpQuestion, RequestAttributes, Seams, ServerContext, StreamingTarget, UserInfo } from "../seams.ts";
import { createWatches, isTrue, type Watches } from "../watch/watch.ts";
import { sendAnswer, sendStatus, sendText } from "./answer.ts";
import { negotiate } from "./media-types.ts";
import { createReader } from "./read.ts";
import { parseResourcePath, type ResourcePath } from "./request-path.ts";
import { createWriter } from "./write.ts";

export type Router = {
  handle(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  readonly watches: Watches;
};

type Target = {
  readonly path: ResourcePath;
  readonly info: ResourceInfo;
  readonly subresource: SubresourceInfo | undefined;
};
const streamed = new Set(["exec", "attach", "portforward", "log", "proxy"]);

export function createRouter(
  context: ServerContext,
  registry: Registry,
  seams: Seams,
  state: { isReady(): boolean; version: object },
): Router {
  const reader = createReader(registry, seams, context.now);
  const writer = createWriter(registry, seams, context.now);
  const watches = createWatches(registry, seams, context.now);

  async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "https://kubernetes");
    const { pathname, searchParams: query } = url;
    if (health(pathname, query, response)) return;
    const user = await identify(request);
    const path = parseResourcePath(pathname);
    const method = request.method ?? "GET";
    const isWatch = isTrue(query.get("watch"));
    const found = path === undefined ? undefined : findTarget(path);
    await authorize(user, attributesOf(method, pathname, path, isWatch, query), found?.info);
    if (path === undefined)
      return serveOther({ method, path: pathname, query, headers: request.headers, user }, response);
    if (found === undefined) {
      const { group, version } = path;
      if (!context.resources.all().some((info) => info.group === group && info.version === version))
        return sendText(response, 404, "404 page not found\n");
      throw resourceNotServed();
    }
    await serveResource(found, user, isWatch, query, request, response);
  }

  function health(path: string, query: URLSearchParams, response: ServerResponse): boolean {
    const check = /^\/(healthz|livez|readyz)(\/.*)?$/.exec(path);
    if (check === null) return false;
    const ready = check[1] === "livez" || state.isReady();
    const verbose = query.has("verbose")
      ? `[+]ping ok\n[${ready ? "+" : "-"}]bootstrap ${ready ? "ok" : "failed"}\n${check[1]} check ${ready ? "passed" : "failed"}\n`
      : ready
        ? "ok"
        : "bootstrap is not finished\n";
    sendText(response, ready ? 200 : 500, verbose);
    return true;
  }

  async function identify(request: IncomingMessage): Promise<UserInfo> {
    const user = await seams.authenticate(request);
    if (user === undefined) throw unauthorized();
    return user;
  }

  async function authorize(
    user: UserInfo,
    attributes: RequestAttributes,
    info: ResourceInfo | undefined,
  ): Promise<void> {
    const decision = await seams.authorize(user, attributes);
    if (!decision.allowed) throw forbiddenRequest(user, attributes, decision.reason, info);
  }

  function findTarget(path: ResourcePath): Target | undefined {
    const info = context.resources.find(path.group, path.version, path.plural);
    if (info === undefined) return undefined;
    const subresource = info.subresources.find((s) => s.name === path.subresource);
    if (path.subresource !== "" && subresource === undefined) return undefined;
    if (!info.namespaced && path.namespace !== "") return undefined;
    if (info.namespaced && path.namespace === "" && path.name !== "") return undefined;
    return { path, info, subresource };
  }

  function serveOther(question: HttpQuestion, response: ServerResponse): void {
    if (question.path === "/version" || question.path === "/version/") {
      return sendAnswer(response, {
        status: 200,
        headers: { "content-type": "application/json" },
        body: JSON.stringify(state.version, null, 2),
      });
    }
    if (question.path === "/") {
      const paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"];
      return sendAnswer(response, {
        status: 200,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ paths }),
      });
    }
    const answer = seams.discovery(question) ?? seams.openapi(question) ?? seams.wellKnown(question);
    if (answer === undefined) return sendText(response, 404, "404 page not found\n");
    sendAnswer(response, answer);
  }

  async function serveResource(
    { path, info, subresource }: Target,
    user: UserInfo,
    isWatch: boolean,
    query: URLSearchParams,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { namespace, name } = path;
    if (subresource !== undefined && streamed.has(subresource.name)) {
      return seams.stream(request, response, streamingTarget({ path, info, subresource }, user, query));
    }
    const format = negotiate(request.headers.accept);
    const at = { info, namespace, name, subresource, query, format, user };
    switch (request.method) {
      case "GET":
      case "HEAD":
        if (info.virtual !== undefined) throw methodNotAllowed();
        if (subresource !== undefined) return writer.getSub(at, response);
        if (isWatch) return watches.serve(at, response);
        return name === "" ? reader.list(at, response) : reader.get(at, response);
      case "POST":
        if (subresource !== undefined) return writer.createSub(at, request, response);
        if (name !== "") throw methodNotAllowed();
        return writer.create(at, request, response);
      case "PUT":
        if (name === "" || info.virtual !== undefined) throw methodNotAllowed();
        return writer.replace(at, request, response);
      case "PATCH":
        if (name === "" || info.virtual !== undefined) throw methodNotAllowed();
        return writer.patch(at, request, response);
      case "DELETE":
        if (subresource !== undefined || info.virtual !== undefined) throw methodNotAllowed();
        if (name === "" && !info.verbs.includes("deletecollection")) throw methodNotAllowed();
        return name === "" ? writer.removeCollection(at, request, response) : writer.remove(at, request, response);
      default:
        throw methodNotAllowed();
    }
  }

  async function routeUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { pathname, searchParams: query } = new URL(request.url ?? "/", "https://kubernetes");
    const user = await identify(request);
    const path = parseResourcePath(pathname);
    const target = path === undefined ? undefined : findTarget(path);
    if (path === undefined || target?.subresource === undefined || !streamed.has(target.subresource.name))
      throw resourceNotServed();
    await authorize(
      user,
      { ...attributesOf("POST", pathname, path, false, query), verb: upgradeVerb(request.method, path.subresource) },
      target.info,
    );
    await seams.upgrade(request, socket, head, streamingTarget(target, user, query));
  }

  return {
    watches,
    handle(request, response) {
      route(request, response).catch((error: unknown) => {
        const status = statusOf(error, context);
        if (response.headersSent) response.destroy();
        else sendStatus(response, status);
        if (!request.complete) request.resume();
      });
    },
    upgrade(request, socket, head) {
      socket.on("error", () => socket.destroy());
      routeUpgrade(request, socket, head).catch((error: unknown) => {
        const status = statusOf(error, context);
        const body = JSON.stringify(status);
        socket.end(
          `HTTP/1.1 ${status.code} ${status.reason ?? "Error"}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
        );
      });
    },
  };
}

function streamingTarget({ path, info, subresource }: Target, user: UserInfo, query: URLSearchParams): StreamingTarget {
  return {
    info,
    subresource: subresource!.name,
    namespace: path.namespace,
    name: path.name,
    rest: path.rest,
    query,
    user,
  };
}

/** exec, attach and portforward change things, so a WebSocket's GET needs `create` as well. */
const upgradeVerb = (method: string | undefined, subresource: string): string =>
  subresource === "proxy" && method === "GET" ? "get" : "create";

function statusOf(error: unknown, context: ServerContext): Status {
  if (error instanceof ApiError) return error.status;
  context.log.error("request failed", { err: error });
  return internalError(error instanceof Error ? error.message : String(error)).status;
}

const verbs: Record<string, string> = { POST: "create", PUT: "update", PATCH: "patch" };

function attributesOf(
  method: string,
  pathname: string,
  path: ResourcePath | undefined,
  isWatch: boolean,
  query: URLSearchParams,
): RequestAttributes {
  if (path === undefined) {
    return {
      verb: method === "HEAD" ? "get" : method.toLowerCase(),
      resource: "",
      group: "",
      version: "",
      subresource: "",
      namespace: "",
      name: "",
      path: pathname,
    };
  }
  const { group, version, plural, subresource, name } = path;
  let verb = verbs[method] ?? "";
  if (method === "GET" || method === "HEAD") verb = isWatch ? "watch" : name === "" ? "list" : "get";
  if (method === "DELETE") verb = name === "" ? "deletecollection" : "delete";
  // A list of one name is authorized as that name, as upstream does.
  const named =
    name === "" && (verb === "list" || verb === "watch")
      ? (/(?:^|,)metadata\.name==?([^,]+)/.exec(query.get("fieldSelector") ?? "")?.[1] ?? "")
      : name;
  // The namespace object itself is authorized in its own namespace.
  const namespace = plural === "namespaces" && group === "" ? name : path.namespace;
  return { verb, resource: plural, group, version, subresource, namespace, name: named, path: pathname };
}

/** `pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "n"`. */
function forbiddenRequest(
  user: UserInfo,
  a: RequestAttributes,
  reason: string | undefined,
  info: ResourceInfo | undefined,
): ApiError {
  const why = reason === undefined || reason === "" ? "" : `: ${reason}`;
  if (a.resource === "")
    return new ApiError(
      403,
      "Forbidden",
      `forbidden: User ${JSON.stringify(user.username)} cannot ${a.verb} path ${JSON.stringify(a.path)}${why}`,
      {},
    );
  const resource = a.subresource === "" ? a.resource : `${a.resource}/${a.subresource}`;
  const qualified = a.group === "" ? a.resource : `${a.resource}.${a.group}`;
  const where =
    a.namespace !== "" && (info?.namespaced ?? true)
      ? `in the namespace ${JSON.stringify(a.namespace)}`
      : "at the cluster scope";
  const name = a.name === "" ? "" : ` ${JSON.stringify(a.name)}`;
  return new ApiError(
    403,
    "Forbidden",
    `${qualified}${name} is forbidden: User ${JSON.stringify(user.username)} cannot ${a.verb} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(a.group)} ${where}${why}`,
    {
      ...(a.name === "" ? {} : { name: a.name }),
      ...(a.group === "" ? {} : { group: a.group }),
      kind: a.resource,
    },
  );
}
