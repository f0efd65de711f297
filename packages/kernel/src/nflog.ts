/**
 * Packets that `log group N` rules of nftables hand to user space (nfnetlink_log): one reader a group and namespace.
 * Only the first bytes of a packet come, enough for its headers. What cannot be read in time is lost, as the kernel has it.
 */
import * as ffi from "./ffi.ts";
import { KernelError } from "./errors.ts";
import { NLM_F_ACK, NLM_F_REQUEST, NetlinkWriter, readAttrs, readMessages, readText } from "./netlink.ts";
import { NetlinkSocket } from "./netlink-socket.ts";
import type { Netns } from "./netns.ts";

/** A logged packet, from its network header on. */
export interface LoggedPacket {
  /** The rule's prefix. */
  prefix: string;
  family: 4 | 6;
  payload: Buffer;
  /** Interface numbers, where the hook has them. */
  inputIndex?: number;
  outputIndex?: number;
}

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_ULOG = 4;
const NFULNL_MSG_PACKET = NFNL_SUBSYS_ULOG << 8;
const NFULNL_MSG_CONFIG = (NFNL_SUBSYS_ULOG << 8) | 1;
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_TIMEOUT = 4;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_COPY_PACKET = 2;
const NFULA_IFINDEX_INDEV = 4;
const NFULA_IFINDEX_OUTDEV = 5;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const AF_INET = 2;
const MSG_DONTWAIT = 0x40;
const EINTR = -4;
const EAGAIN = -11;
const ENOBUFS = -105;
const COPY_BYTES = 128;
/** How long the kernel gathers packets before it wakes us, in hundredths of a second. */
const GATHER = 5;

/** Reads group `group` until closed. `onLost` hears when packets came faster than they were read. */
export function readNflog(o: {
  netns?: Netns;
  group: number;
  onPacket: (packet: LoggedPacket) => void;
  onLost?: () => void;
}): { close(): void } {
  const socket = NetlinkSocket.open(NETLINK_NETFILTER, o.netns);
  try {
    bind(socket, o.group);
  } catch (error) {
    socket.close();
    throw error;
  }
  const buffer = Buffer.allocUnsafeSlow(1 << 17);
  const watch = ffi.poll(socket.fd, { readable: true }, () => {
    for (;;) {
      const length = ffi.recv(socket.fd, buffer, MSG_DONTWAIT);
      if (length === EINTR) continue;
      if (length === ENOBUFS) {
        o.onLost?.();
        continue;
      }
      if (length === EAGAIN || length <= 0) return;
      for (const { type, body } of readMessages(buffer.subarray(0, length))) {
        if (type === NFULNL_MSG_PACKET) o.onPacket(decode(body));
      }
    }
  });
  return {
    close() {
      watch.close();
      socket.close();
    },
  };
}

function bind(socket: NetlinkSocket, group: number): void {
  const writer = new NetlinkWriter();
  const config = (type: number, value: Uint8Array): void => {
    writer.clear();
    writer.message(NFULNL_MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, socket.nextSeq(), () => {
      writer.struct(4, (header) => header.writeUInt16BE(group, 2));
      writer.attr(type, value);
    });
    socket.send(writer.bytes);
    const result = socket.readAcks(1)[0]?.result ?? 0;
    if (result !== 0)
      throw new KernelError({
        operation: `read nflog group ${group}`,
        errno: ffi.errnoName(result),
        netns: socket.netns,
      });
  };
  config(NFULA_CFG_CMD, Uint8Array.of(NFULNL_CFG_CMD_BIND));
  config(NFULA_CFG_MODE, Uint8Array.of(0, 0, 0, COPY_BYTES, NFULNL_COPY_PACKET, 0));
  config(NFULA_CFG_TIMEOUT, Uint8Array.of(0, 0, 0, GATHER));
}

function decode(body: Buffer): LoggedPacket {
  const attrs = readAttrs(body.subarray(4));
  const prefix = attrs.get(NFULA_PREFIX);
  const input = attrs.get(NFULA_IFINDEX_INDEV)?.readUInt32BE(0);
  const output = attrs.get(NFULA_IFINDEX_OUTDEV)?.readUInt32BE(0);
  const payload = Buffer.from(attrs.get(NFULA_PAYLOAD) ?? Buffer.alloc(0));
  // A table of family inet logs as inet: the packet itself tells.
  const version = (payload[0] ?? 0) >> 4;
  return {
    prefix: prefix === undefined ? "" : readText(prefix),
    family: body[0] === AF_INET || version === 4 ? 4 : 6,
    payload,
    ...(input === undefined ? {} : { inputIndex: input }),
    ...(output === undefined ? {} : { outputIndex: output }),
  };
}
