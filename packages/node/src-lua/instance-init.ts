// luajit program
/**
 * Pid 1 of an instance: `luajit instance-init.lua <boot.json>`, started inside the instance's network namespace.
 *
 * The first process only waits: it is what the cloud keeps, and its death takes the instance along. Its child gets mount, pid, uts
 * and ipc namespaces, builds the constructed root (never the machine's `/`), enters it, then keeps the kubelet running and reaps
 * orphans. The kubelet's death disturbs nothing else. What the root consists of: `instance-root.ts`.
 */
import {
  C,
  check,
  CLONE_NEWIPC,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWUTS,
  exec,
  makeCData,
  monotonicMs,
  newBytes,
  O_CLOEXEC,
  O_RDONLY,
  POLLIN,
  PR_SET_PDEATHSIG,
  SIGCHLD,
  SIGINT,
  SIGKILL,
  SIGTERM,
} from "@underlay/lua/libc";
import type { CData } from "@underlay/lua/libc";
import { openAppend, readFile } from "@underlay/lua/files";
import { parse } from "@underlay/lua/json";
import { nextSignal, reap, signalFd, unblockSignals } from "@underlay/lua/process";
import { off } from "jit";
import { buildInstanceRoot } from "./instance-root.ts";
import type { Boot } from "./instance-root.ts";
import { bringLoopbackUp } from "./loopback.ts";

off();
/** What containers get to end by themselves when the instance is shut down. */
const shutdownMs = 1500;
const buffer = newBytes(128);
const boot = parse<Boot>(
  readFile(arg[0] ?? error("Cannot boot: no boot.json given. usage: instance-init <boot.json>", 0)),
);
C.setsid();
check("make the instance's namespaces", C.unshare(CLONE_NEWNS + CLONE_NEWPID + CLONE_NEWUTS + CLONE_NEWIPC));
const outerSignals = signalFd([SIGCHLD, SIGTERM, SIGINT]);
const child = check("fork", C.fork());
if (child === 0) {
  C.close(outerSignals);
  runInit();
} else {
  waitForInit();
}

function waitForInit(): void {
  while (true) {
    waitReadable(outerSignals, -1);
    const signal = nextSignal(outerSignals, buffer);
    if (signal === SIGTERM || signal === SIGINT) C.kill(child, SIGTERM);
    const ended = reap();
    if (ended !== undefined) os.exit(ended.signal === 0 ? ended.code : 128 + ended.signal);
  }
}

function runInit(): void {
  C.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  const signals = signalFd([SIGCHLD, SIGTERM, SIGINT]);
  buildInstanceRoot(boot);
  check("set the host name", C.sethostname(boot.hostname, boot.hostname.length));
  bringLoopbackUp();
  silenceStdio();
  collectgarbage();
  let kubelet = startKubelet();
  let startedAt = monotonicMs();
  let restartAt: number | undefined;
  let backOffMs = 200;
  let stopBy: number | undefined;
  while (true) {
    const now = monotonicMs();
    const wakeAt = stopBy ?? restartAt;
    waitReadable(signals, wakeAt === undefined ? -1 : math.max(0, wakeAt - now));
    let signal = nextSignal(signals, buffer);
    while (signal !== undefined) {
      if ((signal === SIGTERM || signal === SIGINT) && stopBy === undefined) {
        stopBy = monotonicMs() + shutdownMs;
        C.kill(-1, SIGTERM);
      }
      signal = nextSignal(signals, buffer);
    }
    let ended = reap();
    while (ended !== undefined) {
      if (ended.pid === kubelet) {
        kubelet = 0;
        backOffMs = monotonicMs() - startedAt > 30_000 ? 200 : math.min(backOffMs * 2, 10_000);
        restartAt = monotonicMs() + backOffMs;
      }
      ended = reap();
    }
    if (stopBy !== undefined) {
      // waitpid with nothing left says ECHILD: every process of the instance has ended.
      if (monotonicMs() >= stopBy || C.kill(-1, 0) < 0) os.exit(0);
    } else if (restartAt !== undefined && monotonicMs() >= restartAt) {
      restartAt = undefined;
      startedAt = monotonicMs();
      kubelet = startKubelet();
    }
  }
}

function startKubelet(): number {
  const argv: string[] = [];
  for (const word of boot.kubelet.argv) argv.push(insideInstance(word));
  const pid = check("fork", C.fork());
  if (pid !== 0) return pid;
  C.setsid();
  unblockSignals();
  const log = openAppend("/var/log/kubelet.log");
  C.dup2(log, 1);
  C.dup2(log, 2);
  exec(argv, [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    `UNDERLAY_CGROUP=${boot.cgroup ?? `ul-${boot.instanceId}`}`,
    "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/underlay-ca.crt",
    "NODE_COMPILE_CACHE=/var/cache/node-compile",
    `NODE_OPTIONS=${boot.kubelet.nodeOptions ?? "--max-semi-space-size=1 --disable-warning=ExperimentalWarning"}`,
  ]);
}

/** A path in the repository as the instance sees it. */
function insideInstance(word: string): string {
  return string.sub(word, 1, boot.repoDir.length + 1) === `${boot.repoDir}/`
    ? `/opt/underlay${string.sub(word, boot.repoDir.length + 1)}`
    : word;
}

function silenceStdio(): void {
  const none = check("open /dev/null", C.open("/dev/null", O_RDONLY + O_CLOEXEC));
  C.dup2(none, 0);
}

function waitReadable(fd: number, timeoutMs: number): void {
  const fds = makeCData<CData & { [index: number]: { fd: number; events: number } }>("struct ul_pollfd[1]");
  fds[0]!.fd = fd;
  fds[0]!.events = POLLIN;
  C.poll(fds, 1, timeoutMs < 0 ? -1 : math.ceil(timeoutMs));
}
