/** Moves instances along: pending → (boots) running; shutting-down → (ends) terminated; forgotten after an hour. */
import type { Log } from "@underlay/log/log";
import { finishTermination, terminatedVisibleMs, type Instance } from "../ec2/instances.ts";
import type { FabricState, InstanceHost } from "../fabric/seam.ts";
import type { World } from "../store/kinds.ts";
import { startLoop, type ReconcileLoop } from "./reconcile-loop.ts";

export type InstanceLifecycleOptions = {
  readonly world: World;
  readonly host: InstanceHost;
  /** Resolves when packets see all that is committed: an instance boots with its links in place. */
  readonly settled: () => Promise<void>;
  readonly fabricState: () => FabricState;
  readonly log: Log;
};

export function startInstanceLifecycle(options: InstanceLifecycleOptions): ReconcileLoop {
  const { world, host, log } = options;
  const busy = new Set<string>();
  /** Booted or adopted by this process. */
  const kept = new Set<string>();
  const loop = startLoop({ name: "instances", log, pass });
  return loop;

  async function pass(): Promise<number | undefined> {
    await options.settled();
    for (const instance of world.store.all("instance")) {
      if (busy.has(instance.id)) continue;
      if (instance.state === "pending" || (instance.state === "running" && !kept.has(instance.id)))
        start(instance, boot);
      else if (instance.state === "shutting-down") start(instance, end);
    }
    forgetOld();
    return busy.size > 0 ? 1000 : undefined;
  }

  function start(instance: Instance, step: (instance: Instance) => Promise<void>): void {
    busy.add(instance.id);
    step(instance)
      .catch((err: unknown) =>
        log.error("an instance did not follow", { instanceId: instance.id, state: instance.state, err }),
      )
      .finally(() => {
        busy.delete(instance.id);
        loop.kick();
      });
  }

  async function boot({ id }: Instance): Promise<void> {
    const desired = options.fabricState().instances.find((one) => one.instanceId === id);
    if (desired === undefined) return;
    await host.ensureRunning(desired);
    kept.add(id);
    world.store.transaction(() => {
      const current = world.store.get("instance", id);
      if (current?.state === "pending") world.store.put("instance", { ...current, state: "running" });
    });
  }

  async function end({ id }: Instance): Promise<void> {
    await host.terminate(id);
    kept.delete(id);
    world.store.transaction(() => {
      const current = world.store.get("instance", id);
      if (current?.state === "shutting-down") finishTermination(world, current);
    });
    log.info("terminated an instance", { instanceId: id });
  }

  function forgetOld(): void {
    const before = world.now().getTime() - terminatedVisibleMs;
    const old = world.store
      .all("instance")
      .filter((one) => one.state === "terminated" && Date.parse(one.stateReason?.at ?? "") < before);
    if (old.length > 0) world.store.transaction(() => old.forEach((one) => world.store.remove("instance", one.id)));
  }
}
