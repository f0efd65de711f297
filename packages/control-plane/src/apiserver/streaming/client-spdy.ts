/** Accepting a client's SPDY/3.1 upgrade, or SPDY inside an accepted WebSocket. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { badRequest } from "../api-error.ts";
import { bytesOf } from "./client-websocket.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";

export type SpdyClient = {
  readonly connection: SpdyConnection;
  pause(): void;
  resume(): void;
  onClose(listener: () => void): void;
};

/** Is this a SPDY upgrade. */
export const wantsSpdy = (request: IncomingMessage): boolean =>
  /^spdy\/3\.1$/i.test(String(request.headers.upgrade ?? ""));

/** Answers 101 and speaks SPDY on the socket. `version` must be among those the client offers. */
export function acceptSpdy(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  version: string,
  onStream: (stream: SpdyStream) => void,
): SpdyClient {
  const offered = (request.headersDistinct["x-stream-protocol-version"] ?? []).flatMap((line) =>
    line.split(",").map((v) => v.trim()),
  );
  if (offered.length > 0 && !offered.includes(version)) {
    throw badRequest(
      `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(" ")}], server supports [${version}]`,
    );
  }
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n" +
      `X-Stream-Protocol-Version: ${version}\r\n\r\n`,
  );
  const connection = new SpdyConnection(
    { write: (bytes) => void socket.write(bytes), buffered: () => socket.writableLength, end: () => void socket.end() },
    onStream,
  );
  const feed = (bytes: Buffer) => {
    try {
      connection.feed(bytes);
    } catch {
      socket.destroy();
    }
  };
  socket.on("data", feed);
  socket.on("error", () => socket.destroy());
  socket.on("close", () => connection.lost());
  if (head.length > 0) feed(head);
  socket.resume();
  return {
    connection,
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    onClose: (listener) => void socket.on("close", listener),
  };
}

/** SPDY whose bytes travel in the binary messages of a WebSocket. */
export function spdyOverWebSocket(client: WebSocket, onStream: (stream: SpdyStream) => void): SpdyClient {
  const connection = new SpdyConnection(
    { write: (bytes) => client.send(bytes), buffered: () => client.bufferedAmount, end: () => client.close(1000) },
    onStream,
  );
  client.on("message", (data) => {
    try {
      connection.feed(bytesOf(data));
    } catch {
      client.terminate();
    }
  });
  client.on("error", () => client.terminate());
  client.on("close", () => connection.lost());
  client.resume();
  return {
    connection,
    pause: () => client.pause(),
    resume: () => client.resume(),
    onClose: (listener) => void client.on("close", listener),
  };
}
