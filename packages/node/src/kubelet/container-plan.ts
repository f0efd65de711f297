/**
 * Which container to start, restart or stop next: the rules of init containers, sidecars and restart policies. Pure.
 */
import type { PodSpec } from "@underlay/kube/objects";

export type ContainerView = {
  readonly name: string;
  readonly running: boolean;
  /** Its startup probe has succeeded (or there is none) and its postStart hook has ended. */
  readonly started: boolean;
  /** Exit code of the last run in this sandbox; undefined when it never ended in it. */
  readonly exitCode: number | undefined;
  /** Milliseconds until back-off allows another start; 0 is now. */
  readonly backOffMs: number;
};

export type Step =
  | { readonly do: "start"; readonly name: string }
  | { readonly do: "back-off"; readonly name: string; readonly ms: number }
  | { readonly do: "stop-sidecars" };

export type Outcome = "running" | "succeeded" | "failed";
export type ContainerPlan = {
  readonly steps: readonly Step[];
  readonly outcome: Outcome;
  readonly initialized: boolean;
};

export function planContainers(spec: PodSpec, views: ReadonlyMap<string, ContainerView>): ContainerPlan {
  const policy = spec.restartPolicy ?? "Always";
  const view = (name: string): ContainerView =>
    views.get(name) ?? { name, running: false, started: false, exitCode: undefined, backOffMs: 0 };
  const start = (v: ContainerView): Step =>
    v.backOffMs > 0 ? { do: "back-off", name: v.name, ms: v.backOffMs } : { do: "start", name: v.name };
  const steps: Step[] = [];
  const mains = (spec.containers ?? []).map((c) => view(c.name));
  const mainsBegan = mains.some((v) => v.running || v.exitCode !== undefined);

  for (const init of spec.initContainers ?? []) {
    const v = view(init.name);
    if (init.restartPolicy === "Always") {
      if (!v.running && !allDone(mains, policy)) steps.push(start(v));
      if (!mainsBegan && !v.started) return { steps, outcome: "running", initialized: false };
      continue;
    }
    if (mainsBegan || v.exitCode === 0) continue;
    if (v.running) return { steps, outcome: "running", initialized: false };
    if (v.exitCode !== undefined && policy === "Never")
      return { steps: [{ do: "stop-sidecars" }], outcome: "failed", initialized: false };
    steps.push(start(v));
    return { steps, outcome: "running", initialized: false };
  }

  if (allDone(mains, policy)) {
    const outcome = mains.every((v) => v.exitCode === 0) ? "succeeded" : "failed";
    return { steps: [{ do: "stop-sidecars" }], outcome, initialized: true };
  }
  for (const v of mains) {
    if (v.running) continue;
    if (v.exitCode === undefined || shouldRestart(policy, v.exitCode)) steps.push(start(v));
  }
  return { steps, outcome: "running", initialized: true };
}

export function shouldRestart(policy: string, exitCode: number): boolean {
  return policy === "Always" || (policy === "OnFailure" && exitCode !== 0);
}

function allDone(mains: readonly ContainerView[], policy: string): boolean {
  return mains.every((v) => !v.running && v.exitCode !== undefined && !shouldRestart(policy, v.exitCode));
}
