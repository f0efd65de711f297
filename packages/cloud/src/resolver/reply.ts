/** A DNS query in, the bytes of its reply out. Pure, apart from the names it is given. */
import {
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  streamEncode,
  TRUNCATED_RESPONSE,
  type Packet,
} from "dns-packet";
import type { Answer as NameAnswer } from "./names.ts";

export type Resolve = (name: string) => NameAnswer;

const codes = { ok: 0, formatError: 1, nameError: 3, notImplemented: 4 } as const;

/** Undefined: what came was not a query and gets no reply. */
export function replyTo(
  message: Buffer,
  resolve: Resolve,
  o: { transport: "udp" | "tcp"; authoritative: boolean },
): Buffer | undefined {
  let query: Packet;
  try {
    query = decode(message);
  } catch {
    return message.length >= 12 && (message[2]! & 0x80) === 0 ? formatError(message) : undefined;
  }
  if (query.type !== "query") return undefined;
  try {
    return encodeReply(query, buildReply(query, resolve, o.authoritative), o.transport);
  } catch {
    // A question the library can read but not write again.
    return formatError(message);
  }
}

function encodeReply(query: Packet, reply: Packet, transport: "udp" | "tcp"): Buffer {
  if (transport === "tcp") return streamEncode(reply);
  const bytes = encode(reply);
  const limit = Math.max(512, Math.min(4096, ednsSize(query) ?? 512));
  if (bytes.length <= limit) return bytes;
  return encode({ ...reply, flags: (reply.flags ?? 0) | TRUNCATED_RESPONSE, answers: [], authorities: [] });
}

function buildReply(query: Packet, resolve: Resolve, authoritative: boolean): Packet {
  const question = query.questions?.[0];
  const base: Packet = {
    type: "response",
    id: query.id ?? 0,
    questions: query.questions ?? [],
    ...(ednsSize(query) === undefined
      ? {}
      : {
          additionals: [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize: 4096,
              flags: 0,
              flag_do: false,
              extendedRcode: 0,
              ednsVersion: 0,
              options: [],
            },
          ],
        }),
  };
  const flags = (authoritative ? AUTHORITATIVE_ANSWER : RECURSION_AVAILABLE) | ((query.flags ?? 0) & RECURSION_DESIRED);
  const opcode = ((query.flags ?? 0) >> 11) & 0xf;
  if (opcode !== 0) return { ...base, flags: flags | (opcode << 11) | codes.notImplemented };
  if (question === undefined || query.questions?.length !== 1) return { ...base, flags: flags | codes.formatError };

  const name = question.name.toLowerCase().replace(/\.$/, "");
  const answer = resolve(name);
  const common = { name: question.name, class: "IN" } as const;
  switch (answer.found) {
    case "addresses":
      if (isAsked(question.type, "A")) {
        return {
          ...base,
          flags,
          answers: answer.addresses.map((data) => ({ ...common, type: "A", ttl: answer.ttl, data })),
        };
      }
      return { ...base, flags, authorities: [denial(name.split(".").slice(1).join("."))] };
    case "name":
      if (isAsked(question.type, "PTR")) {
        return { ...base, flags, answers: [{ ...common, type: "PTR", ttl: answer.ttl, data: answer.name }] };
      }
      return { ...base, flags, authorities: [denial("in-addr.arpa")] };
    case "nothing":
      return { ...base, flags: flags | codes.nameError, authorities: [denial(answer.zone)] };
  }
}

/** The SOA that lets a client remember a denial for a minute. */
function denial(zone: string): NonNullable<Packet["authorities"]>[number] {
  const name = zone === "" ? "." : zone;
  return {
    type: "SOA",
    name,
    ttl: 60,
    data: {
      mname: zone === "" ? "a.root-servers.net" : `ns0.${zone}`,
      rname: "hostmaster.amazon.com",
      serial: 2012103100,
      refresh: 3600,
      retry: 3600,
      expire: 3600,
      minimum: 60,
    },
  };
}

function ednsSize(query: Packet): number | undefined {
  const opt = query.additionals?.find((record) => record.type === "OPT");
  return opt?.type === "OPT" ? opt.udpPayloadSize : undefined;
}

function formatError(message: Buffer): Buffer {
  const reply = Buffer.alloc(12);
  message.copy(reply, 0, 0, 2);
  reply.writeUInt16BE(0x8000 | RECURSION_AVAILABLE | codes.formatError, 2);
  return reply;
}

/** `ANY` is a question the library's types do not name. */
function isAsked(type: string, wanted: "A" | "PTR"): boolean {
  return type === wanted || type === "ANY";
}
