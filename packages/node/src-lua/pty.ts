/** Pseudo terminals of the /dev/pts this process sees. */
import { C, check, makeCData, O_CLOEXEC, O_NOCTTY, O_RDWR } from "@underlay/lua/libc";
import type { CData } from "@underlay/lua/libc";

/** Opens a new terminal pair: [master, slave]. */
export function openPty(): LuaMultiReturn<[number, number]> {
  const master = check("open /dev/ptmx", C.open("/dev/ptmx", O_RDWR + O_NOCTTY + O_CLOEXEC));
  const value = makeCData<CData & { [index: number]: number }>("int[1]");
  check("unlock the terminal", C.ioctl(master, 0x40045431 /* TIOCSPTLCK */, value));
  check("number the terminal", C.ioctl(master, 0x80045430 /* TIOCGPTN */, value));
  const path = `/dev/pts/${value[0]}`;
  const slave = check(`open ${path}`, C.open(path, O_RDWR + O_NOCTTY + O_CLOEXEC));
  return $multi(master, slave);
}

/** Makes `slave` the controlling terminal and stdin, stdout and stderr of this (new) session. */
export function useTerminal(slave: number): void {
  C.setsid();
  C.ioctl(slave, 0x540e /* TIOCSCTTY */, makeCData("int[1]"));
  for (const fd of [0, 1, 2]) C.dup2(slave, fd);
}

export function resize(master: number, width: number, height: number): void {
  const size = makeCData<CData & { row: number; col: number }>("struct ul_winsize");
  size.row = height;
  size.col = width;
  C.ioctl(master, 0x5414 /* TIOCSWINSZ */, size);
}
