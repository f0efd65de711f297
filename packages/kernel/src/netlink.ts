/**
 * Netlink messages: a writer for headers, attributes and nests, and readers for what comes back.
 * Everything is little endian (x86-64, arm64), attributes and messages are padded to 4 bytes.
 */

export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_DUMP = 0x300;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLA_F_NESTED = 0x8000;
const HEADER = 16;

const align = (length: number): number => (length + 3) & ~3;

export class NetlinkWriter {
  #bytes = Buffer.alloc(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What was written; valid until the next write. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
  }

  /** Forgets what was written after `length`. */
  truncate(length: number): void {
    this.#length = length;
  }

  message(type: number, flags: number, seq: number, body: () => void): void {
    const start = this.#grow(HEADER);
    this.#bytes.writeUInt16LE(type, start + 4);
    this.#bytes.writeUInt16LE(flags, start + 6);
    this.#bytes.writeUInt32LE(seq, start + 8);
    body();
    this.#bytes.writeUInt32LE(this.#length - start, start);
    this.#grow(align(this.#length) - this.#length);
  }

  /** A fixed header inside a message (rtmsg, ifinfomsg, …): zeroed, then filled by `fill`. */
  struct(length: number, fill: (bytes: Buffer) => void): void {
    const start = this.#grow(align(length));
    fill(this.#bytes.subarray(start, start + length));
  }

  attr(type: number, data: Uint8Array): void {
    const start = this.#grow(4 + align(data.length));
    this.#bytes.writeUInt16LE(4 + data.length, start);
    this.#bytes.writeUInt16LE(type, start + 2);
    this.#bytes.set(data, start + 4);
  }

  u8(type: number, value: number): void {
    this.attr(type, Uint8Array.of(value));
  }

  u16(type: number, value: number): void {
    this.attr(type, Uint8Array.of(value & 255, value >>> 8));
  }

  u32(type: number, value: number): void {
    const start = this.#grow(8);
    this.#bytes.writeUInt16LE(8, start);
    this.#bytes.writeUInt16LE(type, start + 2);
    this.#bytes.writeUInt32LE(value >>> 0, start + 4);
  }

  /** Big endian, as nfnetlink has its numbers. */
  be32(type: number, value: number): void {
    this.attr(type, Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255));
  }

  /** A string with its closing zero byte. */
  text(type: number, value: string): void {
    this.attr(type, Buffer.from(`${value}\0`));
  }

  nest(type: number, body: () => void, flag = 0): void {
    const start = this.#grow(4);
    body();
    this.#bytes.writeUInt16LE(this.#length - start, start);
    this.#bytes.writeUInt16LE(type | flag, start + 2);
  }

  /** nest with NLA_F_NESTED set, as nfnetlink insists on. */
  nested(type: number, body: () => void): void {
    this.nest(type, body, NLA_F_NESTED);
  }

  /** Reserves zeroed room and returns where it begins. */
  #grow(count: number): number {
    const start = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const bigger = Buffer.alloc(Math.max(this.#bytes.length * 2, this.#length));
      this.#bytes.copy(bigger, 0, 0, start);
      this.#bytes = bigger;
    }
    this.#bytes.fill(0, start, this.#length);
    return start;
  }
}

export interface NetlinkMessage {
  type: number;
  flags: number;
  seq: number;
  /** What follows the 16-byte header. */
  body: Buffer;
}

/** The messages in one datagram. */
export function* readMessages(datagram: Buffer): Generator<NetlinkMessage> {
  for (let at = 0; at + HEADER <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER || at + length > datagram.length) return;
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      seq: datagram.readUInt32LE(at + 8),
      body: datagram.subarray(at + HEADER, at + length),
    };
    at += align(length);
  }
}

/** Attributes by type (without flag bits); of repeated ones the last. */
export function readAttrs(bytes: Buffer): Map<number, Buffer> {
  const attrs = new Map<number, Buffer>();
  for (const { type, data } of eachAttr(bytes)) attrs.set(type, data);
  return attrs;
}

export function* eachAttr(bytes: Buffer): Generator<{ type: number; data: Buffer }> {
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) return;
    yield { type: bytes.readUInt16LE(at + 2) & 0x3fff, data: bytes.subarray(at + 4, at + length) };
    at += align(length);
  }
}

/** A zero-terminated string. */
export function readText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end);
}
