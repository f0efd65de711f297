/**
 * Forwards questions outside the cluster's zones to the VPC resolver and keeps the answers for a while.
 * One UDP try per upstream with a short deadline, TCP when the answer is truncated; SERVFAIL when nobody answers.
 */
import dgram from "node:dgram";
import { readFileSync } from "node:fs";
import net from "node:net";
import { decode, encode, streamEncode, type DecodedPacket, type Packet } from "dns-packet";
import type { Question } from "./records.ts";

export type Reply = Pick<Packet, "answers" | "authorities" | "additionals"> & { readonly rcode: string };

type Cached = { readonly reply: Reply; readonly expires: number; readonly stored: number };

const tryMs = 2000;
const maxCached = 10_000;

export class Forwarder {
  readonly #upstreams: readonly string[];
  readonly #cacheMs: number;
  readonly #now: () => number;
  readonly #cache = new Map<string, Cached>();

  constructor(options: { upstreams: readonly string[]; cacheSeconds: number; now: () => number }) {
    this.#upstreams = options.upstreams;
    this.#cacheMs = options.cacheSeconds * 1000;
    this.#now = options.now;
  }

  async ask(question: Question): Promise<Reply> {
    const key = `${question.type} ${question.name.toLowerCase()}`;
    const cached = this.#cache.get(key);
    if (cached && cached.expires > this.#now()) return aged(cached, this.#now());
    for (const upstream of this.#upstreams) {
      try {
        const reply = await askOnce(upstream, question);
        this.#remember(key, reply);
        return reply;
      } catch {
        // The next upstream is asked; SERVFAIL below when there is none left.
      }
    }
    return { rcode: "SERVFAIL", answers: [], authorities: [], additionals: [] };
  }

  #remember(key: string, reply: Reply): void {
    if (this.#cacheMs === 0 || (reply.rcode !== "NOERROR" && reply.rcode !== "NXDOMAIN")) return;
    const ttls = [...(reply.answers ?? []), ...(reply.authorities ?? [])].map((answer) =>
      "ttl" in answer ? (answer.ttl ?? 0) * 1000 : 0,
    );
    const ttl = Math.min(this.#cacheMs, ...(ttls.length > 0 ? ttls : [5000]));
    if (this.#cache.size >= maxCached) this.#cache.delete(this.#cache.keys().next().value ?? "");
    this.#cache.set(key, { reply, expires: this.#now() + ttl, stored: this.#now() });
  }
}

/** A cached answer with its TTLs counted down. */
function aged({ reply, stored }: Cached, now: number): Reply {
  const age = Math.floor((now - stored) / 1000);
  const younger = <T extends object>(answers: readonly T[] | undefined): T[] =>
    (answers ?? []).map((answer) =>
      "ttl" in answer && typeof answer.ttl === "number" ? { ...answer, ttl: Math.max(0, answer.ttl - age) } : answer,
    );
  return { ...reply, answers: younger(reply.answers), authorities: younger(reply.authorities) };
}

/** The `nameserver` lines of a resolv.conf, or the addresses given. */
export function upstreamAddresses(upstream: readonly string[]): string[] {
  return upstream.flatMap((entry) => {
    if (!entry.startsWith("/")) return [entry.replace(/^dns:\/\//, "")];
    return [...readFileSync(entry, "utf8").matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? "");
  });
}

async function askOnce(upstream: string, question: Question): Promise<Reply> {
  const query = {
    type: "query" as const,
    id: Math.floor(Math.random() * 65536),
    flags: 256,
    questions: [{ type: question.type as "A", name: question.name }],
  };
  const reply = await overUdp(upstream, query);
  const full = reply.flag_tc ? await overTcp(upstream, query) : reply;
  const additionals = (full.additionals ?? []).filter((record) => record.type !== "OPT");
  return { rcode: rcodeOf(full), answers: full.answers ?? [], authorities: full.authorities ?? [], additionals };
}

function rcodeOf(packet: DecodedPacket): string {
  return (packet as DecodedPacket & { rcode?: string }).rcode ?? "NOERROR";
}

function overUdp(upstream: string, query: Packet): Promise<DecodedPacket> {
  return new Promise((settle, fail) => {
    const socket = dgram.createSocket(net.isIPv6(upstream) ? "udp6" : "udp4");
    const timer = setTimeout(() => finish(new Error(`no answer from ${upstream} within ${tryMs} ms`)), tryMs);
    const finish = (outcome: Error | DecodedPacket): void => {
      clearTimeout(timer);
      socket.close();
      if (outcome instanceof Error) fail(outcome);
      else settle(outcome);
    };
    socket.once("error", finish);
    socket.on("message", (message, sender) => {
      if (sender.address !== upstream) return;
      const reply = safeDecode(() => decode(message));
      if (reply && reply.id === query.id) finish(reply);
    });
    socket.connect(53, upstream, () => socket.send(encode(query)));
  });
}

function overTcp(upstream: string, query: Packet): Promise<DecodedPacket> {
  return new Promise((settle, fail) => {
    const socket = net.connect({ host: upstream, port: 53, timeout: tryMs });
    let received = Buffer.alloc(0);
    socket.on("connect", () => socket.write(streamEncode(query)));
    socket.on("timeout", () => socket.destroy(new Error(`no answer from ${upstream} within ${tryMs} ms`)));
    socket.on("error", fail);
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const reply = safeDecode(() => decode(received.subarray(2)));
      socket.destroy();
      if (reply) settle(reply);
      else fail(new Error(`unreadable answer from ${upstream}`));
    });
  });
}

function safeDecode(read: () => DecodedPacket): DecodedPacket | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
