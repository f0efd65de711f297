/**
 * The only module that loads native code. Every function here is one libc call: the result when it worked, `-errno` when not
 * (as the raw system call would), so nobody else touches errno; `check` turns that into a KernelError.
 * Synchronous calls block the event loop; `*InPool` ones run on a libuv pool thread (never setns or unshare: except
 * `setnsInPool`, whose whole point is to move that thread).
 */
import koffi from "koffi";
import { getSystemErrorName } from "node:util";
import { KernelError } from "./errors.ts";

const libc = koffi.load(null);

type Native = ((...args: never[]) => number) & { async: (...args: unknown[]) => void };
const declare = (prototype: string): Native => libc.func(prototype) as unknown as Native;

const native = {
  close: declare("int close(int fd)"),
  setns: declare("int setns(int fd, int nstype)"),
  unshare: declare("int unshare(int flags)"),
  mount: declare(
    "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
  ),
  umount2: declare("int umount2(const char *target, int flags)"),
  flock: declare("int flock(int fd, int operation)"),
  socket: declare("int socket(int domain, int type, int protocol)"),
  bind: declare("int bind(int fd, const void *address, uint32_t length)"),
  listen: declare("int listen(int fd, int backlog)"),
  accept4: declare("int accept4(int fd, void *address, void *length, int flags)"),
  connect: declare("int connect(int fd, const void *address, uint32_t length)"),
  getsockname: declare("int getsockname(int fd, void *address, void *length)"),
  setsockopt: declare("int setsockopt(int fd, int level, int name, const void *value, uint32_t length)"),
  ioctl: declare("int ioctl(int fd, unsigned long request, void *argument)"),
  send: declare("long send(int fd, const void *data, size_t length, int flags)"),
  recv: declare("long recv(int fd, void *data, size_t length, int flags)"),
  shutdown: declare("int shutdown(int fd, int how)"),
  sendmsg: declare("long sendmsg(int fd, void *message, int flags)"),
  recvmsg: declare("long recvmsg(int fd, void *message, int flags)"),
  syscall2: declare("long syscall(long number, long a, long b)"),
};

function call(fn: Native, ...args: unknown[]): number {
  const result = (fn as unknown as (...a: unknown[]) => number)(...args);
  return result < 0 ? -koffi.errno() : result;
}

function callInPool(fn: Native, ...args: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    fn.async(...args, (error: Error | null, result: number) => {
      // errno is that of the pool thread, and valid inside this callback only
      if (error !== null) reject(error);
      else resolve(result < 0 ? -koffi.errno() : result);
    });
  });
}

/** The result, or a KernelError saying what could not be done. */
export function check(result: number, operation: string, netns?: string): number {
  if (result >= 0) return result;
  throw new KernelError({ operation, errno: errnoName(result), netns });
}

/** 'EEXIST' for -17. */
export function errnoName(result: number): string {
  try {
    return getSystemErrorName(result);
  } catch {
    return `errno ${-result}`; // libuv has no name for a few (ENOTSUP under another number, …)
  }
}

export const close = (fd: number): number => call(native.close, fd);
export const setns = (fd: number, nstype: number): number => call(native.setns, fd, nstype);
export const setnsInPool = (fd: number, nstype: number): Promise<number> => callInPool(native.setns, fd, nstype);
export const unshare = (flags: number): number => call(native.unshare, flags);
export const mount = (
  source: string,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): number => call(native.mount, source, target, type, flags, data);
export const umount2 = (target: string, flags: number): number => call(native.umount2, target, flags);
export const flock = (fd: number, operation: number): number => call(native.flock, fd, operation);
export const socket = (domain: number, type: number, protocol: number): number =>
  call(native.socket, domain, type, protocol);
export const bind = (fd: number, address: Uint8Array): number => call(native.bind, fd, address, address.length);
export const listen = (fd: number, backlog: number): number => call(native.listen, fd, backlog);
export const accept4 = (fd: number, flags: number): number => call(native.accept4, fd, null, null, flags);
export const connect = (fd: number, address: Uint8Array): number => call(native.connect, fd, address, address.length);
export const shutdown = (fd: number, how: number): number => call(native.shutdown, fd, how);
export const setsockopt = (fd: number, level: number, name: number, value: Uint8Array): number =>
  call(native.setsockopt, fd, level, name, value, value.length);
export const ioctl = (fd: number, request: number, argument: Uint8Array): number =>
  call(native.ioctl, fd, request, argument);
export const send = (fd: number, data: Uint8Array, flags: number): number =>
  call(native.send, fd, data, data.length, flags);
export const sendInPool = (fd: number, data: Uint8Array, flags: number): Promise<number> =>
  callInPool(native.send, fd, data, data.length, flags);
export const recv = (fd: number, data: Uint8Array, flags: number): number =>
  call(native.recv, fd, data, data.length, flags);

/** The socket's own address as a sockaddr. */
export function getsockname(fd: number, address: Uint8Array): number {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, address.length, true);
  return call(native.getsockname, fd, address, length);
}

const SYS_PIDFD_OPEN = 434; // the same number on every architecture
/** A descriptor that becomes readable when the process ends, whoever its parent is. */
export const pidfdOpen = (pid: number): number => call(native.syscall2, SYS_PIDFD_OPEN, pid, 0);

// One msghdr, iovec and control buffer, at fixed addresses, for the two functions below (they are synchronous).
const MSGHDR = 56;
const IOVEC = 16;
const CONTROL = 64;
const scratch = koffi.alloc("uint8_t", MSGHDR + IOVEC + CONTROL) as bigint;
const scratchView = new DataView(koffi.view(scratch, MSGHDR + IOVEC + CONTROL));
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const CMSG_LENGTH = 20; // 16 header + one int

function fillMessage(data: Uint8Array, controlLength: number): void {
  for (let i = 0; i < MSGHDR + IOVEC; i += 8) scratchView.setBigUint64(i, 0n, true);
  scratchView.setBigUint64(16, scratch + BigInt(MSGHDR), true);
  scratchView.setBigUint64(24, 1n, true);
  scratchView.setBigUint64(32, controlLength === 0 ? 0n : scratch + BigInt(MSGHDR + IOVEC), true);
  scratchView.setBigUint64(40, BigInt(controlLength), true);
  scratchView.setBigUint64(MSGHDR, koffi.address(data), true);
  scratchView.setBigUint64(MSGHDR + 8, BigInt(data.length), true);
}

/** send with one descriptor attached (SCM_RIGHTS). */
export function sendWithFd(fd: number, data: Uint8Array, attached: number, flags: number): number {
  fillMessage(data, 24);
  const control = MSGHDR + IOVEC;
  scratchView.setBigUint64(control, BigInt(CMSG_LENGTH), true);
  scratchView.setInt32(control + 8, SOL_SOCKET, true);
  scratchView.setInt32(control + 12, SCM_RIGHTS, true);
  scratchView.setInt32(control + 16, attached, true);
  return call(native.sendmsg, fd, scratch, flags);
}

/** recv that also gives the attached descriptors, close-on-exec. */
export function recvWithFds(fd: number, data: Uint8Array, flags: number): { result: number; fds: number[] } {
  fillMessage(data, CONTROL);
  const MSG_CMSG_CLOEXEC = 0x40000000;
  const result = call(native.recvmsg, fd, scratch, flags | MSG_CMSG_CLOEXEC);
  const fds: number[] = [];
  if (result < 0) return { result, fds };
  const control = MSGHDR + IOVEC;
  const controlLength = Number(scratchView.getBigUint64(40, true));
  if (
    controlLength >= CMSG_LENGTH &&
    scratchView.getInt32(control + 8, true) === SOL_SOCKET &&
    scratchView.getInt32(control + 12, true) === SCM_RIGHTS
  ) {
    const end = Number(scratchView.getBigUint64(control, true));
    for (let at = 16; at + 4 <= end; at += 4) fds.push(scratchView.getInt32(control + at, true));
  }
  return { result, fds };
}

/** A watch on any descriptor by Node's own event loop; Node must not own that descriptor as well. */
export function poll(
  fd: number,
  what: { readable?: boolean; writable?: boolean },
  ready: () => void,
): { close(): void; ref(): void; unref(): void } {
  return koffi.node.poll(fd, what, ready);
}

const SIOCETHTOOL = 0x8946;
const ETHTOOL_GLINK = 0x0a;

/** Asks a link for its carrier (1 or 0); the kernel first works off what it had put off for that link. */
export function ethtoolGetLink(fd: number, name: string): number {
  const value = new Uint32Array([ETHTOOL_GLINK, 0]);
  const request = Buffer.alloc(40);
  request.write(name, 0, 15, "latin1");
  request.writeBigUInt64LE(koffi.address(value), 16);
  const result = call(native.ioctl, fd, SIOCETHTOOL, request);
  return result < 0 ? result : (value[1] as number);
}

/** libnftables, one function each; loaded at first use. */
export interface LibNftables {
  newContext(): bigint;
  freeContext(context: bigint): void;
  setJson(context: bigint, on: boolean): void;
  run(context: bigint, text: string): { failed: boolean; output: string; error: string };
}

let libNftables: LibNftables | undefined;

export function loadNftables(): LibNftables {
  libNftables ??= bindNftables();
  return libNftables;
}

function bindNftables(): LibNftables {
  let lib: ReturnType<typeof koffi.load>;
  try {
    lib = koffi.load("libnftables.so.1");
  } catch (cause) {
    throw new Error("Cannot load libnftables.so.1: it is not installed; hint: apt-get install libnftables1", { cause });
  }
  const create = lib.func("void *nft_ctx_new(uint32_t flags)");
  const free = lib.func("void nft_ctx_free(void *ctx)");
  const bufferOutput = lib.func("int nft_ctx_buffer_output(void *ctx)");
  const bufferError = lib.func("int nft_ctx_buffer_error(void *ctx)");
  const outputBuffer = lib.func("const char *nft_ctx_get_output_buffer(void *ctx)");
  const errorBuffer = lib.func("const char *nft_ctx_get_error_buffer(void *ctx)");
  const setOutputFlags = lib.func("void nft_ctx_output_set_flags(void *ctx, unsigned int flags)");
  const runBuffer = lib.func("int nft_run_cmd_from_buffer(void *ctx, const char *text)");
  const NFT_CTX_OUTPUT_JSON = 1 << 4;
  return {
    newContext() {
      const context = create(0) as bigint;
      if (!context) throw new Error("Cannot make an nftables context: nft_ctx_new failed");
      bufferOutput(context);
      bufferError(context);
      return context;
    },
    freeContext: (context) => void free(context),
    setJson: (context, on) => void setOutputFlags(context, on ? NFT_CTX_OUTPUT_JSON : 0),
    run(context, text) {
      const failed = (runBuffer(context, text) as number) !== 0;
      return {
        failed,
        output: (outputBuffer(context) as string | null) ?? "",
        error: (errorBuffer(context) as string | null) ?? "",
      };
    },
  };
}
