/** Runs one probe (HTTP, TCP, exec, gRPC) from the node, as the kubelet does; the outcome carries upstream's failure text. */
import http from "node:http";
import https from "node:https";
import { connect } from "node:net";
import type { Container, Probe } from "@underlay/kube/objects";
import type { Collected } from "./exec-in-pod.ts";

export type ProbeOutcome = { readonly ok: boolean; readonly message: string };
export type ProbeTarget = {
  readonly podIp: string;
  readonly container: Container;
  readonly exec: (argv: readonly string[], timeoutMs: number) => Promise<Collected>;
};

export async function runProbe(probe: Probe, target: ProbeTarget): Promise<ProbeOutcome> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  if (probe.httpGet) return probeHttp(probe.httpGet, target, timeoutMs);
  if (probe.tcpSocket)
    return probeTcp(
      probe.tcpSocket.host || target.podIp,
      portNumber(target.container, probe.tcpSocket.port),
      timeoutMs,
    );
  if (probe.exec) return probeExec(probe.exec.command ?? [], target, timeoutMs, probe.timeoutSeconds ?? 1);
  if (probe.grpc) return probeGrpc(target.podIp, probe.grpc.port, probe.grpc.service ?? "", timeoutMs);
  return { ok: true, message: "" };
}

export type HttpGet = NonNullable<Probe["httpGet"]>;

/** GET as a probe or a lifecycle hook sends it: any status from 200 to 399 is a success. */
export function probeHttp(
  get: HttpGet,
  target: { podIp: string; container: Container },
  timeoutMs: number,
): Promise<ProbeOutcome> {
  const host = get.host || target.podIp;
  const port = portNumber(target.container, get.port as string | number);
  const secure = (get.scheme ?? "HTTP").toUpperCase() === "HTTPS";
  const path = get.path?.startsWith("/") ? get.path : `/${get.path ?? ""}`;
  const url = `${secure ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}${path}`;
  const headers: Record<string, string> = { "User-Agent": "kube-probe/1.33", Accept: "*/*" };
  for (const header of get.httpHeaders ?? []) headers[header.name] = header.value;
  return new Promise((resolve) => {
    const fail = (why: string) => resolve({ ok: false, message: `Get "${url}": ${why}` });
    // A new connection each time, as the kubelet: a probe must not live on a connection an earlier process accepted.
    const options = { agent: false, headers, timeout: timeoutMs, rejectUnauthorized: false };
    const request = (secure ? https : http).get(url, options, (answer) => {
      const status = answer.statusCode ?? 0;
      answer.resume();
      answer.on("error", () => {});
      clearTimeout(timer);
      resolve(
        status >= 200 && status < 400
          ? { ok: true, message: "" }
          : { ok: false, message: `HTTP probe failed with statuscode: ${status}` },
      );
      request.destroy();
    });
    const timer = setTimeout(() => {
      fail("context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
      request.destroy();
    }, timeoutMs);
    request.on("error", (err: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      fail(dialText(err, host, port));
    });
  });
}

function probeTcp(host: string, port: number, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const finish = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => finish({ ok: false, message: `dial tcp ${host}:${port}: i/o timeout` }), timeoutMs);
    socket.on("connect", () => finish({ ok: true, message: "" }));
    socket.on("error", (err: NodeJS.ErrnoException) => finish({ ok: false, message: dialText(err, host, port) }));
  });
}

async function probeExec(
  argv: readonly string[],
  target: ProbeTarget,
  timeoutMs: number,
  seconds: number,
): Promise<ProbeOutcome> {
  const result = await target.exec(argv, timeoutMs);
  if (result.timedOut)
    return { ok: false, message: `command timed out: "${argv.join(" ")}" timed out after ${seconds}s` };
  return { ok: result.code === 0, message: result.error ?? result.output.trim() };
}

/** grpc.health.v1.Health/Check over plain HTTP/2, written out: one string field in, one enum field out. */
async function probeGrpc(host: string, port: number, service: string, timeoutMs: number): Promise<ProbeOutcome> {
  const { connect: connectHttp2 } = await import("node:http2");
  const name = Buffer.from(service);
  const message = service ? Buffer.concat([Buffer.from([0x0a, name.length]), name]) : Buffer.alloc(0);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return new Promise((resolve) => {
    const address = `${host}:${port}`;
    const session = connectHttp2(`http://${address}`);
    const finish = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      session.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(
      () =>
        finish({
          ok: false,
          message: `timeout: failed to connect service "${address}" within ${timeoutMs / 1000}s: context deadline exceeded`,
        }),
      timeoutMs,
    );
    session.on("error", (err: NodeJS.ErrnoException) =>
      finish({ ok: false, message: `error: ${dialText(err, host, port)}` }),
    );
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const parts: Buffer[] = [];
    let status = "";
    stream.on("data", (part: Buffer) => parts.push(part));
    stream.on("response", (headers) => (status = String(headers["grpc-status"] ?? status)));
    stream.on("trailers", (headers) => (status = String(headers["grpc-status"] ?? status)));
    stream.on("error", (err: NodeJS.ErrnoException) => finish({ ok: false, message: dialText(err, host, port) }));
    stream.on("end", () => {
      const body = Buffer.concat(parts).subarray(5);
      const serving = body[0] === 0x08 && body[1] === 1;
      if (status !== "0") finish({ ok: false, message: `service unhealthy (grpc status ${status})` });
      else finish({ ok: serving, message: serving ? "" : 'service unhealthy (responded with "NOT_SERVING")' });
    });
    stream.end(Buffer.concat([head, message]));
  });
}

/** A number, or the container port of that name. */
export function portNumber(container: Container, port: string | number): number {
  if (typeof port === "number") return port;
  const named = container.ports?.find((p) => p.name === port);
  return named?.containerPort ?? (Number(port) || 0);
}

function dialText(err: NodeJS.ErrnoException, host: string, port: number): string {
  const words: Record<string, string> = {
    ECONNREFUSED: "connect: connection refused",
    EHOSTUNREACH: "connect: no route to host",
    ENETUNREACH: "connect: network is unreachable",
    ETIMEDOUT: "i/o timeout",
  };
  if (err.code === "ECONNRESET") return "EOF";
  return `dial tcp ${host}:${port}: ${words[err.code ?? ""] ?? err.message}`;
}
