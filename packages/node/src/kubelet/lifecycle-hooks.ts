/** postStart and preStop: exec, httpGet or sleep. The result is the failure's text, or undefined. */
import type { Container } from "@underlay/kube/objects";
import { probeHttp, type HttpGet, type ProbeTarget } from "./probe-run.ts";

type Hook = NonNullable<NonNullable<Container["lifecycle"]>["preStop"]>;

export async function runHook(
  hook: Hook,
  container: Container,
  target: ProbeTarget,
  limitMs: number,
): Promise<string | undefined> {
  try {
    if (hook.exec) {
      const argv = hook.exec.command ?? [];
      const result = await target.exec(argv, limitMs);
      if (result.timedOut) return `command '${argv.join(" ")}' did not end in time`;
      return result.code === 0
        ? undefined
        : `command '${argv.join(" ")}' exited with ${result.code}: ${result.error ?? result.output.trim()}`;
    }
    if (hook.httpGet) {
      const outcome = await probeHttp(
        hook.httpGet as HttpGet,
        { podIp: target.podIp, container },
        Math.min(limitMs, 30_000),
      );
      return outcome.ok ? undefined : outcome.message;
    }
    if (hook.sleep)
      await new Promise((resolve) => setTimeout(resolve, Math.min((hook.sleep?.seconds ?? 0) * 1000, limitMs)));
    return undefined;
  } catch (err) {
    return err instanceof Error ? err.message : String(err);
  }
}
