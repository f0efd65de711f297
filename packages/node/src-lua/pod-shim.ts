// luajit program
/**
 * One small process per pod: `luajit pod-shim.lua <dir>`, with `<dir>/sandbox.json` = `SandboxSpec`.
 *
 * It makes the pod's namespaces, holds them, starts containers on command, writes their logs, and remembers how they ended, so that
 * neither a dead nor an upgraded kubelet loses anything. It is pid 1 of the pod's pid namespace: its death ends the pod.
 * The first process returns (exit code 0) once the control socket `<dir>/control.sock` answers.
 *
 * Wire: one JSON line per connection, answered by one JSON line: `{do: "status" | "start" | "signal" | "stop"}`;
 * `watch` and `attach` keep the connection (see `shim-server.ts`).
 */
import { off } from "jit";
import * as ffi from "ffi";
import {
  C,
  check,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWPID,
  CLONE_NEWUTS,
  int,
  O_CLOEXEC,
  O_RDWR,
  PR_SET_NAME,
} from "@underlay/lua/libc";
import { exists, findLink, makeDirectories, openAppend, readFile, replaceFile, writeFile } from "@underlay/lua/files";
import { parse, stringify } from "@underlay/lua/json";
import { makePipe } from "@underlay/lua/process";
import { listenUnix, readAll, writeAll } from "@underlay/lua/unix-socket";
import { bringLoopbackUp } from "./loopback.ts";
import { bind, makeFile } from "./mounts.ts";
import { serve } from "./shim-server.ts";

type SandboxSpec = {
  hostname: string;
  /** Where the pod's network namespace is bound; absent for host network. */
  netns?: string;
  hostPid?: boolean;
  hostIpc?: boolean;
  sysctls?: Record<string, string>;
};

off();
collectgarbage("setpause", 120);
const dir = arg[0] ?? error("Cannot start a pod: no folder given. usage: pod-shim <dir>", 0);
const spec = parse<SandboxSpec>(readFile(`${dir}/sandbox.json`));
const [ready, tellReady] = makePipe();
makeNamespaces();
const child = check("fork", C.fork());
if (child !== 0) {
  C.close(tellReady);
  const answer = readAll(ready);
  if (answer !== "ok") error(answer === "" ? "Cannot start the pod's shim: it ended at once" : answer, 0);
  os.exit(0);
}
C.close(ready);
try {
  runShim();
} catch (reason) {
  if (!exists(`${dir}/shim.json`)) writeAll(tellReady, tostring(reason));
  writeAll(2, `${tostring(reason)}\n`);
  os.exit(1);
}

function makeNamespaces(): void {
  let flags = 0;
  if (spec.netns !== undefined) {
    check("make a network namespace", C.unshare(CLONE_NEWNET));
    makeDirectories("/run/netns");
    makeFile(spec.netns);
    bind("/proc/self/ns/net", spec.netns);
    bringLoopbackUp();
    // As container runtimes set it: a pod may listen on port 80 and ping without being root.
    writeFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    writeFile("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    flags += CLONE_NEWUTS;
  }
  if (spec.hostPid !== true) flags += CLONE_NEWPID;
  if (spec.hostIpc !== true) flags += CLONE_NEWIPC;
  if (flags !== 0) check("make the pod's namespaces", C.unshare(flags));
  if (spec.netns !== undefined) check("set the pod's host name", C.sethostname(spec.hostname, spec.hostname.length));
  for (const [key, value] of pairs(spec.sysctls ?? {})) {
    const [path] = string.gsub(key, "%.", "/");
    writeFile(`/proc/sys/${path}`, value);
  }
}

function runShim(): void {
  C.setsid();
  C.chdir("/");
  C.prctl(PR_SET_NAME, ffi.cast("unsigned long", ffi.cast("const char *", "pod-shim")) as never, 0, 0, 0);
  const none = check("open /dev/null", C.open("/dev/null", O_RDWR + O_CLOEXEC, int(0)));
  const errors = openAppend(`${dir}/shim.log`);
  C.dup2(none, 0);
  C.dup2(none, 1);
  C.dup2(errors, 2);
  for (const fd of [none, errors]) C.close(fd);
  const listener = listenUnix(`${dir}/control.sock`, 0x180 /* 0600 */);
  replaceFile(`${dir}/shim.json`, stringify({ pid: tonumber(findLink("/proc/self")) }));
  writeAll(tellReady, "ok");
  C.close(tellReady);
  serve({ dir, listener, netns: spec.netns, hostPid: spec.hostPid === true });
}
