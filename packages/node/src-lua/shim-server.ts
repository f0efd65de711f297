/**
 * The shim's loop: one poll over the control socket, its connections, the containers' output and SIGCHLD.
 *
 * Requests (one JSON line each):
 *   {do:"status"}                        → {pid, containers: ContainerState[]}
 *   {do:"start", container: ContainerSpec} → {ok:true, state} | {ok:false, error}
 *   {do:"signal", id, signal}            → {ok}
 *   {do:"stop"}                          → {ok}, after everything was killed and the netns name removed; the shim ends
 *   {do:"watch"}                         → the status, then one line {ended: ContainerState} per container that ends
 *   {do:"attach", id}                    → frames [kind u8][length u32 big-endian][bytes] both ways:
 *                                          in: 0 stdin, 3 end of stdin, 4 resize {"w","h"}; out: 1 stdout, 2 stderr; closed at the end
 */
import * as ffi from "ffi";
import {
  C,
  errno,
  EAGAIN,
  makeCData,
  MNT_DETACH,
  newBytes,
  POLLIN,
  POLLOUT,
  SIGCHLD,
  SIGKILL,
  SIGTERM,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
} from "@underlay/lua/libc";
import type { CData } from "@underlay/lua/libc";
import { makeDirectories, replaceFile } from "@underlay/lua/files";
import { emptyArray, parse, stringify } from "@underlay/lua/json";
import { nextSignal, reap, setNonBlocking, signalFd } from "@underlay/lua/process";
import { writeAll } from "@underlay/lua/unix-socket";
import { startContainer } from "./container.ts";
import type { ContainerSpec, Started } from "./container.ts";
import { appendLog, closeLog, openLog, timestamp } from "./container-log.ts";
import type { ContainerLog, Stream } from "./container-log.ts";
import { resize } from "./pty.ts";

type ServerOptions = { dir: string; listener: number; netns: string | undefined; hostPid: boolean };

/** What survives the kubelet: also written to `<dir>/containers/<id>.json`. */
type ContainerState = {
  id: string;
  name: string;
  attempt: number;
  pid: number;
  startedAt: string;
  running: boolean;
  finishedAt?: string;
  exitCode?: number;
  signal?: number;
};

type Container = {
  state: ContainerState;
  pid: number;
  io: Started;
  log: ContainerLog;
  tty: boolean;
  stdinOnce: boolean;
};
type Client = {
  fd: number;
  input: string;
  output: string;
  watching?: boolean;
  attached?: Container;
  closing?: boolean;
};

const chunk = 16384;
const buffer = newBytes(chunk);
const signalBuffer = newBytes(128);
const containers: Container[] = [];
let clients: Client[] = [];
let options: ServerOptions;
let stopping = false;

export function serve(given: ServerOptions): void {
  options = given;
  makeDirectories(`${options.dir}/containers`);
  const signals = signalFd([SIGCHLD, SIGTERM]);
  while (true) {
    const fds: number[] = [signals, options.listener];
    const events: number[] = [POLLIN, POLLIN];
    for (const container of containers) {
      for (const fd of [container.io.stdout, container.io.stderr, container.io.terminal]) {
        if (fd === undefined) continue;
        fds[fds.length] = fd;
        events[events.length] = POLLIN;
      }
    }
    for (const client of clients) {
      fds[fds.length] = client.fd;
      events[events.length] = (client.closing === true ? 0 : POLLIN) + (client.output.length > 0 ? POLLOUT : 0);
    }
    const ready = pollAll(fds, events);
    // Output before exits: a container's last words are read before its end is reported.
    for (const container of containers) readOutput(container, ready);
    if (ready.get(signals) !== undefined) readSignals(signals);
    if (ready.get(options.listener) !== undefined) acceptClient();
    for (const client of clients) if (ready.get(client.fd) !== undefined) serveClient(client);
    dropClients();
    if (stopping && !anyRunning()) finish();
  }
}

function pollAll(fds: number[], events: number[]): LuaTable<number, number> {
  const list = makeCData<CData & { [index: number]: { fd: number; events: number; revents: number } }>(
    "struct ul_pollfd[?]",
    fds.length,
  );
  for (let i = 0; i < fds.length; i++) {
    list[i]!.fd = fds[i]!;
    list[i]!.events = events[i]!;
  }
  C.poll(list, fds.length, -1);
  const ready = new LuaTable<number, number>();
  for (let i = 0; i < fds.length; i++) if (list[i]!.revents !== 0) ready.set(fds[i]!, list[i]!.revents);
  return ready;
}

// ---- containers

function start(spec: ContainerSpec): unknown {
  const log = openLog(spec.logPath);
  let io: Started;
  try {
    io = startContainer(spec);
  } catch (reason) {
    closeLog(log);
    return { ok: false, error: tostring(reason) };
  }
  for (const fd of [io.stdout, io.stderr, io.terminal]) if (fd !== undefined) setNonBlocking(fd);
  const state: ContainerState = {
    id: spec.id,
    name: spec.name,
    attempt: spec.attempt,
    pid: io.nodePid,
    startedAt: timestamp(),
    running: true,
  };
  containers[containers.length] = {
    state,
    pid: io.pid,
    io,
    log,
    tty: spec.tty === true,
    stdinOnce: spec.stdinOnce === true,
  };
  record(state);
  collectgarbage();
  return { ok: true, state };
}

function record(state: ContainerState): void {
  replaceFile(`${options.dir}/containers/${state.id}.json`, stringify(state));
}

function readOutput(container: Container, ready: LuaTable<number, number> | undefined): void {
  const io = container.io;
  if (
    io.stdout !== undefined &&
    (ready === undefined || ready.get(io.stdout) !== undefined) &&
    !drain(container, io.stdout, "stdout", ready === undefined)
  )
    io.stdout = undefined;
  if (
    io.stderr !== undefined &&
    (ready === undefined || ready.get(io.stderr) !== undefined) &&
    !drain(container, io.stderr, "stderr", ready === undefined)
  )
    io.stderr = undefined;
  if (
    io.terminal !== undefined &&
    (ready === undefined || ready.get(io.terminal) !== undefined) &&
    !drain(container, io.terminal, "stdout", ready === undefined)
  )
    io.terminal = undefined;
}

/** Reads once (or until nothing is left); false when the stream has ended and was closed. */
function drain(container: Container, fd: number, stream: Stream, all: boolean): boolean {
  while (true) {
    const got = tonumber(C.read(fd, buffer, chunk))!;
    if (got < 0 && errno() === EAGAIN) return true;
    if (got <= 0) {
      C.close(fd);
      return false;
    }
    const data = ffi.string(buffer, got);
    appendLog(container.log, stream, data);
    for (const client of clients)
      if (client.attached === container) send(client, frame(stream === "stdout" ? 1 : 2, data));
    if (!all) return true;
  }
}

function readSignals(fd: number): void {
  let signal = nextSignal(fd, signalBuffer);
  while (signal !== undefined) {
    if (signal === SIGTERM) {
      stopping = true;
      for (const container of containers) if (container.state.running) C.kill(container.pid, SIGTERM);
    }
    signal = nextSignal(fd, signalBuffer);
  }
  let ended = reap();
  while (ended !== undefined) {
    for (const container of containers)
      if (container.pid === ended.pid && container.state.running) finishContainer(container, ended.code, ended.signal);
    ended = reap();
  }
}

function finishContainer(container: Container, code: number, signal: number): void {
  const { state, io } = container;
  readOutput(container, undefined);
  for (const fd of [io.stdout, io.stderr, io.terminal, io.stdin]) if (fd !== undefined) C.close(fd);
  container.io = { pid: io.pid, nodePid: io.nodePid };
  closeLog(container.log);
  state.running = false;
  state.finishedAt = timestamp();
  state.exitCode = signal === 0 ? code : 128 + signal;
  state.signal = signal;
  record(state);
  for (const client of clients) {
    if (client.watching === true) send(client, `${stringify({ ended: state })}\n`);
    if (client.attached === container) client.closing = true;
  }
  forgetOld(state.name);
}

/** Of each container name only the last two ends are kept in memory; the kubelet has read older ones. */
function forgetOld(name: string): void {
  let seen = 0;
  for (let i = containers.length - 1; i >= 0; i--) {
    if (containers[i]!.state.name !== name || containers[i]!.state.running) continue;
    seen++;
    if (seen > 2) {
      C.unlink(`${options.dir}/containers/${containers[i]!.state.id}.json`);
      table.remove(containers, i + 1);
    }
  }
}

function anyRunning(): boolean {
  for (const container of containers) if (container.state.running) return true;
  return false;
}

function finish(): void {
  for (const client of clients) if (client.output.length > 0) writeAll(client.fd, client.output);
  if (options.netns !== undefined) {
    C.umount2(options.netns, MNT_DETACH);
    C.unlink(options.netns);
  }
  C.unlink(`${options.dir}/control.sock`);
  os.exit(0);
}

// ---- connections

function acceptClient(): void {
  while (true) {
    const fd = C.accept4(options.listener, undefined, undefined, SOCK_NONBLOCK + SOCK_CLOEXEC);
    if (fd < 0) return;
    clients[clients.length] = { fd, input: "", output: "" };
  }
}

function serveClient(client: Client): void {
  if (client.output.length > 0) send(client, "");
  const got = tonumber(C.read(client.fd, buffer, chunk))!;
  if (got < 0 && errno() === EAGAIN) return;
  if (got <= 0) {
    client.closing = true;
    client.output = "";
    return;
  }
  client.input += ffi.string(buffer, got);
  if (client.attached !== undefined) return readFrames(client, client.attached);
  const [stop] = string.find(client.input, "\n", 1, true);
  if (stop === undefined) return;
  const line = string.sub(client.input, 1, stop - 1);
  client.input = string.sub(client.input, stop + 1);
  try {
    answer(client, parse<Request>(line));
  } catch (reason) {
    send(client, `${stringify({ ok: false, error: tostring(reason) })}\n`);
    client.closing = true;
  }
}

type Request = { do: string; id?: string; signal?: number; container?: ContainerSpec };

function answer(client: Client, request: Request): void {
  if (request.do === "watch") {
    client.watching = true;
    send(client, `${stringify(status())}\n`);
    return;
  }
  if (request.do === "attach") {
    client.attached = find(request.id);
    if (client.attached === undefined || !client.attached.state.running) client.closing = true;
    else if (client.input.length > 0) readFrames(client, client.attached);
    return;
  }
  let reply: unknown;
  if (request.do === "status") reply = status();
  else if (request.do === "start") reply = start(request.container!);
  else if (request.do === "signal") {
    const container = find(request.id);
    reply = {
      ok: container !== undefined && container.state.running && C.kill(container.pid, request.signal ?? SIGKILL) === 0,
    };
  } else if (request.do === "stop") {
    stopping = true;
    for (const container of containers) if (container.state.running) C.kill(container.pid, SIGKILL);
    reply = { ok: true };
  } else reply = { ok: false, error: `unknown request ${request.do}` };
  send(client, `${stringify(reply)}\n`);
  client.closing = true;
}

function status(): unknown {
  const states = emptyArray<ContainerState>();
  for (const container of containers) states[states.length] = container.state;
  return { ok: true, containers: states };
}

function find(id: string | undefined): Container | undefined {
  for (const container of containers) if (container.state.id === id) return container;
  return undefined;
}

function send(client: Client, data: string): void {
  client.output += data;
  while (client.output.length > 0) {
    const written = tonumber(C.write(client.fd, client.output, client.output.length))!;
    if (written <= 0) {
      // A reader that does not read loses the connection, not the container.
      if (errno() !== EAGAIN || client.output.length > 1048576) {
        client.closing = true;
        client.output = "";
      }
      return;
    }
    client.output = string.sub(client.output, written + 1);
  }
}

function frame(kind: number, data: string): string {
  const size = data.length;
  return (
    string.char(
      kind,
      math.floor(size / 16777216) % 256,
      math.floor(size / 65536) % 256,
      math.floor(size / 256) % 256,
      size % 256,
    ) + data
  );
}

function readFrames(client: Client, container: Container): void {
  while (client.input.length >= 5) {
    const [kind, a, b, c, d] = string.byte(client.input, 1, 5);
    const size = a! * 16777216 + b! * 65536 + c! * 256 + d!;
    if (client.input.length < 5 + size) return;
    const data = string.sub(client.input, 6, 5 + size);
    client.input = string.sub(client.input, 6 + size);
    const sink = container.io.terminal ?? container.io.stdin;
    if (kind === 0 && sink !== undefined) writeAll(sink, data);
    if (kind === 3 && container.io.stdin !== undefined && container.stdinOnce) {
      C.close(container.io.stdin);
      container.io.stdin = undefined;
    }
    if (kind === 4 && container.io.terminal !== undefined) {
      const size = parse<{ w: number; h: number }>(data);
      resize(container.io.terminal, size.w, size.h);
    }
  }
}

function dropClients(): void {
  const kept: Client[] = [];
  for (const client of clients) {
    if (client.closing === true && client.output.length === 0) C.close(client.fd);
    else kept[kept.length] = client;
  }
  clients = kept;
}
