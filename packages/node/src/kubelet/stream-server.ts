/**
 * Exec, attach and port-forward over WebSockets, as the API server speaks them to a kubelet:
 * `v5.channel.k8s.io` (first byte of a message is the channel: 0 stdin, 1 stdout, 2 stderr, 3 status, 4 resize, 255 close) and the
 * legacy port-forward form (`?ports=N`: channels 2i data, 2i+1 error, the first message on each is the port, little-endian).
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import type { Kubelet } from "./kubelet.ts";
import type { PodWorker } from "./pod-worker.ts";
import { parseRoute } from "./kubelet-route.ts";

const channelProtocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const portForwardProtocols = ["v4.channel.k8s.io", "portforward.k8s.io"];
const server = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered) => [...channelProtocols, ...portForwardProtocols].find((p) => offered.has(p)) ?? false,
});

export function serveUpgrade(kubelet: Kubelet, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const url = new URL(request.url ?? "/", "https://kubelet");
  const route = parseRoute(url.pathname);
  const worker = route && kubelet.findWorker(route.namespace, route.pod);
  if (!route || !worker)
    return void socket.end(`HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\npod "${route?.pod ?? ""}" not found`);
  if (route.kind !== "portForward" && !worker.records.get(route.container)?.running) {
    return void socket.end(
      `HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\ncontainer not found ("${route.container}")`,
    );
  }
  server.handleUpgrade(request, socket, head, (web) => {
    web.on("error", () => {});
    if (route.kind === "exec") serveExec(kubelet, worker, route.container, url.searchParams, web);
    else if (route.kind === "attach") serveAttach(worker, route.container, url.searchParams, web);
    else if (route.kind === "portForward") void servePortForward(worker, url.searchParams, web);
    else web.close(1008);
  });
}

const flag = (query: URLSearchParams, ...names: string[]) =>
  names.some((name) => ["true", "1"].includes(query.get(name) ?? ""));

function serveExec(
  kubelet: Kubelet,
  worker: PodWorker,
  container: string,
  query: URLSearchParams,
  web: WebSocket,
): void {
  const tty = flag(query, "tty");
  const wantsStdin = flag(query, "stdin", "input");
  const running = kubelet.context.runtime.exec(worker.execTarget(container), query.getAll("command"), {
    tty,
    stdin: wantsStdin,
  });
  const timers = keepAlive(web);
  pipeOut(running.stdout, web, 1);
  pipeOut(running.stderr, web, 2);
  if (!wantsStdin) running.stdin.end();
  web.on("message", (data: Buffer) => {
    const channel = data[0];
    const rest = data.subarray(1);
    if (channel === 0) {
      if (!running.stdin.write(rest)) {
        web.pause();
        running.stdin.once("drain", () => web.resume());
      }
    } else if (channel === 4) {
      const size = JSON.parse(rest.toString("utf8")) as { Width: number; Height: number };
      running.resize(size.Width, size.Height);
    } else if (channel === 255 && rest[0] === 0) running.stdin.end();
  });
  web.on("close", () => {
    clearInterval(timers);
    running.stdin.end();
    if (tty) running.kill();
  });
  void running.done.then(({ code, error }) => {
    sendStatus(web, exitStatus(code, error));
    web.close(1000);
  });
}

/** The status object kubectl reads its exit code from. */
function exitStatus(code: number, error: string | undefined): unknown {
  if (error !== undefined) {
    const message = `error executing command in container: failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: ${error}: unknown`;
    return {
      metadata: {},
      status: "Failure",
      message,
      reason: "InternalError",
      details: { causes: [{ message }] },
      code: 500,
    };
  }
  if (code === 0) return { metadata: {}, status: "Success" };
  const message = `command terminated with non-zero exit code: command terminated with exit code ${code}`;
  return {
    metadata: {},
    status: "Failure",
    reason: "NonZeroExitCode",
    message,
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
  };
}

function serveAttach(worker: PodWorker, container: string, query: URLSearchParams, web: WebSocket): void {
  const running = worker.records.get(container)?.running;
  const shim = worker.shim;
  if (!running || !shim) return web.close(1011);
  const streams = shim.attach(running.id, worker.hasTerminal(container));
  const timers = keepAlive(web);
  const wantsStdin = flag(query, "stdin", "input");
  streams.onOutput((kind, data) => {
    if (web.readyState === web.OPEN) web.send(Buffer.concat([Buffer.from([kind]), data]));
  });
  web.on("message", (data: Buffer) => {
    const rest = data.subarray(1);
    if (data[0] === 0 && wantsStdin) streams.write(rest);
    else if (data[0] === 4) {
      const size = JSON.parse(rest.toString("utf8")) as { Width: number; Height: number };
      streams.resize(size.Width, size.Height);
    } else if (data[0] === 255 && rest[0] === 0) streams.endInput();
  });
  web.on("close", () => {
    clearInterval(timers);
    if (wantsStdin) streams.endInput();
    streams.close();
  });
  streams.onClose(() => {
    sendStatus(web, { metadata: {}, status: "Success" });
    web.close(1000);
  });
}

async function servePortForward(worker: PodWorker, query: URLSearchParams, web: WebSocket): Promise<void> {
  const ports = query
    .getAll("ports")
    .flatMap((text) => text.split(","))
    .map(Number);
  const { connectTcp } = await import("@underlay/kernel/sockets");
  const netns = worker.netns;
  const timers = keepAlive(web);
  const sockets = ports.map((port, index) => {
    const head = (channel: number) => Buffer.from([channel, port & 255, port >> 8]);
    web.send(head(index * 2));
    web.send(head(index * 2 + 1));
    const socket = connectTcp({ address: "127.0.0.1", port, ...(netns ? { netns } : {}) });
    socket.on("error", (err: NodeJS.ErrnoException) => {
      const text = `error forwarding port ${port} to pod ${worker.pod.metadata.uid}: failed to connect to localhost:${port} inside namespace: ${err.code === "ECONNREFUSED" ? "connect: connection refused" : err.message}`;
      if (web.readyState === web.OPEN) web.send(Buffer.concat([Buffer.from([index * 2 + 1]), Buffer.from(text)]));
    });
    pipeOut(socket, web, index * 2);
    socket.on("close", () => {
      if (sockets.every((s) => s.destroyed)) web.close(1000);
    });
    return socket;
  });
  web.on("message", (data: Buffer) => {
    const channel = data[0] ?? 0;
    if (channel === 255) return void sockets[(data[1] ?? 0) >> 1]?.end();
    if (channel % 2 !== 0) return;
    const socket = sockets[channel / 2];
    if (socket && !socket.write(data.subarray(1))) {
      web.pause();
      socket.once("drain", () => web.resume());
    }
  });
  web.on("close", () => {
    clearInterval(timers);
    for (const socket of sockets) socket.end();
  });
}

/** Sends what a stream gives on one channel; a slow reader slows the stream. */
function pipeOut(stream: NodeJS.ReadableStream, web: WebSocket, channel: number): void {
  const head = Buffer.from([channel]);
  stream.on("data", (chunk: Buffer) => {
    if (web.readyState !== web.OPEN) return;
    web.send(Buffer.concat([head, chunk]), () => {
      if (stream.isPaused() && web.bufferedAmount < 65_536) stream.resume();
    });
    if (web.bufferedAmount > 1_048_576) stream.pause();
  });
}

function sendStatus(web: WebSocket, status: unknown): void {
  if (web.readyState === web.OPEN) web.send(Buffer.concat([Buffer.from([3]), Buffer.from(JSON.stringify(status))]));
}

/** A ping each half minute, so that a connection nobody types on is not taken for dead. */
function keepAlive(web: WebSocket): NodeJS.Timeout {
  const timer = setInterval(() => web.readyState === web.OPEN && web.ping(), 30_000);
  timer.unref();
  return timer;
}
