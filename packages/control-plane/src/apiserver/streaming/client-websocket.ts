/** Accepting a client's WebSocket upgrade: the channel protocols, and SPDY tunnelled in one. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";

export const channelProtocols = [
  "v5.channel.k8s.io",
  "v4.channel.k8s.io",
  "v3.channel.k8s.io",
  "v2.channel.k8s.io",
  "channel.k8s.io",
];
export const tunnelProtocol = "SPDY/3.1+portforward.k8s.io";

/** Subprotocols a client offers, in its order. */
export function offeredProtocols(request: IncomingMessage): string[] {
  return String(request.headers["sec-websocket-protocol"] ?? "")
    .split(",")
    .map((protocol) => protocol.trim())
    .filter(Boolean);
}

/** Answers 101 with `protocol`. The socket comes paused: it delivers once somebody listens and resumes it. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string | undefined,
): Promise<WebSocket> {
  const { WebSocketServer } = await import("ws");
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    clientTracking: false,
    maxPayload: 64 * 1024 * 1024,
    handleProtocols: () => protocol ?? false,
  });
  if (protocol?.includes("/")) {
    // "/" is no token character, so the library would refuse what kubectl offers: it never sees the offer, and we answer it.
    delete request.headers["sec-websocket-protocol"];
    server.on("headers", (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  }
  return new Promise((resolve, reject) => {
    socket.once("close", () => reject(new Error("the client went away during its upgrade")));
    server.handleUpgrade(request, socket, head, (accepted) => {
      accepted.pause();
      resolve(accepted);
    });
  });
}

/** A message's bytes, whatever form the library gave them. */
export function bytesOf(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
