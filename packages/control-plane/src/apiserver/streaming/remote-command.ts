/**
 * exec and attach: a client's session (WebSocket channels or SPDY streams) joined to the kubelet's `v5.channel.k8s.io`.
 * Channels: 0 stdin, 1 stdout, 2 stderr, 3 status, 4 resize, 255 close of the channel named by its byte.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { badRequest } from "../api-error.ts";
import { acceptSpdy, wantsSpdy } from "./client-spdy.ts";
import { acceptWebSocket, bytesOf, channelProtocols, offeredProtocols } from "./client-websocket.ts";
import { congestion } from "./congestion.ts";
import type { SpdyStream } from "./spdy.ts";

const channel = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, close: 255 } as const;
const streamsTimeoutMs = 30_000;

export type CommandStreams = {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
};

/** Which streams a client asks for, and what the kubelet is asked in turn. Pure. */
export function commandQuery(query: URLSearchParams): { streams: CommandStreams; kubelet: URLSearchParams } {
  const on = (name: string) => ["true", "1"].includes(query.get(name) ?? "");
  const streams = { stdin: on("stdin"), stdout: on("stdout"), stderr: on("stderr"), tty: on("tty") };
  if (!streams.stdin && !streams.stdout && !streams.stderr)
    throw badRequest("you must specify at least 1 of stdin, stdout, stderr");
  const kubelet = new URLSearchParams();
  for (const command of query.getAll("command")) kubelet.append("command", command);
  if (streams.stdin) kubelet.set("input", "1");
  if (streams.stdout) kubelet.set("output", "1");
  if (streams.stderr && !streams.tty) kubelet.set("error", "1");
  if (streams.tty) kubelet.set("tty", "1");
  return { streams, kubelet };
}

/** Joins an upgrade request to an open (paused) kubelet socket; the session then lives by itself. */
export async function joinCommand(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  kubelet: WebSocket,
  streams: CommandStreams,
): Promise<void> {
  if (wantsSpdy(request)) return joinSpdy(request, socket, head, kubelet, streams);
  const offered = offeredProtocols(request);
  const protocol = channelProtocols.find((candidate) => offered.includes(candidate));
  if (offered.length > 0 && protocol === undefined) {
    throw badRequest(
      `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(" ")}], server supports [${channelProtocols.slice(0, 2).join(" ")}]`,
    );
  }
  joinWebSocket(await acceptWebSocket(request, socket, head, protocol), kubelet, protocol ?? "channel.k8s.io");
}

/** The protocols are the same on both sides, but for what older ones lack: close messages, and JSON in the status. */
function joinWebSocket(client: WebSocket, kubelet: WebSocket, protocol: string): void {
  const structured = protocol === "v5.channel.k8s.io" || protocol === "v4.channel.k8s.io";
  const fromClient = congestion(client, () => kubelet.bufferedAmount);
  const fromKubelet = congestion(kubelet, () => client.bufferedAmount);
  let ended = false;
  client.on("message", (data) => {
    if (kubelet.readyState === kubelet.OPEN) kubelet.send(bytesOf(data));
    fromClient.check();
  });
  kubelet.on("message", (data) => {
    let bytes = bytesOf(data);
    if (bytes[0] === channel.status) {
      ended = true;
      if (!structured) {
        const plain = plainStatus(bytes.subarray(1));
        if (plain === "") return;
        bytes = Buffer.concat([Buffer.from([channel.status]), Buffer.from(plain)]);
      }
    }
    if (client.readyState === client.OPEN) client.send(bytes);
    fromKubelet.check();
  });
  const over = () => {
    fromClient.stop();
    fromKubelet.stop();
  };
  kubelet.on("close", () => {
    over();
    if (ended) client.close(1000);
    else client.close(1011, "the connection to the kubelet was lost");
  });
  client.on("close", () => {
    over();
    kubelet.close(1000);
  });
  kubelet.on("error", () => kubelet.terminate());
  client.on("error", () => client.terminate());
  // A client that went away during the handshake gives no further event.
  if (client.readyState === client.CLOSED) return kubelet.close(1000);
  client.resume();
  kubelet.resume();
}

/** Before v4 the error channel carried the error's text, and nothing on success. */
function plainStatus(json: Buffer): string {
  const status = JSON.parse(json.toString("utf8")) as { status?: string; message?: string };
  return status.status === "Success" ? "" : (status.message ?? "command failed");
}

async function joinSpdy(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  kubelet: WebSocket,
  streams: CommandStreams,
): Promise<void> {
  const byType = new Map<string, SpdyStream>();
  const wanted = [
    "error",
    ...(["stdin", "stdout", "stderr"] as const).filter((name) => streams[name] && !(name === "stderr" && streams.tty)),
    ...(streams.tty ? ["resize"] : []),
  ];
  const complete = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => complete.reject(new Error("timed out waiting for client to create streams")),
    streamsTimeoutMs,
  );
  let fromClient: ReturnType<typeof congestion> | undefined;
  const client = acceptSpdy(request, socket, head, "v4.channel.k8s.io", (stream) => {
    byType.set(stream.headers["streamtype"] ?? "", stream);
    if (wanted.every((type) => byType.has(type))) complete.resolve();
  });
  client.onClose(() => complete.reject(new Error("the client went away")));
  try {
    await complete.promise;
  } catch {
    kubelet.close(1000);
    return client.connection.close();
  } finally {
    clearTimeout(timer);
  }
  const send = (to: number, bytes: Buffer) => {
    if (kubelet.readyState === kubelet.OPEN) kubelet.send(Buffer.concat([Buffer.from([to]), bytes]));
    fromClient?.check();
  };
  fromClient = congestion(client, () => kubelet.bufferedAmount);
  const fromKubelet = congestion(kubelet, () => client.connection.buffered());
  byType.get("stdin")?.listen(
    (chunk) => send(channel.stdin, chunk),
    () => send(channel.close, Buffer.from([channel.stdin])),
  );
  byType.get("resize")?.listen((chunk) => {
    for (const line of chunk.toString("utf8").split("\n"))
      if (line.trim() !== "") send(channel.resize, Buffer.from(line));
  });
  for (const name of ["error", "stdout", "stderr"]) byType.get(name)?.listen(() => {});
  kubelet.on("message", (data) => {
    const bytes = bytesOf(data);
    const to = ["", "stdout", "stderr", "error"][bytes[0] ?? 0] ?? "";
    byType.get(to)?.write(bytes.subarray(1));
    fromKubelet.check();
  });
  kubelet.on("close", () => {
    fromClient?.stop();
    fromKubelet.stop();
    for (const name of ["stdout", "stderr", "error"]) byType.get(name)?.end();
    client.connection.close();
  });
  kubelet.on("error", () => kubelet.terminate());
  client.onClose(() => kubelet.close(1000));
  kubelet.resume();
}
