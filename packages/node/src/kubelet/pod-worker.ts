/**
 * One pod on this node, from its first sight to its removal. `sync` is level-triggered: it looks at what is, asks the pure planner
 * (`container-plan.ts`) what is missing, does it, and reports; it is called again after every change. Runs once at a time per pod.
 *
 * Read next: `container-starter.ts` (how a container is started), `sandbox.ts`, `pod-status.ts`.
 */
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { isConflict, isNotFound } from "@underlay/kube/client";
import type { Container, Pod } from "@underlay/kube/objects";
import { pods } from "@underlay/kube/resources";
import { adoptRecords, forgetSandbox } from "./adoption.ts";
import { durationText } from "./back-off.ts";
import { newRecord, type ContainerRecord } from "./container-record.ts";
import { planContainers, type ContainerView } from "./container-plan.ts";
import { ContainerProbes } from "./container-probes.ts";
import { startContainer, writePodFiles, type StartResult } from "./container-starter.ts";
import { terminationLog } from "./container-spec.ts";
import { containerUser } from "./container-user.ts";
import type { ExecTarget } from "./exec-in-pod.ts";
import type { KubeletContext } from "./kubelet-context.ts";
import { runHook } from "./lifecycle-hooks.ts";
import type { ObjectCache } from "./object-cache.ts";
import { logFile, podLogDir } from "./places.ts";
import { podStatus } from "./pod-status.ts";
import type { PodProcesses, Sandbox } from "./runtime.ts";
import type { ContainerState } from "./shim-client.ts";
import { StatusWriter } from "./status-writer.ts";
import { terminationMessage } from "./termination-message.ts";
import { MountError, prepareVolumes, refreshVolumes, removePodFolder, type VolumeSources } from "./volumes.ts";

const refreshMs = 60_000;
const sigterm = 15;
const sigkill = 9;

export class PodWorker {
  pod: Pod;
  /** Set once nothing of the pod is left on the node. */
  finished = false;
  readonly records = new Map<string, ContainerRecord>();
  readonly #context: KubeletContext;
  readonly #cache: ObjectCache;
  readonly #changed: () => void;
  readonly #status: StatusWriter;
  readonly #probes = new Map<string, ContainerProbes>();
  readonly #endWaiters = new Map<string, (() => void)[]>();
  readonly #startTime: string;
  #sandbox: Sandbox | undefined;
  #volumes: Map<string, string> | undefined;
  #adopted = false;
  #initialized = false;
  #terminal = false;
  #verdict: { phase: "Failed"; reason: string; message: string } | undefined;
  #ending: Promise<void> | undefined;
  #endBy = Number.POSITIVE_INFINITY;
  #refreshedAt = Date.now();
  #starting = 0;
  readonly #earlyEnds = new Map<string, ContainerState>();
  #deleted = false;
  /** Nothing of the pod runs any more and its network was given back. */
  #ended = false;
  #endAgainAt = 0;

  constructor(pod: Pod, context: KubeletContext, cache: ObjectCache, changed: () => void) {
    this.pod = pod;
    this.#context = context;
    this.#cache = cache;
    this.#changed = changed;
    this.#status = new StatusWriter(context.client, pod);
    this.#startTime = pod.status?.startTime ?? `${new Date().toISOString().slice(0, 19)}Z`;
  }

  get ips(): readonly string[] {
    if (this.pod.spec?.hostNetwork) return [this.#context.settings.nodeIp];
    return this.#sandbox?.record.ips ?? [];
  }

  get netns(): string | undefined {
    return this.#sandbox?.record.netns;
  }

  get shim(): PodProcesses | undefined {
    return this.#sandbox?.shim;
  }

  /** The API object changed, or (undefined) went away. */
  update(pod: Pod | undefined): void {
    if (pod) this.pod = pod;
    else this.#deleted = true;
    const { deletionTimestamp, deletionGracePeriodSeconds } = this.pod.metadata;
    if (this.#deleted) this.#endBy = Date.now();
    else if (deletionTimestamp)
      this.#endBy = Math.min(this.#endBy, Date.now() + (deletionGracePeriodSeconds ?? 30) * 1000);
  }

  /** The node is shutting its kubelet down: nothing of the pod changes. */
  letGo(): void {
    for (const probes of this.#probes.values()) probes.stop();
    this.#sandbox?.shim.unwatch();
    this.#status.stop();
  }

  async sync(): Promise<{ requeueAfterMs: number } | void> {
    if (this.finished) return;
    if (!this.#adopted) await this.#adopt();
    if (this.#deleted || this.pod.metadata.deletionTimestamp) return this.#end(true);
    this.#checkDeadline();
    if (this.#verdict || this.#terminal) return this.#end(false);
    if (this.#ending) return;
    return (await this.#advance()) ?? this.#untilRefresh();
  }

  // ---- towards running

  async #advance(): Promise<{ requeueAfterMs: number } | void> {
    const { cni, log } = this.#context;
    if (!this.#sandbox && !this.pod.spec?.hostNetwork && !cni.network()) {
      this.#event(
        "Warning",
        "NetworkNotReady",
        "network is not ready: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized",
      );
      this.#report();
      return { requeueAfterMs: 2000 };
    }
    try {
      this.#volumes ??= await prepareVolumes(this.pod, this.#context.places, this.#volumeSources(true));
    } catch (err) {
      this.#event("Warning", "FailedMount", message(err));
      this.#report();
      return { requeueAfterMs: err instanceof MountError ? 2000 : 5000 };
    }
    if (!this.#sandbox) {
      try {
        await this.#makeSandbox();
      } catch (err) {
        log.warn("cannot make sandbox", { pod: this.#key(), err });
        this.#event(
          "Warning",
          "FailedCreatePodSandBox",
          `Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox: ${message(err)}`,
        );
        this.#report();
        return { requeueAfterMs: 1000 + Math.random() * 1000 };
      }
      await writePodFiles(this.pod, this.#context, this.ips);
      this.#report();
    }
    return this.#runContainers();
  }

  async #runContainers(): Promise<{ requeueAfterMs: number } | void> {
    let requeueAfterMs = Number.POSITIVE_INFINITY;
    const spec = this.pod.spec;
    if (!spec) return;
    this.#stopChanged();
    const plan = planContainers(spec, this.#views());
    this.#initialized = plan.initialized;
    for (const step of plan.steps) {
      if (step.do === "stop-sidecars") continue;
      const record = this.#record(step.name);
      if (step.do === "back-off") {
        this.#waitInBackOff(record);
        requeueAfterMs = Math.min(requeueAfterMs, step.ms);
        continue;
      }
      const result = await this.#start(this.#container(step.name), record);
      if (!result.ok) requeueAfterMs = Math.min(requeueAfterMs, result.retryAfterMs);
      if (this.pod.metadata.deletionTimestamp || this.#deleted) break;
    }
    for (const extra of spec.ephemeralContainers ?? []) {
      const record = this.#record(extra.name);
      if (!record.running && !record.ended && !record.previous)
        await this.#start(extra as unknown as Container, record);
    }
    if (plan.outcome !== "running") {
      this.#terminal = true;
      this.#changed();
    }
    this.#report();
    if (Number.isFinite(requeueAfterMs)) return { requeueAfterMs };
  }

  /** A container whose image was changed in the API is ended; the planner starts it again. */
  #stopChanged(): void {
    for (const container of this.pod.spec?.containers ?? []) {
      const record = this.records.get(container.name);
      if (!record?.running || record.replacing || record.image === undefined || record.image === container.image)
        continue;
      record.replacing = true;
      this.#event("Normal", "Killing", `Container ${container.name} definition changed, will be restarted`);
      const grace = this.pod.spec?.terminationGracePeriodSeconds ?? 30;
      void this.#stopContainer(container.name, grace * 1000, undefined).finally(() => (record.replacing = false));
    }
  }

  async #makeSandbox(): Promise<void> {
    const { runtime } = this.#context;
    await runtime.removeSandbox(this.#uid());
    this.#sandbox = await runtime.createSandbox(this.pod);
    await this.#watchShim();
  }

  async #watchShim(): Promise<void> {
    const sandbox = this.#sandbox;
    if (!sandbox) return;
    const states = await sandbox.shim.watch({
      ended: (state) => this.#onEnded(state),
      lost: () => this.#onShimLost(sandbox),
    });
    // What ended between the first look and the watch.
    for (const state of states) if (!state.running) this.#onEnded(state);
  }

  async #start(container: Container, record: ContainerRecord): Promise<StartResult> {
    const shim = this.#sandbox?.shim;
    if (!shim) return { ok: false, retryAfterMs: 1000 };
    this.#starting += 1;
    const result = await startContainer({
      context: this.#context,
      cache: this.#cache,
      pod: this.pod,
      container,
      record,
      shim,
      volumes: this.#volumes ?? new Map(),
      podIps: this.ips,
      event: (type, reason, text) => this.#event(type, reason, text),
    }).finally(() => (this.#starting -= 1));
    const early = this.#earlyEnds.get(record.running?.id ?? "");
    this.#earlyEnds.clear();
    if (early) {
      this.#onEnded(early);
      return { ok: false, retryAfterMs: 10 };
    }
    if (result.ok) await this.#afterStart(container, record);
    return result;
  }

  /** postStart, then the probes. */
  async #afterStart(container: Container, record: ContainerRecord): Promise<void> {
    const hook = container.lifecycle?.postStart;
    this.#report();
    if (hook) {
      const failure = await runHook(hook, container, this.#probeTarget(container), 3600_000);
      if (failure) {
        this.#event("Warning", "FailedPostStartHook", `PostStartHook failed: ${failure}`);
        void this.#stopContainer(container.name, 30_000, "FailedPostStartHook");
        return;
      }
    }
    record.started = !container.startupProbe;
    record.ready = !container.readinessProbe;
    this.#beginProbes(container, record, false);
  }

  #beginProbes(container: Container, record: ContainerRecord, adopted: boolean): void {
    if (!record.running) return;
    this.#probes.get(container.name)?.stop();
    const capital = { startup: "Startup", readiness: "Readiness", liveness: "Liveness" };
    const probes = new ContainerProbes(container, this.#probeTarget(container), Date.parse(record.running.startedAt), {
      started: () => {
        record.started = true;
        this.#changed();
      },
      ready: (ready) => {
        record.ready = ready;
        this.#report();
      },
      failed: (kind, text) => this.#event("Warning", "Unhealthy", `${capital[kind]} probe failed: ${text}`),
      restart: (kind) => {
        this.#event("Normal", "Killing", `Container ${container.name} failed ${kind} probe, will be restarted`);
        const probe = kind === "startup" ? container.startupProbe : container.livenessProbe;
        const grace = probe?.terminationGracePeriodSeconds ?? this.pod.spec?.terminationGracePeriodSeconds ?? 30;
        void this.#stopContainer(container.name, grace * 1000, undefined);
      },
    });
    this.#probes.set(container.name, probes);
    probes.begin(adopted && record.started, adopted && record.ready);
  }

  #waitInBackOff(record: ContainerRecord): void {
    const delay = this.#context.backOff.delay(this.#backOffKey(record.name));
    const text = `back-off ${durationText(delay)} restarting failed container=${record.name} pod=${this.pod.metadata.name}_${this.pod.metadata.namespace}(${this.#uid()})`;
    if (record.waiting?.reason !== "CrashLoopBackOff") {
      this.#event(
        "Warning",
        "BackOff",
        `Back-off restarting failed container ${record.name} in pod ${this.pod.metadata.name}_${this.pod.metadata.namespace}(${this.#uid()})`,
      );
    }
    record.waiting = { reason: "CrashLoopBackOff", message: text };
  }

  #views(): Map<string, ContainerView> {
    const now = Date.now();
    const views = new Map<string, ContainerView>();
    for (const record of this.records.values()) {
      const endedAt = record.ended ? Date.parse(record.ended.finishedAt) : now;
      views.set(record.name, {
        name: record.name,
        running: record.running !== undefined,
        started: record.running !== undefined && record.started,
        exitCode: record.running || record.forgotten ? undefined : record.ended?.exitCode,
        backOffMs: record.ended ? this.#context.backOff.remaining(this.#backOffKey(record.name), endedAt, now) : 0,
      });
    }
    return views;
  }

  // ---- what happens by itself

  #onEnded(state: ContainerState): void {
    const record = [...this.records.values()].find((r) => r.running?.id === state.id);
    // The end of a short run may be heard before the answer to its start.
    if (!record) return void (this.#starting > 0 && this.#earlyEnds.set(state.id, state));
    this.#probes.get(record.name)?.stop();
    this.#probes.delete(record.name);
    const container = this.#container(record.name);
    const { places } = this.#context;
    const text = terminationMessage(container, state, {
      file: terminationLog(places, this.#uid(), record.name, state.attempt),
      log: logFile(places, this.#identity(), record.name, state.attempt),
    });
    record.running = undefined;
    record.started = false;
    record.ready = false;
    record.ended = {
      containerId: state.id,
      exitCode: state.exitCode ?? 137,
      reason: state.reason ?? (state.exitCode === 0 ? "Completed" : "Error"),
      ...(text ? { message: text } : {}),
      startedAt: state.startedAt,
      finishedAt: state.finishedAt ?? new Date().toISOString(),
    };
    for (const wake of this.#endWaiters.get(record.name) ?? []) wake();
    this.#endWaiters.delete(record.name);
    this.#report();
    this.#changed();
  }

  #onShimLost(sandbox: Sandbox): void {
    if (this.#sandbox !== sandbox || this.finished) return;
    this.#sandbox = undefined;
    if (this.#ending) return;
    this.#event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    const now = new Date().toISOString();
    for (const record of this.records.values())
      if (record.running)
        this.#onEnded({ ...record.running, running: false, exitCode: 137, signal: 9, finishedAt: now });
    forgetSandbox(this.records, this.pod);
    this.#changed();
  }

  #checkDeadline(): void {
    const limit = this.pod.spec?.activeDeadlineSeconds;
    if (limit === undefined || Date.now() < Date.parse(this.#startTime) + limit * 1000) return;
    if (!this.#verdict)
      this.#event("Normal", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
    this.#verdict = {
      phase: "Failed",
      reason: "DeadlineExceeded",
      message: "Pod was active on the node longer than the specified deadline",
    };
  }

  // ---- towards the end

  /** Starts the end of the pod (once); with `remove` its object is deleted afterwards. */
  #end(remove: boolean): { requeueAfterMs: number } | void {
    if (!remove && this.#ended) return;
    const wait = this.#endAgainAt - Date.now();
    if (wait > 0) return { requeueAfterMs: wait };
    const grace = this.pod.metadata.deletionGracePeriodSeconds ?? this.pod.spec?.terminationGracePeriodSeconds ?? 30;
    if (!Number.isFinite(this.#endBy)) this.#endBy = Date.now() + grace * 1000;
    this.#ending ??= this.#endNow()
      .catch((err: unknown) => {
        this.#context.log.warn("cannot end pod", { pod: this.#key(), err });
        this.#event("Warning", "FailedKillPod", `error killing pod: ${message(err)}`);
        this.#endAgainAt = Date.now() + 2000;
      })
      .finally(() => {
        this.#ending = undefined;
        this.#changed();
      });
  }

  async #endNow(): Promise<void> {
    const sidecars = (this.pod.spec?.initContainers ?? [])
      .filter((c) => c.restartPolicy === "Always")
      .map((c) => c.name);
    for (const probes of this.#probes.values()) probes.stop();
    this.#probes.clear();
    const others = [...this.records.keys()].filter((name) => !sidecars.includes(name));
    await Promise.all(others.map((name) => this.#stopContainer(name, undefined, undefined)));
    // Sidecars end last, in reverse order of their start.
    for (const name of sidecars.reverse()) await this.#stopContainer(name, undefined, undefined);
    const shim = this.#sandbox?.shim;
    this.#sandbox = undefined;
    shim?.unwatch();
    await this.#context.runtime.removeSandbox(this.#uid());
    this.#terminal = true;
    this.#ended = true;
    this.#report();
    if (this.#deleted || this.pod.metadata.deletionTimestamp) await this.#remove();
  }

  async #remove(): Promise<void> {
    const { places, client, backOff, imageBackOff } = this.#context;
    const { namespace = "", name = "" } = this.pod.metadata;
    if (!this.#deleted) await this.#status.flush();
    this.#status.stop();
    await removePodFolder(this.#uid(), places);
    await rm(podLogDir(places, this.#identity()), { recursive: true, force: true });
    this.#cache.forgetPod(this.#uid());
    backOff.forget(this.#uid());
    imageBackOff.forget(this.#uid());
    if (!this.#deleted) {
      await client
        .delete(pods, name, { namespace, gracePeriodSeconds: 0, preconditions: { uid: this.#uid() } })
        .catch((err: unknown) => {
          // Not found, or another pod of that name: it is gone either way.
          if (!isNotFound(err) && !isConflict(err)) throw err;
        });
    }
    this.finished = true;
  }

  /** preStop, SIGTERM, the grace period (the pod's, unless given), SIGKILL. Resolves when the container has ended. */
  async #stopContainer(name: string, graceMs: number | undefined, why: string | undefined): Promise<void> {
    const record = this.records.get(name);
    const running = record?.running;
    const shim = this.#sandbox?.shim;
    if (!record || !running || !shim) return;
    const deadline =
      graceMs === undefined
        ? () => this.#endBy
        : (
            (at) => () =>
              Math.min(at, this.#endBy)
          )(Date.now() + graceMs);
    const container = this.#container(name);
    if (graceMs === undefined || why)
      this.#event("Normal", "Killing", why ? `${why}: stopping container ${name}` : `Stopping container ${name}`);
    const hook = container.lifecycle?.preStop;
    if (hook && deadline() > Date.now()) {
      const failure = await runHook(hook, container, this.#probeTarget(container), deadline() - Date.now());
      if (failure) this.#event("Warning", "FailedPreStopHook", `PreStopHook failed: ${failure}`);
    }
    if (record.running?.id !== running.id) return;
    const ended = new Promise<void>((resolve) =>
      this.#endWaiters.set(name, [...(this.#endWaiters.get(name) ?? []), resolve]),
    );
    await shim.signal(running.id, sigterm).catch(() => {});
    while (record.running?.id === running.id) {
      const left = deadline() - Date.now();
      if (left <= 0) {
        await shim.signal(running.id, sigkill).catch(() => {});
        await ended;
        return;
      }
      // Awake once a second: the grace period may have been shortened meanwhile.
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, Math.min(left, 1000)))]);
    }
  }

  // ---- taking over

  async #adopt(): Promise<void> {
    const found = await this.#context.runtime.findSandbox(this.pod);
    this.#sandbox = found;
    await adoptRecords(this.records, this.pod, found, this.#context.runtime);
    const phase = this.pod.status?.phase;
    if (phase === "Succeeded" || phase === "Failed") this.#terminal = true;
    this.#adopted = true;
    if (!found) return;
    this.#volumes = await prepareVolumes(this.pod, this.#context.places, this.#volumeSources(false)).catch(
      () => undefined,
    );
    const spec = this.pod.spec;
    if (spec) this.#initialized = planContainers(spec, this.#views()).initialized;
    for (const container of [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])]) {
      const record = this.records.get(container.name);
      if (record?.running) this.#beginProbes(container, record, true);
    }
    await this.#watchShim();
  }

  // ---- small things

  #untilRefresh(): { requeueAfterMs: number } {
    const due = this.#refreshedAt + refreshMs - Date.now();
    if (due <= 0) {
      this.#refreshedAt = Date.now();
      void refreshVolumes(this.pod, this.#context.places, this.#volumeSources(false)).catch((err: unknown) =>
        this.#context.log.warn("cannot refresh volumes", { pod: this.#key(), err }),
      );
    }
    const limit = this.pod.spec?.activeDeadlineSeconds;
    const untilDeadline =
      limit === undefined ? Number.POSITIVE_INFINITY : Date.parse(this.#startTime) + limit * 1000 - Date.now();
    return { requeueAfterMs: Math.max(10, Math.min(due > 0 ? due : refreshMs, untilDeadline)) };
  }

  #volumeSources(fresh: boolean): VolumeSources {
    const namespace = this.pod.metadata.namespace ?? "";
    const { settings } = this.#context;
    return {
      configMap: (name) => this.#cache.configMap(namespace, name, fresh),
      secret: (name) => this.#cache.secret(namespace, name, fresh),
      token: (request) => this.#cache.token(this.pod, request),
      hostIp: settings.nodeIp,
      podIps: () => this.ips,
      capacity: settings,
    };
  }

  /** How a program gets into a container that runs; throws when it does not. */
  execTarget(name: string): ExecTarget {
    const running = this.records.get(name)?.running;
    if (!running) throw new Error(`container not found ("${name}")`);
    const container = this.#container(name);
    const environ = readFileSync(`/proc/${running.pid}/environ`, "utf8");
    return {
      ...containerUser(this.pod, container, running.imageUser),
      containerId: running.id,
      pid: running.pid,
      env: environ.split("\0").filter(Boolean),
      cwd: container.workingDir || running.imageWorkingDir || "/",
    };
  }

  hasTerminal(name: string): boolean {
    return this.#container(name).tty === true;
  }

  #probeTarget(container: Container) {
    return {
      podIp: this.ips[0] ?? "127.0.0.1",
      container,
      exec: (argv: readonly string[], timeoutMs: number) =>
        this.#context.runtime.execAndCollect(this.execTarget(container.name), argv, timeoutMs),
    };
  }

  #report(): void {
    if (this.#deleted) return;
    this.#status.set(
      podStatus({
        pod: this.pod,
        records: this.records,
        sandboxReady: this.#sandbox !== undefined,
        podIps: this.#terminal && this.ips.length === 0 ? (this.pod.status?.podIPs ?? []).map((p) => p.ip) : this.ips,
        hostIp: this.#context.settings.nodeIp,
        startTime: this.#startTime,
        initialized: this.#initialized,
        // A pod is over when its last container is, sidecars included.
        terminal: this.#terminal && ![...this.records.values()].some((r) => r.running),
        ...(this.#verdict ? { verdict: this.#verdict } : {}),
        now: new Date().toISOString(),
        runtime: this.#context.runtime.version,
      }),
    );
  }

  #container(name: string): Container {
    const spec = this.pod.spec;
    const all = [
      ...(spec?.containers ?? []),
      ...(spec?.initContainers ?? []),
      ...((spec?.ephemeralContainers ?? []) as unknown as Container[]),
    ];
    return all.find((c) => c.name === name) ?? ({ name } as Container);
  }

  #record(name: string): ContainerRecord {
    let record = this.records.get(name);
    if (!record) this.records.set(name, (record = newRecord(name)));
    return record;
  }

  #event(type: "Normal" | "Warning", reason: string, text: string): void {
    this.#context.events.event({ ...this.pod, apiVersion: "v1", kind: "Pod" }, type, reason, text);
  }

  #uid(): string {
    return this.pod.metadata.uid ?? "";
  }

  #key(): string {
    return `${this.pod.metadata.namespace}/${this.pod.metadata.name}`;
  }

  #identity(): { namespace: string; name: string; uid: string } {
    return { namespace: this.pod.metadata.namespace ?? "", name: this.pod.metadata.name ?? "", uid: this.#uid() };
  }

  #backOffKey(name: string): string {
    return `${this.#uid()}/${name}`;
  }
}

function message(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
