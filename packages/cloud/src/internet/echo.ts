/**
 * The echo host of the internet: whoever talks to it learns how it is seen from there.
 * HTTP: the client's address and the request as JSON. TCP and UDP port 7: what was sent comes back.
 */
import { createSocket } from "node:dgram";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Socket } from "node:net";
import { bindUdp, listenTcp } from "@underlay/kernel/sockets";

const bodyLimit = 64 * 1024;

export function answerHttp(request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = [];
  let size = 0;
  request.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= bodyLimit) chunks.push(chunk);
  });
  request.on("end", () => {
    const { socket, method, url, headers } = request;
    const body = Buffer.concat(chunks).toString("utf8");
    const text = `${JSON.stringify(
      {
        client: { address: socket.remoteAddress, port: socket.remotePort },
        server: { address: socket.localAddress, port: socket.localPort },
        request: { method, url, headers, ...(size === 0 ? {} : { body, bodyLength: size }) },
      },
      null,
      2,
    )}\n`;
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(request.method === "HEAD" ? undefined : text);
  });
}

export function startEcho(netns: string, address: string, port = 7): { close(): void } {
  const open = new Set<Socket>();
  const tcp = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.pipe(socket);
  });
  tcp.listen({ fd: listenTcp({ netns, address, port }) });
  const udp = createSocket("udp4");
  udp.on("error", () => {});
  udp.on("message", (message, from) => udp.send(message, from.port, from.address));
  udp.bind({ fd: bindUdp({ netns, address, port }) });
  return {
    close: () => {
      tcp.close();
      udp.close();
      for (const socket of open) socket.destroy();
    },
  };
}
