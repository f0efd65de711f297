/** What a row of probe results means: thresholds, start values, and when a liveness or startup failure asks for a restart. Pure. */
import type { Probe } from "@underlay/kube/objects";

export type ProbeKind = "startup" | "readiness" | "liveness";
export type ProbeState = {
  readonly kind: ProbeKind;
  readonly ok: boolean;
  readonly last: boolean | undefined;
  readonly row: number;
};

/** Before the first result a container is not started, not ready, but alive. */
export function initialProbeState(kind: ProbeKind): ProbeState {
  return { kind, ok: kind === "liveness", last: undefined, row: 0 };
}

export type ProbeVerdict = { readonly state: ProbeState; readonly changed: boolean; readonly restart: boolean };

/** Takes one result; `restart` is true when the failure threshold of a startup or liveness probe is reached. */
export function takeProbeResult(state: ProbeState, success: boolean, probe: Probe): ProbeVerdict {
  const row = state.last === success ? state.row + 1 : 1;
  const threshold = success ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? 3);
  const next = { ...state, last: success, row };
  if (row < threshold) return { state: next, changed: false, restart: false };
  const changed = state.ok !== success;
  return { state: { ...next, ok: success }, changed, restart: !success && state.kind !== "readiness" };
}
