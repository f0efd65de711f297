/** Frames of an attach connection to a shim: `[kind u8][length u32 big-endian][bytes]`. */
import type { Socket } from "node:net";

export function writeFrame(socket: Socket, kind: number, data: Buffer): void {
  if (socket.destroyed) return;
  const head = Buffer.alloc(5);
  head[0] = kind;
  head.writeUInt32BE(data.length, 1);
  socket.write(Buffer.concat([head, data]));
}

export function readFrames(socket: Socket, each: (kind: number, data: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 5) {
      const size = rest.readUInt32BE(1);
      if (rest.length < 5 + size) return;
      each(rest[0] ?? 0, rest.subarray(5, 5 + size));
      rest = rest.subarray(5 + size);
    }
  });
}
