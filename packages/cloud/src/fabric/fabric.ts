/**
 * The fabric: makes the kernel equal to the cloud's state and keeps it so.
 * One change costs what it changes: units whose basis is the same are not looked at again (plan.ts). The kernel itself is
 * read when the fabric starts (adopting what is there), after an error, on "everything", and every few seconds to repair drift.
 * It never judges packets itself, and never touches the root namespace. Read next: plan-router.ts, converge.ts.
 */
import { createLog } from "@underlay/log/log";
import { deleteNetns, listNetns } from "@underlay/kernel/netns";
import { converge } from "./converge.ts";
import { differenceOf, isEmpty, summarise, withDependents, type Difference } from "./difference.ts";
import { Handles } from "./handles.ts";
import { toItems, type Item, type Items } from "./items.ts";
import { isStructure } from "./nft-text.ts";
import { memorise, observe, type ChainMemory } from "./observe.ts";
import { clusterNetns } from "./places.ts";
import { resolverOf } from "./plan-router.ts";
import { planUnits, type Unit } from "./plan.ts";
import { StaleFlows } from "./stale-flows.ts";
import type { Change, Fabric, FabricOptions, FabricState } from "./seam.ts";

const log = createLog("fabric");

export type LinuxFabricOptions = FabricOptions & {
  /** How often drift is looked for; 0 never. Default 10 s. */
  readonly auditMs?: number;
};

type Planned = { readonly basis: Unit["basis"]; readonly items: Item[] };

export async function openFabric(options: LinuxFabricOptions): Promise<LinuxFabric> {
  return new LinuxFabric(options);
}

export class LinuxFabric implements Fabric {
  readonly #cid: string;
  readonly #handles = new Handles();
  readonly #memory: ChainMemory = new Map();
  readonly #flows = new StaleFlows();
  readonly #listeners = new Set<(state: FabricState) => void>();
  readonly #auditMs: number;
  #timer: NodeJS.Timeout | undefined;
  #units = new Map<string, Planned>();
  #state: FabricState | undefined;
  /** The kernel may differ from `#units`: look before the next change. */
  #unsure = true;
  #tail: Promise<void> = Promise.resolve();
  #waiting: { state: FabricState; done: Promise<void> } | undefined;
  #closed = false;

  constructor({ clusterId, auditMs = 10_000 }: LinuxFabricOptions) {
    this.#cid = clusterId;
    this.#auditMs = auditMs;
    this.#auditIn(auditMs);
  }

  apply(desired: FabricState, changed: Change | "everything"): Promise<void> {
    if (changed === "everything") this.#unsure = true;
    if (this.#waiting !== undefined) {
      this.#waiting.state = desired;
      return this.#waiting.done;
    }
    const turn: { state: FabricState; done: Promise<void> } = { state: desired, done: Promise.resolve() };
    this.#waiting = turn;
    turn.done = this.#enqueue(async () => {
      this.#waiting = undefined;
      await this.#make(turn.state);
    });
    return turn.done;
  }

  clusterNetns(clusterName: string): string {
    return clusterNetns(this.#cid, clusterName);
  }

  /** The address of a VPC's resolver (base + 2), for an instance's resolv.conf. */
  resolverOf(vpcId: string): string | undefined {
    const vpc = this.#state?.vpcs.find((candidate) => candidate.vpcId === vpcId);
    return vpc && resolverOf(vpc);
  }

  /** Called after each successful apply, with the state that packets now see. Returns the unsubscribe function. */
  onApplied(listener: (state: FabricState) => void): () => void {
    this.#listeners.add(listener);
    if (this.#state !== undefined && !this.#unsure) listener(this.#state);
    return () => this.#listeners.delete(listener);
  }

  /** An instance that boots again starts with a bare network, as a machine does: its namespace and links are made anew. */
  resetInstance(instanceId: string): Promise<void> {
    return this.#enqueue(async () => {
      const state = this.#state;
      if (state === undefined) return;
      await this.#make({
        ...state,
        instances: state.instances.filter((instance) => instance.instanceId !== instanceId),
      });
      await this.#make(state);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#tail;
    this.#handles.close();
  }

  #enqueue(work: () => Promise<void>): Promise<void> {
    const done = this.#tail.then(work);
    this.#tail = done.catch(() => {});
    return done;
  }

  async #make(state: FabricState): Promise<void> {
    const started = performance.now();
    const units = new Map<string, Planned>();
    const before: Item[] = [];
    const after: Item[] = [];
    for (const unit of planUnits(state)) {
      const known = this.#units.get(unit.id);
      if (known !== undefined && isSame(known.basis, unit.basis)) {
        units.set(unit.id, { basis: unit.basis, items: known.items });
        continue;
      }
      const items = unit.items();
      units.set(unit.id, { basis: unit.basis, items });
      before.push(...(known?.items ?? []));
      after.push(...items);
    }
    for (const [id, { items }] of this.#units) if (!units.has(id)) before.push(...items);
    this.#units = units;
    this.#state = state;
    const sure = !this.#unsure;
    this.#unsure = true;
    const count = sure ? await this.#change(toItems(before), toItems(after)) : await this.#reconcile();
    this.#unsure = false;
    const tookMs = Math.round((performance.now() - started) * 10) / 10;
    if (count > 0) log.debug("fabric applied", { items: count, looked: !sure, tookMs });
    for (const listener of this.#listeners) listener(state);
  }

  /** Compares the whole kernel state with the whole plan. Returns how many items were wrong. */
  async #reconcile(): Promise<number> {
    const wanted = toItems(this.#wanted());
    const seen = observe(this.#cid, wanted, this.#handles, this.#memory);
    return this.#converge(withDependents(differenceOf(seen, wanted), wanted.values()));
  }

  /** Units know all that hangs on a link they add; only a link made again takes things of others with it. */
  #change(before: Items, after: Items): Promise<number> {
    const difference = differenceOf(before, after);
    const remakes = difference.replace.some(({ to }) => to.kind === "veth");
    return this.#converge(remakes ? withDependents(difference, this.#wanted()) : difference);
  }

  async #converge(difference: Difference): Promise<number> {
    if (isEmpty(difference)) return 0;
    const errors = await converge(difference, this.#handles, this.#flows);
    const made = [...difference.add, ...difference.replace.map(({ to }) => to)];
    for (const [netns, items] of Map.groupBy(made.filter(isStructure), (item) => item.netns)) {
      try {
        memorise(netns, items, this.#handles, this.#memory);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) {
      throw new AggregateError(
        errors,
        `Cannot apply ${errors.length} of ${made.length + difference.remove.length} changes: ${messageOf(errors[0])}`,
      );
    }
    return made.length + difference.remove.length;
  }

  #wanted(): Item[] {
    return [...this.#units.values()].flatMap(({ items }) => items);
  }

  #auditIn(ms: number): void {
    if (this.#auditMs === 0 || this.#closed) return;
    this.#timer = setTimeout(async () => {
      const started = performance.now();
      await this.audit();
      // A large VPC takes longer to read (0.2 s with 1,000 ENIs): never more than a hundredth of the time.
      this.#auditIn(Math.max(this.#auditMs, (performance.now() - started) * 100));
    }, ms).unref();
  }

  /** Looks for drift now and repairs it. */
  async audit(): Promise<void> {
    if (this.#closed || this.#state === undefined || this.#waiting !== undefined) return;
    await this.#enqueue(async () => {
      this.#flows.sweepAll();
      const wanted = toItems(this.#wanted());
      const seen = observe(this.#cid, wanted, this.#handles, this.#memory);
      const difference = differenceOf(seen, wanted);
      if (isEmpty(difference)) return;
      const { add, remove, replace } = difference;
      await this.#converge(withDependents(difference, wanted.values()));
      log.warn("repaired drift", {
        missing: summarise(add),
        strange: summarise(remove),
        wrong: summarise(replace.map(({ to }) => to)),
      });
      // A namespace made again has no listeners yet.
      for (const listener of this.#listeners) listener(this.#state!);
    }).catch((err: unknown) => {
      this.#unsure = true;
      log.error("cannot repair drift", { err });
    });
  }
}

/** Removes every namespace of a cluster that nobody keeps any more. */
export function removeNamespaces(clusterId: string): void {
  for (const netns of listNetns(`ul-${clusterId}-`)) deleteNetns(netns);
}

/** The state's values are never mutated, so the same object is the same content; others are compared by what they say. */
function isSame(one: Unit["basis"], other: Unit["basis"]): boolean {
  return (
    one.length === other.length &&
    one.every((value, index) => value === other[index] || JSON.stringify(value) === JSON.stringify(other[index]))
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
