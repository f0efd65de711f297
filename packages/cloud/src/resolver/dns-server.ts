/** DNS over UDP and TCP on one address of one namespace; a socket per address, so that replies leave from the address asked. */
import { createSocket } from "node:dgram";
import { createServer, type Socket } from "node:net";
import { bindUdp, listenTcp } from "@underlay/kernel/sockets";
import { replyTo, type Resolve } from "./reply.ts";

export type DnsServerOptions = {
  readonly netns: string;
  readonly address: string;
  readonly resolve: Resolve;
  /** Answers as the owner of its zones rather than as a recursive resolver. Default false. */
  readonly authoritative?: boolean;
};

const idleMs = 10_000;

export function startDns({ netns, address, resolve, authoritative = false }: DnsServerOptions): { close(): void } {
  const udp = createSocket("udp4");
  udp.on("message", (message, from) => {
    const reply = replyTo(message, resolve, { transport: "udp", authoritative });
    if (reply !== undefined) udp.send(reply, from.port, from.address);
  });
  // An ICMP error for an earlier reply must not end the server.
  udp.on("error", () => {});
  udp.bind({ fd: bindUdp({ netns, address, port: 53, receiveBuffer: 1 << 20 }) });

  const open = new Set<Socket>();
  const tcp = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    serveStream(socket, (message) => replyTo(message, resolve, { transport: "tcp", authoritative }));
  });
  tcp.listen({ fd: listenTcp({ netns, address, port: 53 }) });
  return {
    close: () => {
      udp.close();
      tcp.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** Messages with a two-byte length before each, several on one connection. */
function serveStream(socket: Socket, reply: (message: Buffer) => Buffer | undefined): void {
  let held = Buffer.alloc(0);
  socket.setTimeout(idleMs, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const end = 2 + held.readUInt16BE(0);
      const answer = reply(held.subarray(2, end));
      held = held.subarray(end);
      if (answer === undefined) return void socket.destroy();
      socket.write(answer);
    }
  });
}
