/** What people read: progress, findings, status, failures. */
import { styleText } from "node:util";
import type { Finding } from "@underlay/lab/doctor";
import type { Status } from "@underlay/lab/status";
import { UnderlayError } from "@underlay/log/underlay-error";

export type ProgressPrinter = { readonly step: (name: string, detail?: string) => void; readonly end: () => void };

/** One line per step on standard error, with the seconds the step before it took. */
export function showProgress(quiet: boolean): ProgressPrinter {
  let open: { text: string; began: number } | undefined;
  const close = (): void => {
    if (!open || quiet) return;
    const seconds = ((Date.now() - open.began) / 1000).toFixed(1);
    process.stderr.write(`${styleText("green", "✓")} ${open.text} ${styleText("dim", `${seconds} s`)}\n`);
    open = undefined;
  };
  return {
    step: (name, detail) => {
      close();
      open = { text: `${name.padEnd(14)} ${detail ?? ""}`.trimEnd(), began: Date.now() };
    },
    end: close,
  };
}

const marks = { ok: styleText("green", "✓"), warn: styleText("yellow", "!"), fail: styleText("red", "✗") } as const;

export function printFindings(findings: readonly Finding[]): void {
  for (const { what, state, detail, hint } of findings) {
    console.log(`${marks[state]} ${what.padEnd(36)} ${detail}`);
    if (hint && state !== "ok") console.log(`  ${"".padEnd(36)} ${styleText("dim", hint)}`);
  }
}

export function printStatus(status: Status): void {
  console.log(`cluster ${status.cluster} (id ${status.clusterId})`);
  console.log(`  AWS API         ${status.awsApi}`);
  console.log(`  Kubernetes API  ${status.kubeApi}`);
  if (status.readiness) {
    const { readyNodes, coredns } = status.readiness;
    console.log(`  Ready           ${readyNodes} nodes, ${coredns.ready} of ${coredns.wanted} coredns`);
  } else {
    console.log(`  ${marks.fail} ${status.problem}`);
  }
  for (const { name, pid } of status.processes)
    console.log(`  ${pid ? marks.ok : marks.fail} ${name.padEnd(24)} ${pid ? `pid ${pid}` : "not running"}`);
  console.log(`  ${status.namespaces.length} network namespaces: ${status.namespaces.join(" ")}`);
}

/** A failure a person can act on: message and hint; the stack only for what we did not foresee. */
export function reportFailure(err: unknown): void {
  const red = styleText("red", "underlay:", { stream: process.stderr });
  if (err instanceof UnderlayError) {
    console.error(`${red} ${err.message}`);
    if (err.hint) console.error(`  ${err.hint}`);
  } else if (isFileError(err)) {
    console.error(`${red} Cannot read ${err.path}: ${err.code === "ENOENT" ? "it does not exist" : err.message}`);
  } else {
    console.error(red, err);
  }
}

function isFileError(err: unknown): err is NodeJS.ErrnoException & { path: string } {
  return err instanceof Error && "code" in err && typeof (err as NodeJS.ErrnoException).path === "string";
}
