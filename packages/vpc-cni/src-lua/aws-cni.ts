// luajit program
/**
 * The CNI plugin `/opt/cni/bin/aws-cni`: exec'd by the runtime for every pod, so it only carries. It checks environment
 * and stdin, opens the pod's namespace, hands both to ipamd's socket and prints the answer; ipamd does the plumbing.
 *
 * Without ipamd: ADD answers "try again later"; DEL succeeds, because ipamd takes the address and the rules of a
 * vanished pod back when it starts. `aws-cni health` asks ipamd whether it serves: the pod's probes run it.
 */
import { C, check, getenv, makeCData, O_CLOEXEC, O_RDONLY, POLLIN, SIGPIPE, SHUT_WR } from "@underlay/lua/libc";
import type { CData } from "@underlay/lua/libc";
import { parse, stringify } from "@underlay/lua/json";
import { connectUnix, readAll, sendWithFd, writeAll } from "@underlay/lua/unix-socket";

declare const arg: string[];

const supported = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const standardSocket = "/var/run/aws-node/plumber.sock";
/** Longer than any ADD of a healthy ipamd, shorter than the runtime's own two minutes. */
const answerTimeoutMs = 60000;
const probeTimeoutMs = 5000;

let cniVersion = "1.1.0";

function finish(code: number, text: string): never {
  writeAll(1, text);
  os.exit(code);
  throw text;
}

function fail(code: number, msg: string, details?: string): never {
  const more = details === undefined ? "" : `,"details":${stringify(details)}`;
  finish(1, `{"cniVersion":${stringify(cniVersion)},"code":${code},"msg":${stringify(msg)}${more}}\n`);
}

/** The spec's variables that a command needs and does not have. */
function missingVariables(command: string): string[] {
  const needed: string[] = [];
  if (command === "ADD" || command === "CHECK") {
    needed.push("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH");
  } else if (command === "DEL") {
    needed.push("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH");
  } else {
    needed.push("CNI_PATH");
  }
  return needed.filter((name) => (getenv(name) ?? "") === "");
}

function checkNames(command: string): void {
  if (command === "STATUS" || command === "GC") return;
  const containerId = getenv("CNI_CONTAINERID")!;
  const ifName = getenv("CNI_IFNAME")!;
  if (string.match(containerId, "^[%w][%w_.%-]*$")[0] === undefined) {
    fail(4, "invalid characters in containerID", containerId);
  }
  if (ifName.length > 15) fail(4, "interface name is too long", "interface name should be less than 16 characters");
  if (ifName === "." || ifName === ".." || string.match(ifName, "[/:%s]")[0] !== undefined) {
    fail(4, "interface name contains / or : or whitespace characters", ifName);
  }
}

/** Waits until the socket can be read, so that a hanging ipamd does not hang the runtime. */
function awaitAnswer(socket: number, timeoutMs: number): boolean {
  const watched = makeCData<CData & { fd: number; events: number }>("struct ul_pollfd");
  watched.fd = socket;
  watched.events = POLLIN;
  return C.poll(watched, 1, timeoutMs) > 0;
}

interface Answer {
  /** ipamd's whole answer; absent when there is none. */
  text?: string;
  why?: string;
}

function ask(path: string, message: string, fd: number | undefined, timeoutMs: number): Answer {
  let socket = -1;
  try {
    socket = connectUnix(path);
    if (fd === undefined) writeAll(socket, message);
    else sendWithFd(socket, message, fd);
    C.shutdown(socket, SHUT_WR);
    if (!awaitAnswer(socket, timeoutMs)) return { why: `no answer from ipamd within ${timeoutMs} ms` };
    const answer = readAll(socket);
    return answer === "" ? { why: "ipamd closed the connection without an answer" } : { text: answer };
  } catch (why) {
    return { why: tostring(why) };
  }
}

function health(): never {
  const answer = ask(arg[1] ?? standardSocket, `{"command":"HEALTH"}\n`, undefined, probeTimeoutMs);
  if (answer.text !== undefined && string.sub(answer.text, 1, 1) === "0") finish(0, "status: SERVING\n");
  finish(1, `status: NOT_SERVING: ${answer.text === undefined ? answer.why : string.sub(answer.text, 2)}\n`);
}

function ignoreBrokenPipes(): void {
  const set = makeCData("uint64_t[16]");
  C.sigemptyset(set);
  C.sigaddset(set, SIGPIPE);
  C.sigprocmask(0, set, undefined);
}

interface Config {
  cniVersion?: unknown;
  plumberSocket?: unknown;
}

function readConfig(): LuaMultiReturn<[string, Config]> {
  const text = readAll(0);
  let config: Config | undefined;
  try {
    config = parse<Config>(text);
  } catch (why) {
    fail(6, "error unmarshaling the network configuration", tostring(why));
  }
  if (string.match(text, "^%s*{")[0] === undefined) fail(6, "the network configuration is not a JSON object");
  return $multi(text, config!);
}

function main(): void {
  ignoreBrokenPipes();
  if (arg[0] === "health") health();
  const command = getenv("CNI_COMMAND") ?? "";
  if (command === "") fail(4, "required env variables [CNI_COMMAND] missing");
  if (command === "VERSION") {
    finish(0, `{"cniVersion":"1.1.0","supportedVersions":["${table.concat(supported as never, '","')}"]}\n`);
  }
  if (!["ADD", "DEL", "CHECK", "STATUS", "GC"].includes(command)) fail(4, `unknown CNI_COMMAND: ${command}`);
  const missing = missingVariables(command);
  if (missing.length > 0) fail(4, `required env variables [${table.concat(missing as never, ",")}] missing`);
  checkNames(command);

  const [text, config] = readConfig();
  const version = type(config.cniVersion) === "string" ? (config.cniVersion as string) : "0.1.0";
  if (!supported.includes(version)) fail(1, "incompatible CNI versions", `config is "${version}"`);
  cniVersion = version;

  const netns = getenv("CNI_NETNS") ?? "";
  let fd: number | undefined;
  if (command === "ADD" || command === "CHECK") {
    fd = C.open(netns, O_RDONLY + O_CLOEXEC);
    if (fd < 0) {
      const [, why] = pcall(() => check(`open netns ${netns}`, -1));
      fail(3, "the container's network namespace cannot be opened", tostring(why));
    }
  }
  const message = stringify({
    command,
    containerId: getenv("CNI_CONTAINERID") ?? "",
    netns,
    ifName: getenv("CNI_IFNAME") ?? "",
    args: getenv("CNI_ARGS") ?? "",
    config: text,
  });
  const path = type(config.plumberSocket) === "string" ? (config.plumberSocket as string) : standardSocket;
  const answer = ask(path, message + "\n", fd, answerTimeoutMs);
  if (answer.text !== undefined) finish(string.sub(answer.text, 1, 1) === "0" ? 0 : 1, string.sub(answer.text, 2));
  if (command === "DEL" || command === "GC") finish(0, "");
  if (command === "STATUS") fail(50, "ipamd is not available", answer.why);
  fail(11, "ipamd does not answer, try again later", answer.why);
}

main();
