/** Starting one container as a child of the pod's shim: namespaces, root, user, then the program. */
import {
  C,
  check,
  CLONE_NEWPID,
  makeCData,
  O_CLOEXEC,
  O_RDONLY,
  PR_SET_PDEATHSIG,
  SIGKILL,
  exec,
} from "@underlay/lua/libc";
import { findLink, makeDirectories } from "@underlay/lua/files";
import { become, findProgram, makePipe, noPair, unblockSignals } from "@underlay/lua/process";
import type { Credentials } from "@underlay/lua/process";
import { readAll, receiveFd, sendWithFd, socketPair, writeAll } from "@underlay/lua/unix-socket";
import { enterContainerRoot } from "./container-root.ts";
import type { RootSpec } from "./container-root.ts";
import { openPty, useTerminal } from "./pty.ts";

export type ContainerSpec = RootSpec &
  Credentials & {
    id: string;
    name: string;
    attempt: number;
    argv: string[];
    env: string[];
    logPath: string;
    stdin?: boolean;
    stdinOnce?: boolean;
    tty?: boolean;
    /** The container's processes share the pod's (or the node's) pid namespace. */
    sharePid?: boolean;
  };

export type Started = {
  /** Process id as the shim sees it, and as the node sees it. */
  pid: number;
  nodePid: number;
  stdout?: number;
  stderr?: number;
  stdin?: number;
  /** Terminal master, instead of the three above. */
  terminal?: number;
};

let ownPidNamespace = -1;

/** Starts the container; throws the reason when it cannot. The descriptors returned are the shim's ends. */
export function startContainer(spec: ContainerSpec): Started {
  const [reportRead, reportWrite] = makePipe();
  const [outRead, outWrite] = spec.tty === true ? noPair() : makePipe();
  const [errRead, errWrite] = spec.tty === true ? noPair() : makePipe();
  const [inRead, inWrite] = spec.tty !== true && spec.stdin === true ? makePipe() : noPair();
  const [ptyHere, ptyThere] = spec.tty === true ? socketPair() : noPair();
  if (spec.sharePid !== true) {
    if (ownPidNamespace < 0)
      ownPidNamespace = check("open the pid namespace", C.open("/proc/self/ns/pid", O_RDONLY + O_CLOEXEC));
    check("make a pid namespace", C.unshare(CLONE_NEWPID));
  }
  const pid = C.fork();
  if (pid === 0) {
    runChild(spec, reportWrite, outWrite, errWrite, inRead, ptyThere);
  }
  // Later forks of the shim belong to the pod's own pid namespace again.
  if (spec.sharePid !== true) check("return to the pid namespace", C.setns(ownPidNamespace, CLONE_NEWPID));
  check("fork", pid);
  for (const fd of [reportWrite, outWrite, errWrite, inRead, ptyThere]) if (fd >= 0) C.close(fd);
  const terminal = spec.tty === true ? receiveFd(ptyHere) : undefined;
  if (ptyHere >= 0) C.close(ptyHere);
  const report = readAll(reportRead);
  C.close(reportRead);
  const [nodePid, failure] = string.match(report, "^(%d*)\n?(.*)$");
  if (failure !== undefined && failure !== "") {
    for (const fd of [outRead, errRead, inWrite, terminal ?? -1]) if (fd >= 0) C.close(fd);
    C.waitpid(pid, undefined, 0);
    throw failure;
  }
  const started: Started = { pid, nodePid: tonumber(nodePid) ?? 0 };
  if (terminal !== undefined) started.terminal = terminal;
  if (outRead >= 0) started.stdout = outRead;
  if (errRead >= 0) started.stderr = errRead;
  if (inWrite >= 0) started.stdin = inWrite;
  return started;
}

function runChild(spec: ContainerSpec, report: number, out: number, err: number, input: number, pty: number): never {
  try {
    // The node's /proc is still in sight: it names this process as the node sees it.
    writeAll(report, `${findLink("/proc/self") ?? "0"}\n`);
    C.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    C.umask(0x12);
    enterContainerRoot(spec);
    connectStdio(spec, out, err, input, pty);
    check(`change to ${spec.cwd}`, C.chdir(spec.cwd));
    become(spec);
    C.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); // cleared by the change of user
    unblockSignals();
    runProgram(spec.argv, spec.env);
  } catch (reason) {
    writeAll(report, tostring(reason));
  }
  C._exit(128);
}

/** Runs `argv[0]`, looked up in the PATH of `env`; throws runc's words when there is no such program. */
export function runProgram(argv: string[], env: string[]): never {
  const name = argv[0] ?? "";
  const file = findProgram(name, pathOf(env));
  if (file === undefined) {
    const [slash] = string.find(name, "/", 1, true);
    error(
      slash === undefined
        ? `exec: "${name}": executable file not found in $PATH`
        : `exec: "${name}": stat ${name}: no such file or directory`,
      0,
    );
  }
  exec(argv, env, file);
}

function pathOf(env: string[]): string {
  for (const entry of env) if (string.sub(entry, 1, 5) === "PATH=") return string.sub(entry, 6);
  return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

function connectStdio(spec: ContainerSpec, out: number, err: number, input: number, pty: number): void {
  if (spec.tty === true) {
    const [master, slave] = openPty();
    sendWithFd(pty, "t", master);
    C.close(master);
    C.close(pty);
    C.fchown(slave, spec.uid, 5);
    useTerminal(slave);
    return;
  }
  C.setsid();
  const source = input >= 0 ? input : check("open /dev/null", C.open("/dev/null", O_RDONLY + O_CLOEXEC));
  C.dup2(source, 0);
  C.dup2(out, 1);
  C.dup2(err, 2);
  // Node and others open /dev/stdout again by path: that must be allowed to the user the container runs as.
  C.fchown(out, spec.uid, spec.gid);
  C.fchown(err, spec.uid, spec.gid);
}
