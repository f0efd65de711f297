/** Unix stream sockets: connect, listen, and send or receive bytes together with one open descriptor (SCM_RIGHTS). */
import * as ffi from "ffi";
import type { CData } from "ffi";
import {
  AF_UNIX,
  C,
  check,
  makeCData,
  newBytes,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  toText,
} from "./libc.ts";

function address(path: string): CData {
  if (path.length > 107) error(`Cannot use socket ${path}: its path is longer than 107 bytes`, 0);
  const value = makeCData<CData & { family: number; path: CData }>("struct ul_sockaddr_un");
  value.family = AF_UNIX;
  ffi.copy(value.path, path, path.length);
  return value;
}

/** Connects (blocking) and returns the descriptor. */
export function connectUnix(path: string): number {
  const fd = check("make a unix socket", C.socket(AF_UNIX, SOCK_STREAM + SOCK_CLOEXEC, 0));
  if (C.connect(fd, address(path), 2 + path.length + 1) < 0) {
    const why = toText(C.strerror(ffi.errno()));
    C.close(fd);
    error(`Cannot connect to ${path}: ${why}`, 0);
  }
  return fd;
}

/** Listens (non-blocking) on a path that is replaced. */
export function listenUnix(path: string, mode: number): number {
  C.unlink(path);
  const fd = check("make a unix socket", C.socket(AF_UNIX, SOCK_STREAM + SOCK_CLOEXEC + SOCK_NONBLOCK, 0));
  check(`bind ${path}`, C.bind(fd, address(path), 2 + path.length + 1));
  C.chmod(path, mode);
  check(`listen on ${path}`, C.listen(fd, 128));
  return fd;
}

/** Sends all of `data` on a blocking socket, the descriptor with its first byte. */
export function sendWithFd(socket: number, data: string, fd: number): void {
  const base = newBytes(data.length);
  ffi.copy(base, data, data.length);
  const iov = makeCData<CData & { iov_base: CData; iov_len: number }>("struct ul_iovec");
  iov.iov_base = base;
  iov.iov_len = data.length;
  const control = makeCData<CData & { cmsg_len: number; cmsg_level: number; cmsg_type: number; fd: number }>(
    "struct ul_cmsg_fd",
  );
  control.cmsg_len = 20; // sizeof(struct cmsghdr) + sizeof(int)
  control.cmsg_level = SOL_SOCKET;
  control.cmsg_type = SCM_RIGHTS;
  control.fd = fd;
  const message = makeCData<CData & { msg_iov: CData; msg_iovlen: number; msg_control: CData; msg_controllen: number }>(
    "struct ul_msghdr",
  );
  message.msg_iov = iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = 24;
  const sent = check("send a descriptor", tonumber(C.sendmsg(socket, message, 0))!);
  if (sent < data.length) writeAll(socket, string.sub(data, sent + 1));
}

/** Writes everything to a blocking descriptor. */
export function writeAll(fd: number, data: string): void {
  let rest = data;
  while (rest.length > 0) {
    const written = tonumber(C.write(fd, rest, rest.length))!;
    if (written < 0) {
      if (ffi.errno() === 4) continue;
      check(`write to descriptor ${fd}`, -1);
    }
    rest = string.sub(rest, written + 1);
  }
}

/** Reads to end of file on a blocking descriptor. */
export function readAll(fd: number): string {
  const buffer = newBytes(16384);
  const parts: string[] = [];
  while (true) {
    const got = tonumber(C.read(fd, buffer, 16384))!;
    if (got < 0) {
      if (ffi.errno() === 4) continue;
      check(`read descriptor ${fd}`, -1);
    }
    if (got === 0) return table.concat(parts as never);
    parts[parts.length] = ffi.string(buffer, got);
  }
}

/** Receives one descriptor (and its one-byte message) on a blocking socket; undefined when the other end closed without sending. */
export function receiveFd(socket: number): number | undefined {
  const byte = newBytes(1);
  const iov = makeCData<CData & { iov_base: CData; iov_len: number }>("struct ul_iovec");
  iov.iov_base = byte;
  iov.iov_len = 1;
  const control = makeCData<CData & { cmsg_type: number; fd: number }>("struct ul_cmsg_fd");
  const message = makeCData<CData & { msg_iov: CData; msg_iovlen: number; msg_control: CData; msg_controllen: number }>(
    "struct ul_msghdr",
  );
  message.msg_iov = iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = 24;
  const got = check("receive a descriptor", tonumber(C.recvmsg(socket, message, 0x40000000 /* MSG_CMSG_CLOEXEC */))!);
  return got === 0 || tonumber(message.msg_controllen)! < 20 ? undefined : control.fd;
}

/** A connected pair of unix stream sockets, close-on-exec. */
export function socketPair(): LuaMultiReturn<[number, number]> {
  const pair = makeCData<CData & { [index: number]: number }>("int[2]");
  check("make a socket pair", C.socketpair(AF_UNIX, SOCK_STREAM + SOCK_CLOEXEC, 0, pair));
  return $multi(pair[0]!, pair[1]!);
}
