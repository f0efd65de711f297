/** `ip link set lo up` in this process's network namespace. */
import * as ffi from "ffi";
import { AF_INET, C, check, newBytes, SOCK_CLOEXEC, SOCK_DGRAM } from "@underlay/lua/libc";

export function bringLoopbackUp(): void {
  const socket = check("make a socket", C.socket(AF_INET, SOCK_DGRAM + SOCK_CLOEXEC, 0));
  const request = newBytes(40); // struct ifreq: name[16], then flags
  ffi.copy(request, "lo", 2);
  request[16] = 0x41; // IFF_UP | IFF_RUNNING
  check("bring lo up", C.ioctl(socket, 0x8914 /* SIOCSIFFLAGS */, request));
  C.close(socket);
}
