/**
 * A unix stream socket on which a request may carry one descriptor (SCM_RIGHTS): what the CNI plugin uses to hand a pod's
 * network namespace to ipamd. Node's own sockets read such messages but drop the descriptor, so accepting, reading and
 * answering are done here with non-blocking calls, woken by Node's event loop.
 *
 * One exchange a connection: a request ends at '\n' or when the client shuts down its side; the reply is written, then closed.
 */
import { chmodSync, closeSync, rmSync } from "node:fs";
import * as ffi from "./ffi.ts";

export interface UnixFdServerOptions {
  path: string;
  /** Permissions of the socket file; default 0o660. */
  mode?: number;
  /** The descriptor is closed once the returned promise has settled. A rejection closes the connection without an answer. */
  handle: (request: Buffer, fd: number | undefined) => Promise<Buffer | string> | Buffer | string;
  /** A client that has not sent its request by then is cut off; default 10 s. */
  requestTimeoutMs?: number;
  onError?: (error: unknown) => void;
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
const EAGAIN = -11;
const EINPROGRESS = -115;
const NEWLINE = 10;
const MAX_REQUEST = 1 << 20;

/** Listens on `path`, replacing a stale socket file. */
export async function serveUnixFd(options: UnixFdServerOptions): Promise<{ close(): Promise<void> }> {
  const operation = `listen on unix socket ${options.path}`;
  const listener = ffi.check(ffi.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), operation);
  try {
    rmSync(options.path, { force: true });
    ffi.check(ffi.bind(listener, unixAddress(options.path)), operation);
    chmodSync(options.path, options.mode ?? 0o660);
    ffi.check(ffi.listen(listener, 1024), operation);
  } catch (error) {
    ffi.close(listener);
    throw error;
  }
  const open = new Set<Promise<void>>();
  const watch = ffi.poll(listener, { readable: true }, () => {
    for (
      let fd = ffi.accept4(listener, SOCK_NONBLOCK | SOCK_CLOEXEC);
      fd >= 0;
      fd = ffi.accept4(listener, SOCK_NONBLOCK | SOCK_CLOEXEC)
    ) {
      const exchange = serveOne(fd, options).catch((error: unknown) => options.onError?.(error));
      open.add(exchange);
      void exchange.finally(() => open.delete(exchange));
    }
  });
  return {
    async close() {
      watch.close();
      ffi.close(listener);
      rmSync(options.path, { force: true });
      await Promise.all(open);
    },
  };
}

async function serveOne(fd: number, options: UnixFdServerOptions): Promise<void> {
  const attached: number[] = [];
  try {
    const request = await readRequest(fd, attached, options.requestTimeoutMs ?? 10_000);
    const reply = await options.handle(request, attached[0]);
    await writeAll(fd, typeof reply === "string" ? Buffer.from(reply) : reply);
  } finally {
    for (const one of attached) closeSync(one);
    ffi.close(fd);
  }
}

/** Sends one request, with a descriptor if given, and resolves with the whole reply. */
export async function callUnixFd(o: {
  path: string;
  request: string;
  fd?: number;
  timeoutMs?: number;
}): Promise<Buffer> {
  const operation = `call unix socket ${o.path}`;
  const fd = ffi.check(ffi.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), operation);
  try {
    const connected = ffi.connect(fd, unixAddress(o.path));
    if (connected !== EINPROGRESS) ffi.check(connected, operation);
    let request = Buffer.from(o.request);
    if (o.fd !== undefined)
      request = request.subarray(ffi.check(ffi.sendWithFd(fd, request, o.fd, MSG_NOSIGNAL), operation));
    await writeAll(fd, request);
    ffi.check(ffi.shutdown(fd, SHUT_WR), operation);
    return await readToEnd(fd, operation, o.timeoutMs ?? 30_000);
  } finally {
    ffi.close(fd);
  }
}

async function readRequest(fd: number, attached: number[], timeoutMs: number): Promise<Buffer> {
  const chunk = Buffer.allocUnsafe(65536);
  const chunks: Buffer[] = [];
  const deadline = Date.now() + timeoutMs;
  for (let length = 0; ;) {
    const { result, fds } = ffi.recvWithFds(fd, chunk, 0);
    attached.push(...fds);
    if (result === EAGAIN) {
      await untilReady(fd, { readable: true }, deadline - Date.now());
      continue;
    }
    ffi.check(result, "read a request from a unix socket");
    if (result > 0) chunks.push(Buffer.from(chunk.subarray(0, result)));
    length += result;
    if (length > MAX_REQUEST)
      throw new Error(`Cannot read a request from a unix socket: it is longer than ${MAX_REQUEST} bytes`);
    if (result === 0 || chunk[result - 1] === NEWLINE) return Buffer.concat(chunks);
  }
}

async function readToEnd(fd: number, operation: string, timeoutMs: number): Promise<Buffer> {
  const chunk = Buffer.allocUnsafe(65536);
  const chunks: Buffer[] = [];
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const result = ffi.recv(fd, chunk, 0);
    if (result === EAGAIN) await untilReady(fd, { readable: true }, deadline - Date.now());
    else if (ffi.check(result, operation) === 0) return Buffer.concat(chunks);
    else chunks.push(Buffer.from(chunk.subarray(0, result)));
  }
}

async function writeAll(fd: number, data: Buffer): Promise<void> {
  let rest = data;
  while (rest.length > 0) {
    const sent = ffi.send(fd, rest, MSG_NOSIGNAL);
    if (sent === EAGAIN) await untilReady(fd, { writable: true }, 10_000);
    else rest = rest.subarray(ffi.check(sent, "write to a unix socket"));
  }
}

function untilReady(fd: number, what: { readable?: boolean; writable?: boolean }, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => {
        watch.close();
        reject(new Error(`Cannot use a unix socket: the other side was silent for too long`));
      },
      Math.max(timeoutMs, 0),
    );
    const watch = ffi.poll(fd, what, () => {
      clearTimeout(timer);
      watch.close();
      resolve();
    });
  });
}

function unixAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path);
  if (bytes.length > 107)
    throw new Error(`Cannot use unix socket ${path}: its path is longer than 107 bytes; hint: use a shorter directory`);
  const raw = new Uint8Array(2 + bytes.length + 1);
  raw[0] = AF_UNIX;
  raw.set(bytes, 2);
  return raw;
}
