/**
 * SPDY/3.1 framing, server side, as far as Kubernetes clients speak it: streams, replies, data, resets, pings, goaway.
 * Header blocks share one zlib stream a direction (pako, because it can inflate piece by piece synchronously).
 * There is no flow control: these clients neither send nor expect window updates.
 *
 * The connection is fed bytes and gives bytes, so that it runs over a socket and inside a WebSocket tunnel alike.
 */
import { Deflate, Inflate } from "pako";
import { spdyDictionary } from "./spdy-dictionary.ts";

const syncFlush = 2;
const fin = 0x01;
const control = { synStream: 1, synReply: 2, rstStream: 3, ping: 6, goaway: 7 } as const;
const maxFrame = 16 * 1024 * 1024;

/** Where a connection's bytes go. */
export type SpdyTransport = {
  write(bytes: Buffer): void;
  /** Bytes accepted but not yet sent. */
  buffered(): number;
  end(): void;
};

export class SpdyStream {
  readonly id: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly #connection: SpdyConnection;
  #localEnded = false;
  onData: (chunk: Buffer) => void = () => {};
  onEnd: () => void = () => {};
  /** What came before someone listened. */
  readonly #early: Buffer[] = [];
  #earlyEnd = false;
  #listening = false;

  constructor(connection: SpdyConnection, id: number, headers: Record<string, string>) {
    this.#connection = connection;
    this.id = id;
    this.headers = headers;
  }

  /** Starts delivering, with what has come already. */
  listen(onData: (chunk: Buffer) => void, onEnd: () => void = () => {}): void {
    this.onData = onData;
    this.onEnd = onEnd;
    this.#listening = true;
    for (const chunk of this.#early.splice(0)) onData(chunk);
    if (this.#earlyEnd) onEnd();
  }

  receive(chunk: Buffer): void {
    if (this.#listening) this.onData(chunk);
    else this.#early.push(chunk);
  }

  receiveEnd(): void {
    if (this.#listening) this.onEnd();
    else this.#earlyEnd = true;
  }

  write(chunk: Buffer): void {
    if (!this.#localEnded && chunk.length > 0) this.#connection.sendData(this.id, chunk, false);
  }

  end(): void {
    if (this.#localEnded) return;
    this.#localEnded = true;
    this.#connection.sendData(this.id, Buffer.alloc(0), true);
  }

  reset(): void {
    this.#localEnded = true;
    this.#connection.sendReset(this.id);
  }
}

export class SpdyConnection {
  readonly #transport: SpdyTransport;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #inflate: Inflate;
  readonly #deflate: Deflate;
  #inflated: Buffer[] = [];
  #deflated: Buffer[] = [];
  #pending: Buffer = Buffer.alloc(0);
  onClose: () => void = () => {};

  constructor(transport: SpdyTransport, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#onStream = onStream;
    this.#inflate = new Inflate({ dictionary: spdyDictionary });
    this.#inflate.onData = (chunk) => this.#inflated.push(Buffer.from(chunk));
    this.#deflate = new Deflate({ dictionary: spdyDictionary });
    this.#deflate.onData = (chunk) => this.#deflated.push(Buffer.from(chunk));
  }

  buffered(): number {
    return this.#transport.buffered();
  }

  /** Takes bytes off the wire; throws on what is not SPDY. */
  feed(bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    while (this.#pending.length >= 8) {
      const length = this.#pending.readUIntBE(5, 3);
      if (length > maxFrame) throw new Error(`SPDY frame of ${length} bytes`);
      if (this.#pending.length < 8 + length) return;
      const frame = this.#pending.subarray(0, 8 + length);
      this.#pending = this.#pending.subarray(8 + length);
      this.#frame(frame);
    }
  }

  #frame(frame: Buffer): void {
    const flags = frame[4]!;
    const payload = frame.subarray(8);
    if ((frame[0]! & 0x80) === 0) return this.#data(frame.readUInt32BE(0) & 0x7fffffff, payload, flags);
    switch (frame.readUInt16BE(2)) {
      case control.synStream: {
        const id = payload.readUInt32BE(0) & 0x7fffffff;
        const stream = new SpdyStream(this, id, this.#readHeaders(payload.subarray(10)));
        this.#streams.set(id, stream);
        this.#sendReply(id);
        this.#onStream(stream);
        if (flags & fin) stream.receiveEnd();
        return;
      }
      case control.rstStream: {
        const id = payload.readUInt32BE(0) & 0x7fffffff;
        this.#streams.get(id)?.receiveEnd();
        this.#streams.delete(id);
        return;
      }
      case control.ping:
        return this.#transport.write(Buffer.from(frame));
      case control.goaway:
        return this.onClose();
    }
  }

  #data(id: number, payload: Buffer, flags: number): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    // The frame's bytes are a view of a buffer that is about to be reused.
    if (payload.length > 0) stream.receive(Buffer.from(payload));
    if (flags & fin) stream.receiveEnd();
  }

  #readHeaders(block: Buffer): Record<string, string> {
    this.#inflated = [];
    this.#inflate.push(block, syncFlush);
    if (this.#inflate.err) throw new Error(`SPDY header block: ${this.#inflate.msg}`);
    const bytes = Buffer.concat(this.#inflated);
    const headers: Record<string, string> = {};
    let at = 4;
    const text = (): string => {
      const length = bytes.readUInt32BE(at);
      const value = bytes.toString("utf8", at + 4, at + 4 + length);
      at += 4 + length;
      return value;
    };
    for (let left = bytes.readUInt32BE(0); left > 0; left--) {
      const name = text().toLowerCase();
      headers[name] = text();
    }
    return headers;
  }

  #sendReply(id: number): void {
    this.#deflated = [];
    this.#deflate.push(Buffer.alloc(4), syncFlush);
    const body = Buffer.concat([Buffer.alloc(4), ...this.#deflated]);
    body.writeUInt32BE(id);
    this.#sendControl(control.synReply, body);
  }

  sendReset(id: number): void {
    const body = Buffer.alloc(8);
    body.writeUInt32BE(id);
    body.writeUInt32BE(5, 4);
    this.#sendControl(control.rstStream, body);
    this.#streams.delete(id);
  }

  sendData(id: number, chunk: Buffer, last: boolean): void {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id);
    head.writeUIntBE(chunk.length, 5, 3);
    head[4] = last ? fin : 0;
    this.#transport.write(chunk.length === 0 ? head : Buffer.concat([head, chunk]));
  }

  #sendControl(type: number, body: Buffer): void {
    const head = Buffer.alloc(8);
    head.writeUInt16BE(0x8003);
    head.writeUInt16BE(type, 2);
    head.writeUIntBE(body.length, 5, 3);
    this.#transport.write(Buffer.concat([head, body]));
  }

  /** Ends the transport; streams hear nothing more. */
  close(): void {
    this.#transport.end();
  }

  /** The transport has gone: every stream ends. */
  lost(): void {
    for (const stream of this.#streams.values()) stream.receiveEnd();
    this.#streams.clear();
  }
}
