/**
 * The front door of every AWS API: one HTTP handler for all services, offered to plain and TLS listeners alike.
 * read → whose request, which service (SigV4 scope) → action and input by the model → run in one transaction →
 * wait until packets see it → answer in the service's format. Never HTML, never a bare 500.
 */
import { createHash, randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { ModelTable } from "@underlay/aws/model";
import type { Log } from "@underlay/log/log";
import { ApiError } from "./api-error.ts";
import { authenticate, readSignature, type KnownKey, type Principal, type ReceivedRequest } from "./authentication.ts";
import { authenticationError, renderError, unknownAction, unsupportedParameter, type Answer } from "./dialect.ts";
import { parseForm, renderOutput } from "./query.ts";
import { findRoute, parseRestInput } from "./rest-json.ts";
import { connectionReset, type Trouble } from "../faults/faults.ts";
import type { Operation, Service } from "./service.ts";
import { toJson } from "@underlay/aws/rest-json-wire";

export type ServerOptions = {
  readonly services: readonly Service[];
  readonly region: string;
  readonly findKey: (accessKeyId: string) => KnownKey | undefined;
  /** One durable transaction around `work`. */
  readonly transaction: <T>(work: () => T) => T;
  /** Resolves when everything committed so far is in force. */
  readonly settled: () => Promise<void>;
  /** Answers of calls with an idempotency token. */
  readonly tokens: TokenStore;
  /** Faults to add, when any are set. */
  readonly trouble?: Trouble;
  /** Runs a read on the state as it was some milliseconds ago. */
  readonly stale?: <T>(ms: number, work: () => T) => T;
  readonly log: Log;
};

export type TokenStore = {
  find(key: string): { hash: string; body: string } | undefined;
  /** Called inside the transaction of the call. */
  keep(key: string, value: { hash: string; body: string }): void;
};

type Form = "ec2" | "query" | "rest-json";
type Decoded = { action: string; input: Record<string, unknown>; unknown: string[] };

const largestBody = 8 * 1024 * 1024;
/** Rolls a dry run's transaction back. */
const dryRunSucceeded = Symbol("dry run");

export function createAwsHandler(options: ServerOptions): (request: IncomingMessage, response: ServerResponse) => void {
  const services = new Map(options.services.map((service) => [service.table.signingName, service]));

  return (request, response) => {
    const requestId = randomUUID();
    answer(request, requestId)
      .catch((error: unknown) => {
        options.log.error("answering an AWS request failed", { err: error });
        return renderError("query", new ApiError("InternalError", "An internal error has occurred"), requestId);
      })
      .then(({ status, headers, body }) => {
        response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
        response.end(body);
      })
      .catch((error: unknown) => options.log.warn("an AWS client went away", { err: error }));
  };

  async function answer(message: IncomingMessage, requestId: string): Promise<Answer> {
    const body = await readBody(message);
    const request = receivedRequest(message, body ?? Buffer.alloc(0));
    const presented = readSignature(request);
    const scope = "why" in presented ? undefined : presented.scope;
    const service = services.get(scope?.service ?? guessService(request) ?? "");
    const form = service === undefined ? guessForm(request) : service.table.protocol;
    const started = performance.now();
    let label = `${scope?.service ?? "?"} ${request.method} ${request.path}`;
    try {
      if (body === undefined)
        throw new ApiError("RequestEntityTooLarge", `The request body is larger than ${largestBody} bytes`, 413);
      if ("why" in presented) throw authenticationError(form, presented);
      const regions = service?.name === "sts" ? [options.region, "us-east-1"] : [options.region];
      const who = authenticate(request, presented, { findKey: options.findKey, regions, now: new Date() });
      if (!who.ok) {
        if (who.failure.why === "mismatch")
          options.log.debug("signature mismatch", { canonical: who.failure.canonical });
        throw authenticationError(form, who.failure);
      }
      if (service === undefined) throw unknownService(form, request, presented.scope.service);
      const { table } = service;
      const decoded = decode(table, form, request);
      label = `${service.name} ${decoded.action}`;
      const { body: text, status } = await perform(service, table, form, decoded, who.principal, requestId);
      options.log.debug("answered", { call: label, ms: Math.round(performance.now() - started) });
      const contentType = form === "rest-json" ? "application/json" : "text/xml;charset=UTF-8";
      return { status, headers: { "content-type": contentType, "x-amzn-requestid": requestId }, body: text };
    } catch (error) {
      if (error instanceof ApiError && error.code === connectionReset) message.socket.destroy();
      if (error instanceof ApiError) {
        options.log.info("refused", { call: label, code: error.code, reason: error.message });
        return renderError(form, error, requestId);
      }
      options.log.error("an operation failed", { call: label, err: error });
      const code = form === "rest-json" ? "ServerException" : "InternalError";
      return renderError(form, new ApiError(code, "An internal error has occurred"), requestId);
    }
  }

  function decode(table: ModelTable, form: Form, request: ReceivedRequest): Decoded {
    if (form === "rest-json") {
      const route = findRoute(table, request.method, request.path);
      if (route === undefined) throw unknownAction(form, `${request.method} ${request.path}`, table.version);
      const { action, labels } = route;
      const input = parseRestInput(table, action, {
        labels,
        query: request.query,
        body: request.body.toString("utf8"),
      });
      return { action, input, unknown: [] };
    }
    const pairs = formPairs(request);
    const action = pairs.find(([name]) => name === "Action")?.[1];
    if (action === undefined) throw new ApiError("MissingAction", "The request is missing an Action parameter");
    if (table.operations[action] === undefined) throw unknownAction(form, action, table.version);
    return { action, ...parseForm(table, action, pairs) };
  }

  async function perform(
    service: Service,
    table: ModelTable,
    form: Form,
    decoded: Decoded,
    principal: Principal,
    requestId: string,
  ) {
    const { action, input } = decoded;
    const operation = service.operations[action];
    if (operation === undefined) throw unknownAction(form, action, table.version);
    // Newer clients know parameters that this model does not: say so, and do what was understood.
    if (decoded.unknown.length > 0)
      options.log.warn("unknown parameters", { call: `${service.name} ${action}`, parameters: decoded.unknown });
    const { DryRun: dryRun, ...given } = input;
    const tokenMember = tokenMemberOf(table, action);
    for (const [name, value] of Object.entries(given))
      if (!operation.takes.includes(name) && name !== tokenMember && !isEmpty(value))
        throw unsupportedParameter(form, action, wireName(table, action, name));
    const call = { action, requestId, principal };
    const render = (output: Record<string, unknown>) =>
      form === "rest-json"
        ? JSON.stringify(toJson(table, table.operations[action]?.output ?? "", output) ?? {})
        : renderOutput(table, action, output, requestId);
    const run = () => operation.run(given as never, call);
    const status = table.operations[action]?.status ?? 200;

    const troubled = { service: service.name, action, principal };
    await options.trouble?.before(troubled);
    if (dryRun === true) throw dryRunOutcome(run, operation);
    if (operation.reads) {
      const age = options.trouble?.staleness(troubled) ?? 0;
      return { status, body: render(age > 0 && options.stale !== undefined ? options.stale(age, run) : run()) };
    }
    const body = options.transaction(() => {
      const token = tokenMember === undefined ? undefined : given[tokenMember];
      if (typeof token !== "string" || token === "") return render(run());
      const key = `${service.name}:${action}:${token}`;
      const hash = createHash("sha256").update(JSON.stringify(given)).digest("hex");
      const earlier = options.tokens.find(key);
      if (earlier !== undefined && earlier.hash !== hash) throw tokenMismatch(form);
      if (earlier !== undefined) return earlier.body.replace(/(<requestId>)[^<]*/, `$1${requestId}`);
      const text = render(run());
      options.tokens.keep(key, { hash, body: text });
      return text;
    });
    await options.settled();
    options.trouble?.after(troubled);
    return { status, body };
  }

  function dryRunOutcome(run: () => unknown, operation: Operation): ApiError {
    try {
      if (operation.reads) run();
      else
        options.transaction(() => {
          run();
          throw dryRunSucceeded;
        });
    } catch (error) {
      if (error !== dryRunSucceeded) throw error;
    }
    return new ApiError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.");
  }
}

function tokenMismatch(form: Form): ApiError {
  const message = "The client token you specified is already used with different parameters.";
  return form === "rest-json"
    ? new ApiError("InvalidRequestException", message)
    : new ApiError("IdempotentParameterMismatch", message);
}

function tokenMemberOf(table: ModelTable, action: string): string | undefined {
  const members = table.shapes[table.operations[action]?.input ?? ""]?.members ?? {};
  return Object.entries(members).find(
    ([name, row]) => row[3]?.includes("t") === true || /^clientToken|^clientRequestToken$/i.test(name),
  )?.[0];
}

function wireName(table: ModelTable, action: string, member: string): string {
  return table.shapes[table.operations[action]?.input ?? ""]?.members?.[member]?.[1] ?? member;
}

/** Lists and strings without content say nothing, so they are not refused. */
function isEmpty(value: unknown): boolean {
  return value === undefined || value === "" || value === false || (Array.isArray(value) && value.length === 0);
}

function receivedRequest(message: IncomingMessage, body: Buffer): ReceivedRequest {
  const [path, search = ""] = splitOnce(message.url ?? "/", "?");
  const query = search
    .split("&")
    .filter((part) => part !== "")
    .map((part): [string, string] => {
      const [name, value] = splitOnce(part, "=");
      return [decode(name), decode(value ?? "")];
    });
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(message.headers))
    headers[name] = Array.isArray(value) ? value.join(",") : (value ?? "");
  return { method: message.method ?? "GET", path, query, headers, body };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replace(/\+/g, "%20"));
  } catch {
    return text;
  }
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

function formPairs(request: ReceivedRequest): (readonly [string, string])[] {
  const isForm = request.headers["content-type"]?.startsWith("application/x-www-form-urlencoded") === true;
  if (request.method === "GET" || !isForm) return [...request.query];
  return [...request.query, ...new URLSearchParams(request.body.toString("utf8"))];
}

/** The service an unsigned request seems to mean, so that its refusal comes in a format its client reads. */
function guessService(request: ReceivedRequest): string | undefined {
  const version = formPairs(request).find(([name]) => name === "Version")?.[1];
  if (version === "2016-11-15") return "ec2";
  if (version === "2011-06-15") return "sts";
  if (version === "2011-01-01") return "autoscaling";
  return /^\/(clusters|addons|cluster-versions|access-policies|tags)(\/|$)/.test(request.path) ? "eks" : undefined;
}

function guessForm(request: ReceivedRequest): Form {
  return formPairs(request).some(([name]) => name === "Action") ? "query" : "rest-json";
}

function unknownService(form: Form, request: ReceivedRequest, service: string): ApiError {
  const target = request.headers["x-amz-target"];
  const action =
    target ?? formPairs(request).find(([name]) => name === "Action")?.[1] ?? `${request.method} ${request.path}`;
  if (form === "query")
    return new ApiError("InvalidAction", `Could not find operation ${action}: the service ${service} is not emulated`);
  return new ApiError(
    "UnknownOperationException",
    `Could not find operation ${action}: the service ${service} is not emulated`,
    target === undefined ? 404 : 400,
  );
}

async function readBody(message: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message) {
    size += (chunk as Buffer).length;
    if (size <= largestBody) chunks.push(chunk as Buffer);
  }
  return size > largestBody ? undefined : Buffer.concat(chunks);
}
