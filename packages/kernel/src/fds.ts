import * as ffi from "./ffi.ts";

/** Closes a descriptor that no Node object owns. */
export function closeFd(fd: number): void {
  ffi.check(ffi.close(fd), `close descriptor ${fd}`);
}
