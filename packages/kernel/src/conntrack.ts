/**
 * The connection tracking table of one namespace: list flows, delete some. Timeouts are sysctls
 * (`net.netfilter.nf_conntrack_udp_timeout_stream`, …), see sysctl.ts.
 */
import { ipFromBytes, type Family } from "@underlay/addr/ip";
import { errnoName } from "./ffi.ts";
import { KernelError } from "./errors.ts";
import { NetlinkSocket } from "./netlink-socket.ts";
import { NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkWriter, readAttrs, type NetlinkMessage } from "./netlink.ts";
import type { Netns } from "./netns.ts";

export interface Tuple {
  src: string;
  dst: string;
  srcPort?: number;
  dstPort?: number;
  icmpId?: number;
}

export interface Flow {
  family: Family;
  /** 6 TCP, 17 UDP, 1 ICMP, … */
  proto: number;
  original: Tuple;
  /** What answers look like: differs from the original turned round where addresses are translated. */
  reply: Tuple;
  mark: number;
  zone: number;
  id: number;
  /** IPS_* bits. */
  status: number;
  timeoutSeconds?: number;
  tcpState?: string;
}

const NETLINK_NETFILTER = 12;
const IPCTNL_MSG_CT_GET = (1 << 8) | 1;
const IPCTNL_MSG_CT_DELETE = (1 << 8) | 2;
const AF_INET = 2;
const AF_INET6 = 10;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_TIMEOUT = 7;
const CTA_MARK = 8;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_MARK_MASK = 21;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const TCP_STATES = [
  "NONE",
  "SYN_SENT",
  "SYN_RECV",
  "ESTABLISHED",
  "FIN_WAIT",
  "CLOSE_WAIT",
  "LAST_ACK",
  "TIME_WAIT",
  "CLOSE",
  "SYN_SENT2",
];

/** The raw original tuple of every flow we handed out: a delete names the flow by it. */
const originalTuples = new WeakMap<Flow, Buffer>();

export class Conntrack {
  readonly #socket: NetlinkSocket;
  readonly #writer = new NetlinkWriter();

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  static open(netns?: Netns): Conntrack {
    return new Conntrack(NetlinkSocket.open(NETLINK_NETFILTER, netns));
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  list(o: { family?: Family; mark?: { value: number; mask: number } } = {}): Flow[] {
    const family = o.family === undefined ? 0 : o.family === 4 ? AF_INET : AF_INET6;
    const messages = this.#socket.dump((seq) => {
      this.#request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, seq, family, () => {
        if (o.mark === undefined) return;
        this.#writer.be32(CTA_MARK, o.mark.value);
        this.#writer.be32(CTA_MARK_MASK, o.mark.mask);
      });
      return this.#writer.bytes;
    }, "list conntrack flows");
    return messages.map(decodeFlow);
  }

  /** Deletes a flow that `list` gave; false when it was gone already. */
  delete(flow: Flow): boolean {
    return this.#deleteAll([flow]) === 1;
  }

  /** Deletes every flow for which `match` holds and tells how many there were. */
  deleteWhere(match: (flow: Flow) => boolean, o: { family?: Family } = {}): number {
    return this.#deleteAll(this.list(o).filter(match));
  }

  #deleteAll(flows: Flow[]): number {
    let deleted = 0;
    for (const flow of flows) {
      const tuple = originalTuples.get(flow);
      if (tuple === undefined) throw new TypeError("Cannot delete a conntrack flow that list() did not give");
      this.#request(
        IPCTNL_MSG_CT_DELETE,
        NLM_F_ACK,
        this.#socket.nextSeq(),
        flow.family === 4 ? AF_INET : AF_INET6,
        () => {
          this.#writer.nested(CTA_TUPLE_ORIG, () =>
            this.#writer.struct(tuple.length, (bytes) => void tuple.copy(bytes)),
          );
          if (flow.zone !== 0) this.#writer.attr(CTA_ZONE, Uint8Array.of(flow.zone >>> 8, flow.zone & 255));
          this.#writer.be32(CTA_ID, flow.id);
        },
      );
      this.#socket.send(this.#writer.bytes);
      const result = this.#socket.readAcks(1)[0]?.result ?? 0;
      if (result === 0) deleted++;
      else if (errnoName(result) !== "ENOENT")
        throw new KernelError({
          operation: `conntrack -D -s ${flow.original.src} -d ${flow.original.dst}`,
          errno: errnoName(result),
          netns: this.#socket.netns,
        });
    }
    return deleted;
  }

  #request(type: number, flags: number, seq: number, family: number, body: () => void): void {
    this.#writer.clear();
    this.#writer.message(type, NLM_F_REQUEST | flags, seq, () => {
      this.#writer.struct(4, (header) => {
        header[0] = family;
      });
      body();
    });
  }
}

function decodeFlow({ body }: NetlinkMessage): Flow {
  const attrs = readAttrs(body.subarray(4));
  const number = (type: number): number => attrs.get(type)?.readUInt32BE(0) ?? 0;
  const rawOriginal = attrs.get(CTA_TUPLE_ORIG) ?? Buffer.alloc(0);
  const original = decodeTuple(rawOriginal);
  const tcp = readAttrs(
    readAttrs(attrs.get(CTA_PROTOINFO) ?? Buffer.alloc(0)).get(CTA_PROTOINFO_TCP) ?? Buffer.alloc(0),
  );
  const state = tcp.get(CTA_PROTOINFO_TCP_STATE)?.[0];
  const flow: Flow = {
    family: body[0] === AF_INET ? 4 : 6,
    proto: original.proto,
    original: original.tuple,
    reply: decodeTuple(attrs.get(CTA_TUPLE_REPLY) ?? Buffer.alloc(0)).tuple,
    mark: number(CTA_MARK),
    zone: attrs.get(CTA_ZONE)?.readUInt16BE(0) ?? 0,
    id: number(CTA_ID),
    status: number(CTA_STATUS),
    ...(attrs.has(CTA_TIMEOUT) ? { timeoutSeconds: number(CTA_TIMEOUT) } : {}),
    ...(state === undefined ? {} : { tcpState: TCP_STATES[state] ?? `${state}` }),
  };
  originalTuples.set(flow, rawOriginal);
  return flow;
}

function decodeTuple(bytes: Buffer): { proto: number; tuple: Tuple } {
  const attrs = readAttrs(bytes);
  const ip = readAttrs(attrs.get(CTA_TUPLE_IP) ?? Buffer.alloc(0));
  const l4 = readAttrs(attrs.get(CTA_TUPLE_PROTO) ?? Buffer.alloc(0));
  // 1/2 source and destination IPv4, 3/4 IPv6; 1 protocol, 2/3 ports, 4 and 7 the ids of ICMP and ICMPv6
  const src = ip.get(1) ?? ip.get(3);
  const dst = ip.get(2) ?? ip.get(4);
  const srcPort = l4.get(2)?.readUInt16BE(0);
  const dstPort = l4.get(3)?.readUInt16BE(0);
  const icmpId = (l4.get(4) ?? l4.get(7))?.readUInt16BE(0);
  return {
    proto: l4.get(1)?.[0] ?? 0,
    tuple: {
      src: src === undefined ? "" : ipFromBytes(src),
      dst: dst === undefined ? "" : ipFromBytes(dst),
      ...(srcPort === undefined ? {} : { srcPort }),
      ...(dstPort === undefined ? {} : { dstPort }),
      ...(icmpId === undefined ? {} : { icmpId }),
    },
  };
}
