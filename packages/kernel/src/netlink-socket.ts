/**
 * One netlink socket that stays in the namespace it was opened in. The kernel works on a request inside `send`, so replies
 * can be read at once; both are synchronous. Requests of one socket must not interleave, which is why `sendInPool` users
 * have a socket of their own.
 */
import * as ffi from "./ffi.ts";
import { NLMSG_DONE, NLMSG_ERROR, readAttrs, readMessages, readText, type NetlinkMessage } from "./netlink.ts";
import { describeNetns, runIn, type Netns } from "./netns.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const SIOCGSKNS = 0x894c;
const SIOCGIFINDEX = 0x8933;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const EINTR = -4;
const EAGAIN = -11;
const ENODEV = -19;
const DUMP_ATTEMPTS = 64;

/** An answer to one request: 0, or -errno with the kernel's own words where it has some. */
export interface Ack {
  seq: number;
  result: number;
  detail: string | undefined;
}

export class NetlinkSocket {
  readonly netns: string | undefined;
  readonly fd: number;
  readonly #protocol: number;
  #seq = 0;
  #closed = false;
  static readonly #received = Buffer.allocUnsafeSlow(1 << 18);

  private constructor(fd: number, protocol: number, netns: string | undefined) {
    this.fd = fd;
    this.#protocol = protocol;
    this.netns = netns;
  }

  static open(protocol: number, netns?: Netns): NetlinkSocket {
    const operation = "open a netlink socket";
    const fd = ffi.check(
      runIn(netns, () => ffi.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)),
      operation,
      describeNetns(netns),
    );
    const set = (level: number, name: number, ...words: number[]): number =>
      ffi.setsockopt(fd, level, name, new Uint8Array(Uint32Array.from(words).buffer));
    set(SOL_NETLINK, NETLINK_CAP_ACK, 1);
    set(SOL_NETLINK, NETLINK_EXT_ACK, 1);
    set(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    // Acks of a big batch queue up before the first is read.
    set(SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20);
    set(SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20);
    set(SOL_SOCKET, SO_RCVTIMEO, 10, 0, 0, 0);
    return new NetlinkSocket(fd, protocol, describeNetns(netns));
  }

  /** Another socket in the same namespace, even if its name is gone. */
  sibling(): NetlinkSocket {
    const netns = ffi.check(ffi.ioctl(this.fd, SIOCGSKNS, new Uint8Array(8)), "find the namespace of a netlink socket");
    try {
      const other = NetlinkSocket.open(this.#protocol, netns);
      return new NetlinkSocket(other.fd, this.#protocol, this.netns);
    } finally {
      ffi.close(netns);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    ffi.close(this.fd);
  }

  nextSeq(): number {
    this.#seq = (this.#seq + 1) & 0x7fffffff;
    return this.#seq;
  }

  /** Interface index by name in this socket's namespace, or undefined; about 1 µs. */
  linkIndex(name: string): number | undefined {
    if (name.length > 15) return undefined;
    const request = Buffer.alloc(40);
    request.write(name, 0, "latin1");
    const result = ffi.ioctl(this.fd, SIOCGIFINDEX, request);
    if (result === ENODEV) return undefined;
    ffi.check(result, `find the index of link ${name}`, this.netns);
    return request.readInt32LE(16);
  }

  /** Carrier of a link, with pending link events worked off. */
  carrier(name: string): boolean {
    return ffi.check(ffi.ethtoolGetLink(this.fd, name), `ethtool ${name}`, this.netns) === 1;
  }

  send(bytes: Buffer): void {
    ffi.check(ffi.send(this.fd, bytes, 0), "send to the kernel by netlink", this.netns);
  }

  async sendInPool(bytes: Buffer): Promise<void> {
    ffi.check(await ffi.sendInPool(this.fd, bytes, 0), "send to the kernel by netlink", this.netns);
  }

  /** Reads until `count` requests were acknowledged. */
  readAcks(count: number): Ack[] {
    const acks: Ack[] = [];
    while (acks.length < count) {
      for (const message of readMessages(this.#receive()))
        if (message.type === NLMSG_ERROR) acks.push(readAck(message));
    }
    return acks;
  }

  /** What was refused of requests sent without NLM_F_ACK; does not wait. */
  readRefusals(): Ack[] {
    const refused: Ack[] = [];
    for (let datagram = this.#receive(MSG_DONTWAIT); datagram !== undefined; datagram = this.#receive(MSG_DONTWAIT)) {
      for (const message of readMessages(datagram)) {
        if (message.type !== NLMSG_ERROR) continue;
        const ack = readAck(message);
        if (ack.result !== 0) refused.push(ack);
      }
    }
    return refused;
  }

  /** Sends a dump request and gives every message of the answer; again from the start when it was cut across a change. */
  dump(request: (seq: number) => Buffer, operation: string): NetlinkMessage[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const seq = this.nextSeq();
      this.send(request(seq));
      const found = this.#readDump(seq, operation);
      if (found !== "interrupted") return found;
    }
    throw new Error(`Cannot ${operation}: it kept changing while it was read`);
  }

  #readDump(seq: number, operation: string): NetlinkMessage[] | "interrupted" {
    const messages: NetlinkMessage[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of readMessages(this.#receive())) {
        if (message.seq !== seq) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_DONE) {
          const result = message.body.length >= 4 ? message.body.readInt32LE(0) : 0;
          ffi.check(result, operation, this.netns);
          return interrupted ? "interrupted" : messages;
        }
        if (message.type === NLMSG_ERROR) {
          ffi.check(message.body.readInt32LE(0), operation, this.netns);
          return messages;
        }
        messages.push({ ...message, body: Buffer.from(message.body) });
      }
    }
  }

  /** One request whose answer is one message (or an error). */
  get(request: (seq: number) => Buffer): { message: NetlinkMessage } | { result: number } {
    const seq = this.nextSeq();
    this.send(request(seq));
    for (;;) {
      for (const message of readMessages(this.#receive())) {
        if (message.seq !== seq) continue;
        if (message.type === NLMSG_ERROR) return { result: message.body.readInt32LE(0) };
        return { message: { ...message, body: Buffer.from(message.body) } };
      }
    }
  }

  #receive(): Buffer;
  #receive(flags: number): Buffer | undefined;
  #receive(flags = 0): Buffer | undefined {
    const buffer = NetlinkSocket.#received;
    for (;;) {
      const length = ffi.recv(this.fd, buffer, MSG_TRUNC | flags);
      if (length === EINTR) continue;
      if (length === EAGAIN && flags !== 0) return undefined;
      if (length === EAGAIN)
        throw new Error("Cannot read from a netlink socket: the kernel did not answer within 10 s");
      ffi.check(length, "read from a netlink socket", this.netns);
      if (length > buffer.length) throw new Error(`Cannot read from a netlink socket: a message of ${length} bytes`);
      return buffer.subarray(0, length);
    }
  }
}

function readAck(message: NetlinkMessage): Ack {
  const result = message.body.readInt32LE(0);
  return { seq: message.seq, result, detail: result === 0 ? undefined : readDetail(message) };
}

/** The kernel's words: attributes after the error header (and after the echoed request, unless it was left out). */
function readDetail(message: NetlinkMessage): string | undefined {
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return undefined;
  const echoed = (message.flags & NLM_F_CAPPED) === 0 ? message.body.readUInt32LE(4) - 16 : 0;
  const text = readAttrs(message.body.subarray(20 + echoed)).get(NLMSGERR_ATTR_MSG);
  return text === undefined ? undefined : readText(text);
}
