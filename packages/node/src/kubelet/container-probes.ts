/** The probes of one running container: timers around `probe-run.ts`, meaning from `probe-state.ts`. */
import type { Container, Probe } from "@underlay/kube/objects";
import { initialProbeState, takeProbeResult, type ProbeKind, type ProbeState } from "./probe-state.ts";
import { runProbe, type ProbeTarget } from "./probe-run.ts";

/**
 * A container that has never been ready is looked at again sooner than its period says, ever more slowly, until one period's
 * length is reached ("While a container is not Ready, the readinessProbe may be executed at times other than the configured
 * periodSeconds": Kubernetes documentation of probes). These early misses are not failures: most programs take a moment to listen.
 */
const firstHurryMs = 100;

export type ProbeEvents = {
  readonly started: () => void;
  readonly ready: (ready: boolean) => void;
  /** Startup or liveness failed for good. */
  readonly restart: (kind: ProbeKind) => void;
  readonly failed: (kind: ProbeKind, message: string) => void;
};

export class ContainerProbes {
  readonly #container: Container;
  readonly #target: ProbeTarget;
  readonly #on: ProbeEvents;
  readonly #startedAt: number;
  readonly #timers = new Set<NodeJS.Timeout>();
  #stopped = false;

  constructor(container: Container, target: ProbeTarget, startedAt: number, on: ProbeEvents) {
    this.#container = container;
    this.#target = target;
    this.#startedAt = startedAt;
    this.#on = on;
  }

  /** `alreadyStarted`: a container taken over from an earlier kubelet whose startup probe had succeeded. */
  begin(alreadyStarted: boolean, wasReady: boolean): void {
    if (this.#container.startupProbe && !alreadyStarted)
      this.#loop("startup", this.#container.startupProbe, initialProbeState("startup"));
    else this.#beginSteady(wasReady);
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #beginSteady(wasReady: boolean): void {
    const { readinessProbe, livenessProbe } = this.#container;
    if (readinessProbe) this.#loop("readiness", readinessProbe, { ...initialProbeState("readiness"), ok: wasReady });
    if (livenessProbe) this.#loop("liveness", livenessProbe, initialProbeState("liveness"));
  }

  #loop(kind: ProbeKind, probe: Probe, first: ProbeState): void {
    let state = first;
    let early = 0;
    const periodMs = (probe.periodSeconds ?? 10) * 1000;
    const once = async () => {
      const begunAt = Date.now();
      const outcome = await runProbe(probe, this.#target).catch((err: Error) => ({ ok: false, message: err.message }));
      if (this.#stopped) return;
      const hurryMs = firstHurryMs * 2 ** early;
      if (!outcome.ok && kind === "readiness" && state.last === undefined && hurryMs < periodMs) {
        early += 1;
        return this.#after(hurryMs, once);
      }
      const verdict = takeProbeResult(state, outcome.ok, probe);
      state = verdict.state;
      if (!outcome.ok) this.#on.failed(kind, outcome.message);
      if (kind === "readiness" && verdict.changed) this.#on.ready(state.ok);
      if (verdict.restart) return this.#on.restart(kind);
      if (kind === "startup" && state.ok) {
        this.#on.started();
        return this.#beginSteady(false);
      }
      this.#after(Math.max(0, periodMs - (Date.now() - begunAt)), once);
    };
    this.#after(Math.max(0, this.#startedAt + (probe.initialDelaySeconds ?? 0) * 1000 - Date.now()), once);
  }

  #after(ms: number, work: () => Promise<void>): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void work();
    }, ms);
    this.#timers.add(timer);
  }
}
