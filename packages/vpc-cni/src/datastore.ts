/**
 * The address pool of one node: which ENI has which secondary addresses and /28 prefixes, and which pod holds what of them.
 *
 * An ENI holds CIDRs: a /32 is a secondary address, a /28 a prefix of 16 addresses, all usable. A CIDR of the kind the node
 * is not set to (prefix delegation was switched) serves the pods it has and no new ones: it drains.
 * never used → assigned → cooling (released less than the cooldown ago) → free. A change that a pod depends on is in the
 * checkpoint before it is answered; when the checkpoint cannot be written the change is undone.
 * No I/O but the checkpoint, no clock: `now` is a parameter. Decisions about size live in `pool-plan.ts`.
 */
import { contains, firstAddress, nthAddress } from "@underlay/addr/cidr";
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
  /** By CIDR text: `10.42.1.7/32`, `10.42.1.16/28`. */
  readonly cidrs: Map<string, CidrRecord>;
};

export type CidrRecord = {
  readonly cidr: string;
  readonly prefix: boolean;
  /** Gives new addresses; false: kept for its pods only. */
  active: boolean;
  /** Of a /28 only those that were ever given to a pod. */
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
  /** Prefixes of all ENIs, draining ones included. */
  readonly prefixes: number;
};

type Held = { readonly eni: EniRecord; readonly cidr: CidrRecord; readonly record: AddressRecord };

export class Datastore {
  readonly #enis = new Map<string, EniRecord>();
  readonly #byKey = new Map<string, Held>();
  readonly #store: CheckpointStore;
  readonly cooldownMs: number;
  /** Prefix delegation: /28s give addresses, single ones only where `addCidr` says so. */
  readonly prefixMode: boolean;
  readonly #primaryUnused: boolean;

  constructor(
    store: CheckpointStore,
    cooldownMs: number,
    mode: { readonly prefixes?: boolean; readonly primaryUnused?: boolean } = {},
  ) {
    this.#store = store;
    this.cooldownMs = cooldownMs;
    this.prefixMode = mode.prefixes ?? false;
    this.#primaryUnused = mode.primaryUnused ?? false;
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

  addEni(eni: Omit<EniRecord, "cidrs" | "routeTable">): EniRecord {
    const known = this.#enis.get(eni.eniId);
    if (known) return known;
    const record: EniRecord = { ...eni, routeTable: routeTableOf(eni.deviceNumber), cidrs: new Map() };
    this.#enis.set(eni.eniId, record);
    return record;
  }

  /**
   * Adds a secondary address (`/32`) or a prefix (`/28`); false when it is known already. `fallback`: a single address
   * taken on purpose under prefix delegation, which serves like any other.
   */
  addCidr(eniId: string, cidr: string, options: { fallback?: boolean } = {}): boolean {
    const eni = this.#enis.get(eniId);
    if (!eni || eni.cidrs.has(cidr)) return false;
    const prefix = !cidr.endsWith("/32");
    const active = prefix === this.prefixMode || options.fallback === true;
    const addresses = new Map<string, AddressRecord>();
    if (!prefix) addresses.set(firstAddress(cidr), { address: firstAddress(cidr) });
    eni.cidrs.set(cidr, { cidr, prefix, active, addresses });
    return true;
  }

  /** Takes a CIDR out. One that pods hold goes only by `force`; their allocations are returned then. */
  removeCidr(eniId: string, cidr: string, options: { force?: boolean } = {}): readonly Allocation[] {
    const eni = this.#enis.get(eniId);
    const record = eni?.cidrs.get(cidr);
    if (!eni || !record) return [];
    const held = allocationsOf(record);
    if (held[0] && !options.force) throw inUse(cidr.replace(/\/32$/, ""), held[0]);
    eni.cidrs.delete(cidr);
    this.#forget(held);
    return held;
  }

  /** Takes an ENI out, with what it holds. Pods on it are an error unless `force`; their allocations are returned. */
  removeEni(eniId: string, options: { force?: boolean } = {}): readonly Allocation[] {
    const eni = this.#enis.get(eniId);
    if (!eni) return [];
    const held = [...eni.cidrs.values()].flatMap(allocationsOf);
    if (held[0] && !options.force) throw inUse(held[0].address, held[0]);
    this.#enis.delete(eniId);
    this.#forget(held);
    return held;
  }

  /**
   * Gives `key` an address. The same key gets the same answer. Oldest ENI first; in an ENI an address nobody has had
   * before one that was used, and of those the one released longest ago; a prefix that is in use is filled before the next
   * is begun, so that whole prefixes stay free. undefined: none is available.
   */
  assign(key: PodKey, pod: PodMetadata, now: number, wallNs: bigint): Assignment | undefined {
    const known = this.#byKey.get(keyText(key));
    if (known) return assignment(known.eni, known.record, true);
    for (const eni of this.enis()) {
      if (!this.servesPods(eni)) continue;
      const picked = this.#pickAddress(eni, now);
      if (!picked) continue;
      const { cidr, record } = picked;
      const before = record.releasedAt;
      const first = !cidr.addresses.has(record.address);
      record.allocation = { key, address: record.address, allocatedNs: wallNs, pod };
      delete record.releasedAt;
      cidr.addresses.set(record.address, record);
      this.#byKey.set(keyText(key), { eni, cidr, record });
      try {
        this.#store.write(this.allocations());
      } catch (error) {
        delete record.allocation;
        if (before !== undefined) record.releasedAt = before;
        if (first) cidr.addresses.delete(record.address);
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
      const home = this.#findHome(allocation.address);
      if (!home) {
        unknown.push(allocation);
        continue;
      }
      home.record.allocation = allocation;
      home.cidr.addresses.set(allocation.address, home.record);
      this.#byKey.set(keyText(allocation.key), home);
      restored.push(allocation);
    }
    this.#store.write(this.allocations());
    return { restored, stale, unknown };
  }

  allocations(): readonly Allocation[] {
    return this.enis().flatMap((eni) => [...eni.cidrs.values()].flatMap(allocationsOf));
  }

  /** Every allocation with the route table of its ENI, for the pod rules. */
  assignments(): readonly (Assignment & { readonly key: PodKey; readonly pod: PodMetadata })[] {
    return this.enis().flatMap((eni) =>
      [...eni.cidrs.values()].flatMap(({ addresses }) =>
        [...addresses.values()].flatMap((record) =>
          record.allocation
            ? [{ ...assignment(eni, record, true), key: record.allocation.key, pod: record.allocation.pod }]
            : [],
        ),
      ),
    );
  }

  /** May pods get new addresses of this ENI? */
  servesPods(eni: Pick<EniRecord, "excluded" | "trunk" | "primary">): boolean {
    return !eni.excluded && !eni.trunk && !(eni.primary && this.#primaryUnused);
  }

  stateOf(record: AddressRecord, now: number): "never-used" | "assigned" | "cooling" | "free" {
    if (record.allocation) return "assigned";
    if (record.releasedAt === undefined) return "never-used";
    return now - record.releasedAt < this.cooldownMs ? "cooling" : "free";
  }

  /** How many addresses of a CIDR are in which state. */
  countsOf(cidr: CidrRecord, now: number): Omit<PoolCounts, "prefixes"> {
    const total = cidr.prefix ? 16 : 1;
    let assigned = 0;
    let cooling = 0;
    for (const record of cidr.addresses.values()) {
      const state = this.stateOf(record, now);
      if (state === "assigned") assigned += 1;
      if (state === "cooling") cooling += 1;
    }
    return { total, assigned, cooling, available: total - assigned - cooling };
  }

  /** Counts over what may serve pods (excluded ENIs and draining CIDRs left out). */
  counts(now: number): PoolCounts {
    const sum = { total: 0, assigned: 0, cooling: 0, available: 0, prefixes: 0 };
    for (const eni of this.#enis.values()) {
      for (const cidr of eni.cidrs.values()) {
        if (cidr.prefix) sum.prefixes += 1;
        if (!this.servesPods(eni) || !cidr.active) continue;
        const counts = this.countsOf(cidr, now);
        sum.total += counts.total;
        sum.assigned += counts.assigned;
        sum.cooling += counts.cooling;
        sum.available += counts.available;
      }
    }
    return sum;
  }

  #findHome(address: string): Held | undefined {
    for (const eni of this.#enis.values()) {
      for (const cidr of eni.cidrs.values()) {
        const known = cidr.addresses.get(address);
        if (known) return { eni, cidr, record: known };
        if (cidr.prefix && contains(cidr.cidr, address)) return { eni, cidr, record: { address } };
      }
    }
    return undefined;
  }

  #forget(held: readonly Allocation[]): void {
    for (const allocation of held) this.#byKey.delete(keyText(allocation.key));
    if (held.length > 0) this.#store.write(this.allocations());
  }

  #pickAddress(eni: EniRecord, now: number): { cidr: CidrRecord; record: AddressRecord } | undefined {
    const cidrs = [...eni.cidrs.values()].filter((cidr) => cidr.active);
    const begun = cidrs.filter((cidr) => cidr.prefix && cidr.addresses.size > 0);
    for (const some of [begun, cidrs]) {
      const best = some
        .flatMap((cidr) => {
          const record = this.#pickInCidr(cidr, now);
          return record ? [{ cidr, record }] : [];
        })
        .sort(
          (a, b) =>
            (a.record.releasedAt ?? 0) - (b.record.releasedAt ?? 0) || compareIps(a.record.address, b.record.address),
        )[0];
      if (best) return best;
    }
    return undefined;
  }

  #pickInCidr(cidr: CidrRecord, now: number): AddressRecord | undefined {
    if (cidr.prefix && cidr.addresses.size < 16) {
      for (let n = 0; n < 16; n++) {
        const address = nthAddress(cidr.cidr, n);
        if (!cidr.addresses.has(address)) return { address };
      }
    }
    const usable = [...cidr.addresses.values()].filter((record) => {
      const state = this.stateOf(record, now);
      return state === "never-used" || state === "free";
    });
    return usable.sort((a, b) => (a.releasedAt ?? 0) - (b.releasedAt ?? 0) || compareIps(a.address, b.address))[0];
  }
}

function allocationsOf(cidr: CidrRecord): readonly Allocation[] {
  return [...cidr.addresses.values()].flatMap((record) => record.allocation ?? []);
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
