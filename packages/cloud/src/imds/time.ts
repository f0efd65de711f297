/** The Amazon Time Sync address: NTP (RFC 5905), server mode, from this machine's clock. */
import { createSocket } from "node:dgram";
import { bindUdp } from "@underlay/kernel/sockets";

/** Seconds from 1900 to 1970. */
const ntpEpoch = 2_208_988_800;

export function startTimeServer(netns: string, address: string): { close(): void } {
  const socket = createSocket("udp4");
  socket.on("error", () => {});
  socket.on("message", (request, from) => {
    const reply = timeReply(request, Date.now());
    if (reply !== undefined) socket.send(reply, from.port, from.address);
  });
  socket.bind({ fd: bindUdp({ netns, address, port: 123 }) });
  return { close: () => socket.close() };
}

/** Undefined for what is not a client's request. */
export function timeReply(request: Buffer, nowMs: number): Buffer | undefined {
  const clientMode = 3;
  if (request.length < 48 || (request[0]! & 7) !== clientMode) return undefined;
  const reply = Buffer.alloc(48);
  const version = (request[0]! >> 3) & 7;
  const serverMode = 4;
  reply[0] = (version << 3) | serverMode;
  reply[1] = 3; // stratum
  reply[2] = request[2]!;
  reply.writeInt8(-20, 3); // precision: about a microsecond
  reply.write("AMZN", 12, "latin1");
  writeTime(reply, 16, nowMs);
  request.copy(reply, 24, 40, 48);
  writeTime(reply, 32, nowMs);
  writeTime(reply, 40, nowMs);
  return reply;
}

function writeTime(buffer: Buffer, offset: number, ms: number): void {
  buffer.writeUInt32BE(Math.floor(ms / 1000) + ntpEpoch, offset);
  buffer.writeUInt32BE(Math.floor(((ms % 1000) / 1000) * 2 ** 32), offset + 4);
}
