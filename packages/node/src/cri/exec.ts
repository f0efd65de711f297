/** Programs in a running container over CRI: to the end (`ExecSync`: probes, hooks) or with streams (`Exec`: kubectl exec). */
import { PassThrough } from "node:stream";
import type { Collected, Running } from "../kubelet/exec-in-pod.ts";
import type { CriClient } from "./cri-client.ts";
import { GrpcError } from "./grpc-unix.ts";
import { channels, openStream } from "./streams.ts";

const deadlineExceeded = 4;
/** As a shell says it of a program that could not be run. */
const notStarted = 126;

export async function execAndCollect(
  cri: CriClient,
  containerId: string,
  argv: readonly string[],
  timeoutMs: number,
): Promise<Collected> {
  // The runtime knows whole seconds and kills at the limit; a call without an answer must not outlive it by much.
  const timeout = Math.ceil(timeoutMs / 1000);
  try {
    const {
      stdout,
      stderr,
      exitCode = 0,
    } = await cri.call("ExecSync", { containerId, cmd: argv, timeout }, { timeoutMs: timeout * 1000 + 2000 });
    return {
      code: exitCode,
      output: `${stdout?.toString("utf8") ?? ""}${stderr?.toString("utf8") ?? ""}`,
      timedOut: false,
    };
  } catch (err) {
    if (!(err instanceof GrpcError)) throw err;
    if (err.grpcStatus === deadlineExceeded) return { code: 137, output: "", timedOut: true };
    return { code: notStarted, output: "", timedOut: false, error: whyNotStarted(err.message) };
  }
}

export function execStream(
  cri: CriClient,
  containerId: string,
  argv: readonly string[],
  { tty, stdin }: { tty: boolean; stdin: boolean },
): Running {
  const request = { containerId, cmd: argv, tty, stdin, stdout: true, stderr: !tty };
  const stream = openStream(cri.call("Exec", request).then(({ url }) => url));
  const [input, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  input.on("data", (data: Buffer) => stream.send(channels.stdin, data));
  let result: { code: number; error?: string } | undefined;
  stream.on((channel, data) => {
    if (channel === channels.stdout) stdout.write(data);
    else if (channel === channels.stderr) stderr.write(data);
    else if (channel === channels.status && data.length > 0) result = resultOf(data.toString("utf8"));
  });
  const outputs = Promise.all([stdout, stderr].map((output) => new Promise((resolve) => output.on("end", resolve))));
  const closed = new Promise<void>((resolve) => stream.onClose(resolve)).then(() => {
    stdout.end();
    stderr.end();
    return outputs;
  });
  return {
    stdin: input,
    stdout,
    stderr,
    resize: (width, height) =>
      stream.send(channels.resize, Buffer.from(JSON.stringify({ Width: width, Height: height }))),
    kill: () => stream.close(),
    done: closed.then(() => result ?? { code: 137 }),
  };
}

/** The `Status` object at the end of a stream. */
export function resultOf(text: string): { code: number; error?: string } {
  const status = JSON.parse(text) as {
    status?: string;
    reason?: string;
    message?: string;
    details?: { causes?: { reason?: string; message?: string }[] };
  };
  if (status.status === "Success") return { code: 0 };
  const code = status.details?.causes?.find(({ reason }) => reason === "ExitCode")?.message;
  return code === undefined ? { code: notStarted, error: whyNotStarted(status.message ?? "") } : { code: Number(code) };
}

/** The innermost reason of runc's chain of them. */
function whyNotStarted(message: string): string {
  return /unable to start container process: (.*?)(: unknown)?$/s.exec(message)?.[1] ?? message;
}
