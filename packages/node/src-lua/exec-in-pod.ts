// luajit program
/**
 * Runs a program in a container that runs already: `luajit exec-in-pod.lua`, with a socket on descriptor 3.
 *
 * First line on it: `ExecSpec`. Without a terminal the program gets this process's own stdin, stdout and stderr; with one, bytes are
 * copied between them and the terminal, and further lines `{"w":…,"h":…}` resize it. The exit code is the program's (128 + signal).
 * A start that fails writes `{"error": …}` to descriptor 3 and exits with 126 or 127.
 */
import { off } from "jit";
import * as ffi from "ffi";
import {
  C,
  check,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWUTS,
  errno,
  EAGAIN,
  EINTR,
  makeCData,
  newBytes,
  O_CLOEXEC,
  O_RDONLY,
  POLLIN,
  PR_SET_PDEATHSIG,
  SIGHUP,
  SIGKILL,
} from "@underlay/lua/libc";
import type { CData } from "@underlay/lua/libc";
import { parse, stringify } from "@underlay/lua/json";
import { become, makePipe, noPair, reap, unblockSignals } from "@underlay/lua/process";
import type { Credentials } from "@underlay/lua/process";
import { readAll, receiveFd, sendWithFd, socketPair, writeAll } from "@underlay/lua/unix-socket";
import { runProgram } from "./container.ts";
import { openPty, resize, useTerminal } from "./pty.ts";

type ExecSpec = Credentials & { pid: number; argv: string[]; env: string[]; cwd: string; tty?: boolean };

const control = 3;
const buffer = newBytes(16384);

off();
C.fcntl(control, 2 /* F_SETFD */, ffi.cast("int", 1 /* FD_CLOEXEC */));
const [line, rest] = readLine();
const spec = parse<ExecSpec>(line);
try {
  os.exit(run());
} catch (reason) {
  const text = tostring(reason);
  writeAll(control, `${stringify({ error: text })}\n`);
  const [missing] = string.find(text, "not found", 1, true);
  const [noFile] = string.find(text, "no such file", 1, true);
  os.exit(missing !== undefined || noFile !== undefined ? 127 : 126);
}

function run(): number {
  enterNamespaces(spec.pid);
  const [reportRead, reportWrite] = makePipe();
  const [ptyHere, ptyThere] = spec.tty === true ? socketPair() : noPair();
  const child = check("fork", C.fork());
  if (child === 0) runChild(reportWrite, ptyThere);
  C.close(reportWrite);
  if (ptyThere >= 0) C.close(ptyThere);
  const terminal = ptyHere >= 0 ? receiveFd(ptyHere) : undefined;
  const failure = readAll(reportRead);
  if (failure !== "") {
    C.waitpid(child, undefined, 0);
    throw failure;
  }
  if (terminal !== undefined) copyTerminal(terminal);
  else for (const fd of [0, 1, 2]) C.close(fd);
  const ended = reap(true, child);
  if (ended === undefined) return 1;
  return ended.signal === 0 ? ended.code : 128 + ended.signal;
}

function enterNamespaces(pid: number): void {
  const kinds: [string, number][] = [
    ["ipc", CLONE_NEWIPC],
    ["uts", CLONE_NEWUTS],
    ["net", CLONE_NEWNET],
    ["pid", CLONE_NEWPID],
    ["mnt", CLONE_NEWNS],
  ];
  const fds: number[] = [];
  for (const [kind] of kinds)
    fds[fds.length] = check(
      `find the container's process ${pid}`,
      C.open(`/proc/${pid}/ns/${kind}`, O_RDONLY + O_CLOEXEC),
    );
  for (let i = 0; i < kinds.length; i++) {
    check(`enter the container's ${kinds[i]![0]} namespace`, C.setns(fds[i]!, kinds[i]![1]));
    C.close(fds[i]!);
  }
}

function runChild(report: number, pty: number): never {
  try {
    if (pty >= 0) {
      const [master, slave] = openPty();
      sendWithFd(pty, "t", master);
      C.close(master);
      C.fchown(slave, spec.uid, 5);
      useTerminal(slave);
    } else C.setsid();
    check(`change to ${spec.cwd}`, C.chdir(spec.cwd));
    become(spec);
    C.prctl(PR_SET_PDEATHSIG, pty >= 0 ? SIGHUP : SIGKILL, 0, 0, 0);
    unblockSignals();
    runProgram(spec.argv, spec.env);
  } catch (reason) {
    writeAll(report, tostring(reason));
  }
  C._exit(127);
}

/** Copies until the terminal has no more users. */
function copyTerminal(terminal: number): void {
  const fds = makeCData<CData & { [index: number]: { fd: number; events: number; revents: number } }>(
    "struct ul_pollfd[3]",
  );
  const watch = [terminal, 0, control];
  for (let i = 0; i < 3; i++) {
    fds[i]!.fd = watch[i]!;
    fds[i]!.events = POLLIN;
  }
  let lines = rest;
  applyResizes();
  while (true) {
    C.poll(fds, 3, -1);
    if (fds[0]!.revents !== 0) {
      const data = readSome(terminal);
      if (data === "") return;
      if (data !== undefined) writeAll(1, data);
    }
    if (fds[1]!.revents !== 0) {
      const data = readSome(0);
      if (data === "") {
        fds[1]!.fd = -1;
        writeAll(terminal, "\x04"); // end of stdin: what Ctrl-D types
      } else if (data !== undefined) writeAll(terminal, data);
    }
    if (fds[2]!.revents !== 0) {
      const data = readSome(control);
      if (data === "") return; // the kubelet is gone: hang up
      lines += data ?? "";
      applyResizes();
    }
  }

  function applyResizes(): void {
    let [stop] = string.find(lines, "\n", 1, true);
    while (stop !== undefined) {
      const size = parse<{ w: number; h: number }>(string.sub(lines, 1, stop - 1));
      lines = string.sub(lines, stop + 1);
      resize(terminal, size.w, size.h);
      [stop] = string.find(lines, "\n", 1, true);
    }
  }
}

/** Bytes, "" at the end, undefined when there is nothing right now. */
function readSome(fd: number): string | undefined {
  const got = tonumber(C.read(fd, buffer, 16384))!;
  if (got < 0) return errno() === EAGAIN || errno() === EINTR ? undefined : "";
  return ffi.string(buffer, got);
}

function readLine(): LuaMultiReturn<[string, string]> {
  let text = "";
  while (true) {
    const [stop] = string.find(text, "\n", 1, true);
    if (stop !== undefined) return $multi(string.sub(text, 1, stop - 1), string.sub(text, stop + 1));
    const data = readSome(control);
    if (data === "") error("no exec request came", 0);
    text += data ?? "";
  }
}
