/**
 * The address pool of one node: which ENI has which secondary addresses, and which pod holds each of them.
 *
 * never used → assigned → cooling (released less than the cooldown ago) → free. A change that a pod depends on is in the
 * checkpoint before it is answered; when the checkpoint cannot be written the change is undone.
 * No I/O but the checkpoint, no clock: `now` is a parameter. Decisions about size live in `pool-plan.ts`.
 */
import { compareIps } from "@underlay/addr/ip";
import { UnderlayError } from "@underlay/log/underlay-error";
import type { Allocation, CheckpointStore, PodKey, PodMetadata } from "./checkpoint.ts";
import { routeTableOf } from "./names.ts";

export type EniRecord = {
  readonly eniId: string;
  readonly mac: string;
  readonly deviceNumber: number;
  readonly routeTable: number;
  readonly subnetId: string;
  readonly primary: boolean;
  readonly trunk: boolean;
  readonly efa: boolean;
  /** In a subnet tagged `kubernetes.io/role/cni=0`: kept for its pods, gives no new address. */
  excluded: boolean;
  /** When this process first saw it. */
  readonly createdAt: number;
  readonly addresses: Map<string, AddressRecord>;
};

export type AddressRecord = {
  readonly address: string;
  allocation?: Allocation;
  releasedAt?: number;
};

export type Assignment = {
  readonly address: string;
  readonly eniId: string;
  readonly deviceNumber: number;
  readonly routeTable: number;
  /** The key held this address before the call. */
  readonly repeated: boolean;
};

export type PoolCounts = {
  readonly total: number;
  readonly assigned: number;
  readonly cooling: number;
  /** Can be given to a pod at once. */
  readonly available: number;
};

export class Datastore {
  readonly #enis = new Map<string, EniRecord>();
  readonly #byKey = new Map<string, { eni: EniRecord; record: AddressRecord }>();
  readonly #store: CheckpointStore;
  readonly cooldownMs: number;

  constructor(store: CheckpointStore, cooldownMs: number) {
    this.#store = store;
    this.cooldownMs = cooldownMs;
  }

  /** Oldest first, the primary before all others: the order in which addresses are handed out. */
  enis(): readonly EniRecord[] {
    return [...this.#enis.values()].sort(
      (a, b) => Number(b.primary) - Number(a.primary) || a.createdAt - b.createdAt || a.deviceNumber - b.deviceNumber,
    );
  }

  findEni(eniId: string): EniRecord | undefined {
    return this.#enis.get(eniId);
  }

  addEni(eni: Omit<EniRecord, "addresses" | "routeTable">): EniRecord {
    const known = this.#enis.get(eni.eniId);
    if (known) return known;
    const record: EniRecord = { ...eni, routeTable: routeTableOf(eni.deviceNumber), addresses: new Map() };
    this.#enis.set(eni.eniId, record);
    return record;
  }

  /** Adds a secondary address; false when it is known already. */
  addAddress(eniId: string, address: string): boolean {
    const eni = this.#enis.get(eniId);
    if (!eni || eni.addresses.has(address)) return false;
    eni.addresses.set(address, { address });
    return true;
  }

  /** Takes an address out. One that a pod holds goes only by `force`; the pod's allocation is returned then. */
  removeAddress(eniId: string, address: string, options: { force?: boolean } = {}): Allocation | undefined {
    const eni = this.#enis.get(eniId);
    const record = eni?.addresses.get(address);
    if (!eni || !record) return undefined;
    const { allocation } = record;
    if (allocation && !options.force) throw inUse(address, allocation);
    eni.addresses.delete(address);
    if (!allocation) return undefined;
    this.#byKey.delete(keyText(allocation.key));
    this.#store.write(this.allocations());
    return allocation;
  }

  /** Takes an ENI out, with what it holds. Pods on it are an error unless `force`; their allocations are returned. */
  removeEni(eniId: string, options: { force?: boolean } = {}): readonly Allocation[] {
    const eni = this.#enis.get(eniId);
    if (!eni) return [];
    const held = [...eni.addresses.values()].flatMap((record) => record.allocation ?? []);
    if (held[0] && !options.force) throw inUse(held[0].address, held[0]);
    this.#enis.delete(eniId);
    for (const allocation of held) this.#byKey.delete(keyText(allocation.key));
    if (held.length > 0) this.#store.write(this.allocations());
    return held;
  }

  /**
   * Gives `key` an address. The same key gets the same answer. Oldest ENI first; in an ENI an address nobody has had
   * before one that was used, and of those the one released longest ago. undefined: none is available.
   */
  assign(key: PodKey, pod: PodMetadata, now: number, wallNs: bigint): Assignment | undefined {
    const known = this.#byKey.get(keyText(key));
    if (known) return assignment(known.eni, known.record, true);
    for (const eni of this.enis()) {
      if (eni.excluded || eni.trunk) continue;
      const record = this.#pickAddress(eni, now);
      if (!record) continue;
      const before = record.releasedAt;
      record.allocation = { key, address: record.address, allocatedNs: wallNs, pod };
      delete record.releasedAt;
      this.#byKey.set(keyText(key), { eni, record });
      try {
        this.#store.write(this.allocations());
      } catch (error) {
        delete record.allocation;
        if (before !== undefined) record.releasedAt = before;
        this.#byKey.delete(keyText(key));
        throw error;
      }
      return assignment(eni, record, false);
    }
    return undefined;
  }

  find(key: PodKey): (Assignment & { readonly pod: PodMetadata }) | undefined {
    const known = this.#byKey.get(keyText(key));
    if (!known?.record.allocation) return undefined;
    return { ...assignment(known.eni, known.record, true), pod: known.record.allocation.pod };
  }

  /** Takes the address back from `key` and starts its cooldown. undefined: the key is unknown, which is no error. */
  release(key: PodKey, now: number): Assignment | undefined {
    const known = this.#byKey.get(keyText(key));
    if (!known) return undefined;
    const { eni, record } = known;
    const allocation = record.allocation;
    delete record.allocation;
    record.releasedAt = now;
    this.#byKey.delete(keyText(key));
    try {
      this.#store.write(this.allocations());
    } catch (error) {
      if (allocation) record.allocation = allocation;
      delete record.releasedAt;
      this.#byKey.set(keyText(key), known);
      throw error;
    }
    return assignment(eni, record, true);
  }

  /**
   * Takes over the checkpoint's allocations. `isAlive` says whether the pod still has its host veth; an entry that names
   * no pod is kept. Stale entries are returned: their rules have to go.
   */
  restore(isAlive: (pod: PodMetadata) => boolean): {
    readonly restored: readonly Allocation[];
    readonly stale: readonly Allocation[];
    readonly unknown: readonly Allocation[];
  } {
    const restored: Allocation[] = [];
    const stale: Allocation[] = [];
    const unknown: Allocation[] = [];
    const saved = this.#store.read();
    if (!saved) return { restored, stale, unknown };
    const seen = new Set<string>();
    for (const allocation of saved) {
      if (allocation.pod.name && !isAlive(allocation.pod)) {
        stale.push(allocation);
        continue;
      }
      if (seen.has(allocation.address)) {
        throw new UnderlayError(
          "checkpoint-duplicate",
          `Cannot restore the address pool: the checkpoint has ${allocation.address} twice`,
          { hint: "Restart the node, or remove one of the two pods and its line" },
        );
      }
      seen.add(allocation.address);
      const eni = [...this.#enis.values()].find((candidate) => candidate.addresses.has(allocation.address));
      const record = eni?.addresses.get(allocation.address);
      if (!eni || !record) {
        unknown.push(allocation);
        continue;
      }
      record.allocation = allocation;
      this.#byKey.set(keyText(allocation.key), { eni, record });
      restored.push(allocation);
    }
    this.#store.write(this.allocations());
    return { restored, stale, unknown };
  }

  allocations(): readonly Allocation[] {
    return this.enis().flatMap((eni) => [...eni.addresses.values()].flatMap((record) => record.allocation ?? []));
  }

  /** Every allocation with the route table of its ENI, for the pod rules. */
  assignments(): readonly (Assignment & { readonly key: PodKey; readonly pod: PodMetadata })[] {
    return this.enis().flatMap((eni) =>
      [...eni.addresses.values()].flatMap((record) =>
        record.allocation
          ? [{ ...assignment(eni, record, true), key: record.allocation.key, pod: record.allocation.pod }]
          : [],
      ),
    );
  }

  stateOf(record: AddressRecord, now: number): "never-used" | "assigned" | "cooling" | "free" {
    if (record.allocation) return "assigned";
    if (record.releasedAt === undefined) return "never-used";
    return now - record.releasedAt < this.cooldownMs ? "cooling" : "free";
  }

  /** Counts over ENIs that may serve pods (excluded ones left out). */
  counts(now: number): PoolCounts {
    let total = 0;
    let assigned = 0;
    let cooling = 0;
    for (const eni of this.#enis.values()) {
      if (eni.excluded) continue;
      for (const record of eni.addresses.values()) {
        const state = this.stateOf(record, now);
        total += 1;
        if (state === "assigned") assigned += 1;
        if (state === "cooling") cooling += 1;
      }
    }
    return { total, assigned, cooling, available: total - assigned - cooling };
  }

  #pickAddress(eni: EniRecord, now: number): AddressRecord | undefined {
    const usable = [...eni.addresses.values()].filter((record) => {
      const state = this.stateOf(record, now);
      return state === "never-used" || state === "free";
    });
    return usable.sort((a, b) => (a.releasedAt ?? 0) - (b.releasedAt ?? 0) || compareIps(a.address, b.address))[0];
  }
}

export function keyText(key: PodKey): string {
  return `${key.networkName}/${key.containerId}/${key.ifName}`;
}

function assignment(eni: EniRecord, record: AddressRecord, repeated: boolean): Assignment {
  return {
    address: record.address,
    eniId: eni.eniId,
    deviceNumber: eni.deviceNumber,
    routeTable: eni.routeTable,
    repeated,
  };
}

function inUse(address: string, allocation: Allocation): UnderlayError {
  return new UnderlayError(
    "address-in-use",
    `Cannot remove ${address}: pod ${allocation.pod.namespace}/${allocation.pod.name} holds it`,
    { hint: "Delete the pod first", facts: { address } },
  );
}
