/**
 * Sockets inside a namespace, for Node to use: made, bound and set listening through FFI under setns (a socket stays where
 * it was created), then handed over as a descriptor (`server.listen({ fd })`, `dgramSocket.bind({ fd })`) or as a net.Socket.
 */
import { Socket } from "node:net";
import { familyOf, ipToBytes, ipFromBytes } from "@underlay/addr/ip";
import * as ffi from "./ffi.ts";
import { describeNetns, runIn, type Netns } from "./netns.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_FLAGS = 0o4000 | 0o2000000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const SO_REUSEPORT = 15;
const SO_BINDTODEVICE = 25;
const SO_MARK = 36;
const IPPROTO_IP = 0;
const IP_TRANSPARENT = 19;
const IP_FREEBIND = 15;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const IPV6_TRANSPARENT = 75;
const IPV6_FREEBIND = 78;

interface Place {
  /** Left out: the calling thread's namespace. */
  netns?: Netns;
  address: string;
  port: number;
  /** The address need not be there (yet). */
  freebind?: boolean;
  /** Accept for addresses that are not ours (tproxy). */
  transparent?: boolean;
  reusePort?: boolean;
  /** SO_BINDTODEVICE. */
  device?: string;
}

export interface TcpListenOptions extends Place {
  backlog?: number;
}

export interface UdpBindOptions extends Place {
  /** Bytes of SO_RCVBUF. */
  receiveBuffer?: number;
}

export interface TcpConnectOptions {
  netns?: Netns;
  address: string;
  port: number;
  sourceAddress?: string;
  sourcePort?: number;
  mark?: number;
  device?: string;
}

/** A listening socket's descriptor, for `server.listen({ fd })`. '::' listens for IPv6 only. */
export function listenTcp(options: TcpListenOptions): number {
  const operation = `listen on ${show(options)}/tcp`;
  return open(options, SOCK_STREAM, operation, (fd) => {
    bindTo(fd, options, operation);
    ffi.check(ffi.listen(fd, options.backlog ?? 511), operation, describeNetns(options.netns));
  });
}

/** A bound UDP socket's descriptor, for `dgramSocket.bind({ fd })`. Replies leave from `address` when it is not a wildcard. */
export function bindUdp(options: UdpBindOptions): number {
  const operation = `bind ${show(options)}/udp`;
  return open(options, SOCK_DGRAM, operation, (fd) => {
    if (options.receiveBuffer !== undefined) enlarge(fd, options.receiveBuffer);
    bindTo(fd, options, operation);
  });
}

/** A connecting net.Socket that was made in the namespace: 'connect' and 'error' come as usual. */
export function connectTcp(options: TcpConnectOptions): Socket {
  const operation = `connect to ${show(options)}/tcp`;
  const family = familyOf(options.address);
  const fd = open(options, SOCK_STREAM, operation, (raw) => {
    if (options.mark !== undefined) set(raw, SOL_SOCKET, SO_MARK, options.mark, operation);
    if (options.device !== undefined) setDevice(raw, options.device, operation);
    if (options.sourceAddress === undefined && options.sourcePort === undefined) return;
    set(raw, SOL_SOCKET, SO_REUSEADDR, 1, operation);
    const source = options.sourceAddress ?? (family === 6 ? "::" : "0.0.0.0");
    const bound = ffi.bind(raw, sockaddr(source, options.sourcePort ?? 0));
    ffi.check(bound, `${operation} from ${source}`, describeNetns(options.netns));
  });
  // manualStart: reading may begin once it is connected, which connect() sees to
  const socket = new Socket({ fd, readable: true, writable: true, manualStart: true } as ConstructorParameters<
    typeof Socket
  >[0]);
  return socket.connect({ host: options.address, port: options.port });
}

/** The port the kernel chose for port 0. */
export function boundPort(fd: number): number {
  return boundAddress(fd).port;
}

/** Where a socket is bound. */
export function boundAddress(fd: number): { address: string; port: number } {
  const raw = new Uint8Array(28);
  ffi.check(ffi.getsockname(fd, raw), `read the address of descriptor ${fd}`);
  const view = new DataView(raw.buffer);
  const isIpv6 = view.getUint16(0, true) === AF_INET6;
  return { address: ipFromBytes(isIpv6 ? raw.subarray(8, 24) : raw.subarray(4, 8)), port: view.getUint16(2) };
}

/** sockaddr_in or sockaddr_in6. */
export function sockaddr(address: string, port: number): Uint8Array {
  const bytes = ipToBytes(address);
  const raw = new Uint8Array(bytes.length === 16 ? 28 : 16);
  const view = new DataView(raw.buffer);
  view.setUint16(0, bytes.length === 16 ? AF_INET6 : AF_INET, true);
  view.setUint16(2, port);
  raw.set(bytes, bytes.length === 16 ? 8 : 4);
  return raw;
}

function open(
  options: { netns?: Netns; address: string },
  type: number,
  operation: string,
  prepare: (fd: number) => void,
): number {
  const domain = ipToBytes(options.address).length === 16 ? AF_INET6 : AF_INET;
  const netns = describeNetns(options.netns);
  const fd = ffi.check(
    runIn(options.netns, () => ffi.socket(domain, type | SOCK_FLAGS, 0)),
    operation,
    netns,
  );
  try {
    prepare(fd);
    return fd;
  } catch (error) {
    ffi.close(fd);
    throw error;
  }
}

function bindTo(fd: number, options: Place, operation: string): void {
  const isIpv6 = familyOf(options.address) === 6;
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1, operation);
  if (isIpv6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, operation);
  if (options.reusePort) set(fd, SOL_SOCKET, SO_REUSEPORT, 1, operation);
  if (options.freebind) set(fd, isIpv6 ? IPPROTO_IPV6 : IPPROTO_IP, isIpv6 ? IPV6_FREEBIND : IP_FREEBIND, 1, operation);
  if (options.transparent)
    set(fd, isIpv6 ? IPPROTO_IPV6 : IPPROTO_IP, isIpv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1, operation);
  if (options.device !== undefined) setDevice(fd, options.device, operation);
  ffi.check(ffi.bind(fd, sockaddr(options.address, options.port)), operation, describeNetns(options.netns));
}

function set(fd: number, level: number, name: number, value: number, operation: string): void {
  const raw = new Uint8Array(4);
  new DataView(raw.buffer).setInt32(0, value, true);
  ffi.check(ffi.setsockopt(fd, level, name, raw), operation);
}

function setDevice(fd: number, device: string, operation: string): void {
  ffi.check(
    ffi.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, new TextEncoder().encode(`${device}\0`)),
    `${operation} on device ${device}`,
  );
}

function enlarge(fd: number, bytes: number): void {
  const raw = new Uint8Array(4);
  new DataView(raw.buffer).setInt32(0, bytes, true);
  // FORCE passes rmem_max but needs CAP_NET_ADMIN in the first user namespace; without it, as much as there is.
  if (ffi.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, raw) < 0) ffi.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, raw);
}

const show = (place: { address: string; port: number }): string =>
  place.address.includes(":") ? `[${place.address}]:${place.port}` : `${place.address}:${place.port}`;
