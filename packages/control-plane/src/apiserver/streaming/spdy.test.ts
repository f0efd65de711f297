import assert from "node:assert/strict";
import { test } from "node:test";
import { Deflate } from "pako";
import { spdyDictionary } from "./spdy-dictionary.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";

function adler32(bytes: Buffer): number {
  let a = 1;
  let b = 0;
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return ((b << 16) | a) >>> 0;
}

test("the dictionary is the one zlib streams of SPDY/3 name", () => {
  assert.equal(spdyDictionary.length, 1423);
  assert.equal(adler32(spdyDictionary).toString(16), "e3c6a7c2");
});

/** A client's end: frames with one compressor for all header blocks. */
class Client {
  readonly #deflate = new Deflate({ dictionary: spdyDictionary });
  synStream(id: number, headers: Record<string, string>): Buffer {
    const parts: Buffer[] = [];
    this.#deflate.onData = (chunk) => parts.push(Buffer.from(chunk));
    const number = (value: number) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(value);
      return bytes;
    };
    const entries = Object.entries(headers);
    const plain = [number(entries.length)];
    for (const text of entries.flat()) plain.push(number(text.length), Buffer.from(text));
    this.#deflate.push(Buffer.concat(plain), 2);
    const body = Buffer.concat([number(id), Buffer.alloc(6), ...parts]);
    const head = Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 0]);
    head.writeUIntBE(body.length, 5, 3);
    return Buffer.concat([head, body]);
  }
}

test("SpdyConnection reads streams whose frames arrive byte by byte", () => {
  const sent: Buffer[] = [];
  const streams: SpdyStream[] = [];
  const connection = new SpdyConnection({ write: (b) => sent.push(b), buffered: () => 0, end: () => {} }, (s) =>
    streams.push(s),
  );
  const client = new Client();
  const data = Buffer.from([0, 0, 0, 3, 1, 0, 0, 2, 104, 105]);
  const bytes = Buffer.concat([
    client.synStream(1, { streamtype: "error" }),
    client.synStream(3, { streamtype: "stdin", port: "80" }),
    data,
  ]);
  for (const byte of bytes) connection.feed(Buffer.from([byte]));
  assert.deepEqual(
    streams.map((s) => s.headers),
    [{ streamtype: "error" }, { streamtype: "stdin", port: "80" }],
  );
  const heard: string[] = [];
  streams[1]!.listen(
    (chunk) => heard.push(chunk.toString()),
    () => heard.push("end"),
  );
  assert.deepEqual(heard, ["hi", "end"]);
  // A SYN_REPLY each; the second continues the first one's zlib stream.
  assert.deepEqual(
    sent.map((b) => b.readUInt16BE(2)),
    [2, 2],
  );
  streams[0]!.write(Buffer.from("x"));
  streams[0]!.end();
  assert.deepEqual(sent.slice(2), [Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 120]), Buffer.from([0, 0, 0, 1, 1, 0, 0, 0])]);
});
