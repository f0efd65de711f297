/**
 * Runs instances: writes boot.json, starts the init program inside the instance's namespace, adopts what already runs, and
 * boots an instance again when its init ended by itself. It knows nothing of what init does (that is `node`'s), nor of links
 * (the fabric's). An instance that boots again gets a bare network first, as a machine does.
 */
import { existsSync } from "node:fs";
import { createLog } from "@underlay/log/log";
import { removeCgroups } from "@underlay/kernel/cgroups";
import { findAdopted, killTree, spawnDetached, waitExit } from "@underlay/kernel/processes";
import { instanceNetns } from "../fabric/places.ts";
import { placesOf, removeInstanceFiles, writeBoot, type InstancePlaces } from "./files.ts";
import type { FabricInstance, InstanceHost, InstanceHostOptions } from "../fabric/seam.ts";

const log = createLog("instances");

type Process = { readonly pid: number; readonly startTime: string };
type Kept = { process: Process; readonly stop: AbortController; startedAt: number; pauseMs: number };

const firstPauseMs = 1_000;
const longestPauseMs = 30_000;
/** An instance that ran this long died of something new: the pause begins small again. */
const healthyMs = 60_000;
const stopGraceMs = 5_000;

export async function openInstanceHost(options: InstanceHostOptions): Promise<InstanceHost> {
  return new LocalInstanceHost(options);
}

class LocalInstanceHost implements InstanceHost {
  readonly #options: InstanceHostOptions;
  readonly #kept = new Map<string, Kept>();

  constructor(options: InstanceHostOptions) {
    this.#options = options;
  }

  async ensureRunning(instance: FabricInstance): Promise<void> {
    const { instanceId } = instance;
    if (this.#kept.has(instanceId)) return;
    const places = placesOf(this.#options.stateDir, instanceId);
    const adopted = findAdopted(places.pidFile);
    // It ran before and ended while nobody kept it: what it left in its network is as gone as its memory.
    if (adopted === undefined && existsSync(places.pidFile)) await this.#options.resetInstance?.(instanceId);
    const process = adopted ?? this.#boot(instance, places);
    log.info(adopted === undefined ? "booted instance" : "adopted instance", { instanceId, pid: process.pid });
    const kept: Kept = { process, stop: new AbortController(), startedAt: Date.now(), pauseMs: firstPauseMs };
    this.#kept.set(instanceId, kept);
    void this.#keep(instance, places, kept);
  }

  async terminate(instanceId: string): Promise<void> {
    const places = placesOf(this.#options.stateDir, instanceId);
    const kept = this.#kept.get(instanceId);
    kept?.stop.abort();
    this.#kept.delete(instanceId);
    const process = findAdopted(places.pidFile) ?? kept?.process;
    if (process !== undefined) await killTree(process, { graceMs: stopGraceMs });
    await removeCgroups(instanceNetns(this.#options.clusterId, instanceId));
    removeInstanceFiles(places);
    log.info("terminated instance", { instanceId });
  }

  async close(): Promise<void> {
    for (const { stop } of this.#kept.values()) stop.abort();
    this.#kept.clear();
  }

  #boot(instance: FabricInstance, places: InstancePlaces): Process {
    const { argv, clusterId } = this.#options;
    writeBoot(instance, places, this.#options);
    return spawnDetached({
      argv: [...argv, places.bootFile],
      pidFile: places.pidFile,
      logFile: places.logFile,
      netns: instanceNetns(clusterId, instance.instanceId),
    });
  }

  async #keep(instance: FabricInstance, places: InstancePlaces, kept: Kept): Promise<void> {
    const { instanceId } = instance;
    const { signal } = kept.stop;
    while (!signal.aborted) {
      const ended = await waitExit(kept.process, { signal }).catch(() => false);
      if (signal.aborted) return;
      if (!ended) continue;
      const ranMs = Date.now() - kept.startedAt;
      if (ranMs > healthyMs) kept.pauseMs = firstPauseMs;
      log.warn("instance ended by itself", { instanceId, pid: kept.process.pid, ranMs, againInMs: kept.pauseMs });
      this.#options.onExit?.(instanceId);
      await pause(kept.pauseMs, signal);
      kept.pauseMs = Math.min(kept.pauseMs * 2, longestPauseMs);
      if (signal.aborted) return;
      try {
        await this.#options.resetInstance?.(instanceId);
        if (signal.aborted) return;
        kept.process = this.#boot(instance, places);
        kept.startedAt = Date.now();
        log.info("booted instance again", { instanceId, pid: kept.process.pid });
      } catch (err) {
        log.error("cannot boot instance again", { instanceId, err });
      }
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
