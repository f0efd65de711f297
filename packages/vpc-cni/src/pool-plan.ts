/**
 * How large the address pool should be: pure arithmetic over a snapshot, its answer is data with a sentence that explains it.
 * Upstream's formulas, with one difference: an address in its cooldown does not count as available, so a burst of pod
 * restarts never waits for a cooldown to end while the pool looks full (see README, differences).
 */
import type { Datastore } from "./datastore.ts";
import { ipTargetsDefined, type Settings } from "./settings.ts";

export type PoolTargets = Pick<Settings, "warmEniTarget" | "warmIpTarget" | "minimumIpTarget">;

export type EniView = {
  readonly eniId: string;
  readonly primary: boolean;
  readonly trunk: boolean;
  readonly efa: boolean;
  readonly excluded: boolean;
  readonly createdAt: number;
  readonly assigned: number;
  readonly cooling: number;
  /** Addresses nobody holds and none cooling, in the order they should be given back. */
  readonly free: readonly string[];
  readonly total: number;
};

export type PoolView = {
  /** Oldest first. */
  readonly enis: readonly EniView[];
  /** Addresses for pods an ENI of this type can hold: its IPv4 limit less the primary address. */
  readonly addressesPerEni: number;
  /** `MAX_ENI` or the type's limit, whichever is less. */
  readonly maxEni: number;
  /** Attached ENIs that are not ours: each costs a slot. */
  readonly unmanagedEnis: number;
  readonly maxPods: number;
};

export type PoolStep =
  | { readonly do: "assign-addresses"; readonly eniId: string; readonly count: number }
  | { readonly do: "attach-eni"; readonly count: number }
  | { readonly do: "unassign-addresses"; readonly eniId: string; readonly addresses: readonly string[] }
  | { readonly do: "free-eni"; readonly eniId: string };

export type PoolPlan = { readonly steps: readonly PoolStep[]; readonly because: string };

type Totals = { total: number; assigned: number; cooling: number; available: number };

/** The datastore as the planner sees it. */
export function viewPool(
  datastore: Datastore,
  now: number,
  limits: Pick<PoolView, "addressesPerEni" | "maxEni" | "unmanagedEnis" | "maxPods">,
): PoolView {
  const enis = datastore.enis().map((eni): EniView => {
    const records = [...eni.addresses.values()];
    const inState = (state: string) => records.filter((record) => datastore.stateOf(record, now) === state);
    return {
      eniId: eni.eniId,
      primary: eni.primary,
      trunk: eni.trunk,
      efa: eni.efa,
      excluded: eni.excluded,
      createdAt: eni.createdAt,
      assigned: inState("assigned").length,
      cooling: inState("cooling").length,
      free: [...inState("free"), ...inState("never-used").reverse()].map((record) => record.address),
      total: records.length,
    };
  });
  return { enis, ...limits };
}

/**
 * One growth action at most: more addresses on an ENI that has room, else one more ENI.
 * `full`: ENIs whose subnet had no address left a moment ago.
 */
export function planGrowth(view: PoolView, targets: PoolTargets, full: ReadonlySet<string> = new Set()): PoolPlan {
  const totals = sum(view);
  if (totals.total >= view.maxPods) {
    return {
      steps: [],
      because: `${describe(totals)}: the pool has reached the ${view.maxPods} pods this node may run`,
    };
  }
  const need = shortOf(totals, view, targets);
  if (!need.low) return { steps: [], because: `${describe(totals)}: ${need.because}` };
  const wanted = need.short > 0 ? need.short : view.addressesPerEni;

  const roomy = view.enis.find(
    (eni) => !eni.trunk && !eni.excluded && !full.has(eni.eniId) && eni.total < view.addressesPerEni,
  );
  if (roomy) {
    const count = Math.min(view.addressesPerEni - roomy.total, wanted);
    return {
      steps: [{ do: "assign-addresses", eniId: roomy.eniId, count }],
      because: `${describe(totals)}: ${need.because}; ${roomy.eniId} has room for ${count}`,
    };
  }
  if (!hasRoomForEni(view)) {
    return {
      steps: [],
      because: `${describe(totals)}: ${need.because}, but all ${view.enis.length + view.unmanagedEnis} of ${view.maxEni} network interfaces are in use`,
    };
  }
  const count = Math.min(wanted, view.addressesPerEni);
  return {
    steps: [{ do: "attach-eni", count }],
    because: `${describe(totals)}: ${need.because}; attach a network interface with ${count}`,
  };
}

/** Addresses to give back. Only IP targets trim single addresses; whole ENIs go by `planEniRemoval`. */
export function planAddressRelease(view: PoolView, targets: PoolTargets): PoolPlan {
  const totals = sum(view);
  if (!ipTargetsDefined(targets)) return { steps: [], because: "WARM_ENI_TARGET never trims single addresses" };
  let over = overBy(totals, targets);
  if (over === 0) return { steps: [], because: `${describe(totals)}: not over the IP targets` };
  const steps: PoolStep[] = [];
  // Youngest first, so that the newest ENI is the one that empties.
  for (const eni of [...view.enis].reverse()) {
    if (over === 0) break;
    if (eni.excluded || eni.free.length === 0) continue;
    const addresses = eni.free.slice(0, over);
    over -= addresses.length;
    steps.push({ do: "unassign-addresses", eniId: eni.eniId, addresses });
  }
  return {
    steps,
    because: `${describe(totals)}: ${overBy(totals, targets)} over WARM_IP_TARGET=${targets.warmIpTarget} MINIMUM_IP_TARGET=${targets.minimumIpTarget}`,
  };
}

/** What excluded ENIs can give back: every address whose pod is gone and whose cooldown is over. */
export function planDrain(view: PoolView): readonly PoolStep[] {
  return view.enis
    .filter((eni) => eni.excluded && eni.free.length > 0)
    .map((eni) => ({ do: "unassign-addresses", eniId: eni.eniId, addresses: eni.free }));
}

/** At most one ENI to detach and delete; the youngest that may go. */
export function planEniRemoval(view: PoolView, targets: PoolTargets, now: number): PoolPlan {
  const totals = sum(view);
  const excess = targets.warmEniTarget * view.addressesPerEni + view.addressesPerEni;
  if (!ipTargetsDefined(targets) && totals.available < excess) {
    return { steps: [], because: `${describe(totals)}: fewer than ${excess} available, no network interface to spare` };
  }
  const candidate = [...view.enis].reverse().find((eni) => mayGo(eni, view, targets, totals, now));
  if (!candidate)
    return { steps: [], because: `${describe(totals)}: no network interface is idle, old enough and unneeded` };
  return {
    steps: [{ do: "free-eni", eniId: candidate.eniId }],
    because: `${describe(totals)}: ${candidate.eniId} is idle and its ${candidate.total} addresses are not needed`,
  };
}

const minimumEniAgeMs = 60_000;

function mayGo(eni: EniView, view: PoolView, targets: PoolTargets, totals: Totals, now: number): boolean {
  if (eni.primary || eni.trunk || eni.efa) return false;
  if (eni.assigned > 0 || eni.cooling > 0 || now - eni.createdAt < minimumEniAgeMs) return false;
  if (eni.excluded || !ipTargetsDefined(targets)) return true;
  const totalWithout = totals.total - eni.total;
  const availableWithout = totals.available - eni.free.length;
  return availableWithout >= targets.warmIpTarget && totalWithout >= targets.minimumIpTarget;
}

function shortOf(
  totals: Totals,
  view: PoolView,
  targets: PoolTargets,
): { low: boolean; short: number; because: string } {
  if (ipTargetsDefined(targets)) {
    const short = Math.max(
      Math.max(targets.warmIpTarget - totals.available, 0),
      targets.minimumIpTarget - totals.total,
      0,
    );
    const words = `WARM_IP_TARGET=${targets.warmIpTarget} MINIMUM_IP_TARGET=${targets.minimumIpTarget}`;
    return { low: short > 0, short, because: short > 0 ? `${short} short of ${words}` : `${words} are met` };
  }
  const wanted = view.addressesPerEni * targets.warmEniTarget;
  const low = targets.warmEniTarget === 0 ? totals.available === 0 : totals.available < wanted;
  const words = `WARM_ENI_TARGET=${targets.warmEniTarget} wants ${wanted} available`;
  return { low, short: 0, because: low ? `${words}, short` : `${words}, met` };
}

function overBy(totals: Totals, targets: PoolTargets): number {
  return Math.max(
    Math.min(Math.max(totals.available - targets.warmIpTarget, 0), totals.total - targets.minimumIpTarget),
    0,
  );
}

/** Excluded ENIs give no addresses but cost their slot like any other. */
function hasRoomForEni(view: PoolView): boolean {
  return view.enis.length < view.maxEni - view.unmanagedEnis;
}

function sum(view: PoolView): Totals {
  const totals = { total: 0, assigned: 0, cooling: 0, available: 0 };
  for (const eni of view.enis) {
    if (eni.excluded) continue;
    totals.total += eni.total;
    totals.assigned += eni.assigned;
    totals.cooling += eni.cooling;
    totals.available += eni.free.length;
  }
  return totals;
}

function describe(totals: Totals): string {
  return `${totals.total} addresses, ${totals.assigned} assigned, ${totals.cooling} cooling, ${totals.available} available`;
}
