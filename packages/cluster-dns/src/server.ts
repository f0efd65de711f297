/** The DNS server's sockets: UDP with truncation by EDNS size, TCP with length-prefixed messages. */
import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import {
  AUTHORITATIVE_ANSWER,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
  decode,
  encode,
  type DecodedPacket,
  type Packet,
} from "dns-packet";
import type { Resolver } from "./resolver.ts";

const rcodes: Record<string, number> = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 };
/** Largest UDP answer to a client that does not say what it can take (RFC 1035 §4.2.1). */
const plainUdpBytes = 512;
const ourUdpBytes = 1232;

export type DnsServer = { readonly address: { readonly udp: number; readonly tcp: number }; close(): Promise<void> };

export type QueryObserver = (query: {
  type: string;
  rcode: string;
  tookMs: number;
  transport: "udp" | "tcp";
  name: string;
}) => void;

export async function serveDns(options: {
  port: number;
  address: string;
  resolve: Resolver;
  observe: QueryObserver;
}): Promise<DnsServer> {
  const udp = dgram.createSocket({ type: "udp4", recvBufferSize: 4 * 1024 * 1024 });
  udp.on("message", async (message, sender) => {
    const reply = await answer(message, options, "udp");
    if (reply) udp.send(reply, sender.port, sender.address);
  });
  udp.on("error", () => {}); // a reply to a client that is gone must not end the server
  udp.bind(options.port, options.address);
  await once(udp, "listening");
  const port = udp.address().port;

  const tcp = net.createServer((socket) => serveStream(socket, options));
  tcp.listen(port, options.address);
  await once(tcp, "listening");
  return {
    address: { udp: port, tcp: port },
    close: async () => {
      udp.close();
      tcp.close();
      await once(tcp, "close");
    },
  };
}

function serveStream(socket: net.Socket, options: { resolve: Resolver; observe: QueryObserver }): void {
  let received = Buffer.alloc(0);
  socket.setTimeout(10_000, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", async (chunk) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      const length = received.readUInt16BE(0);
      const message = received.subarray(2, 2 + length);
      received = received.subarray(2 + length);
      const reply = await answer(message, options, "tcp");
      if (!reply) return socket.destroy();
      const prefix = Buffer.alloc(2);
      prefix.writeUInt16BE(reply.length);
      socket.write(Buffer.concat([prefix, reply]));
    }
  });
}

async function answer(
  message: Buffer,
  options: { resolve: Resolver; observe: QueryObserver },
  transport: "udp" | "tcp",
): Promise<Buffer | undefined> {
  const began = performance.now();
  let query: DecodedPacket;
  try {
    query = decode(message);
  } catch {
    return message.length >= 12 ? formatError(message) : undefined;
  }
  const question = query.questions?.[0];
  if (query.type !== "query" || !question) return undefined;
  const recursion = query.flag_rd ? RECURSION_DESIRED : 0;
  const opt = query.additionals?.find((record) => record.type === "OPT");
  const options4 = opt
    ? [
        {
          type: "OPT" as const,
          name: ".",
          udpPayloadSize: ourUdpBytes,
          extendedRcode: 0,
          ednsVersion: 0,
          flags: 0,
          flag_do: false,
          options: [],
        },
      ]
    : [];
  let resolved: Awaited<ReturnType<Resolver>>;
  try {
    resolved = await options.resolve({ name: question.name, type: question.type });
  } catch {
    resolved = { rcode: "SERVFAIL", answers: [], authorities: [], additionals: [], authoritative: false };
  }
  const flags =
    RECURSION_AVAILABLE |
    recursion |
    (resolved.authoritative ? AUTHORITATIVE_ANSWER : 0) |
    (rcodes[resolved.rcode] ?? 2);
  const packet: Packet = {
    type: "response",
    id: query.id ?? 0,
    flags,
    questions: [question],
    answers: resolved.answers ?? [],
    authorities: resolved.authorities ?? [],
    additionals: [...(resolved.additionals ?? []), ...options4],
  };
  options.observe({
    type: question.type,
    name: question.name,
    rcode: resolved.rcode,
    tookMs: performance.now() - began,
    transport,
  });
  const limit =
    transport === "tcp"
      ? 65_535
      : Math.max(
          plainUdpBytes,
          Math.min(ourUdpBytes, opt && "udpPayloadSize" in opt ? opt.udpPayloadSize : plainUdpBytes),
        );
  const full = encode(packet);
  if (full.length <= limit) return full;
  return encode({ ...packet, flags: flags | TRUNCATED_RESPONSE, answers: [], authorities: [], additionals: options4 });
}

/** A FORMERR reply to a message whose header at least could be read. */
function formatError(message: Buffer): Buffer {
  const reply = Buffer.alloc(12);
  message.copy(reply, 0, 0, 2);
  reply.writeUInt16BE(0x8001, 2);
  return reply;
}
