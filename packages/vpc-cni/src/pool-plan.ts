/**
 * How large the address pool should be: pure arithmetic over a snapshot, its answer is data with a sentence that explains it.
 * Upstream's formulas, with one difference: an address in its cooldown does not count as available, so a burst of pod
 * restarts never waits for a cooldown to end while the pool looks full (see README, differences).
 */
import type { Datastore } from "./datastore.ts";
import { ipTargetsDefined, type Settings } from "./settings.ts";

export type PoolTargets = Pick<Settings, "warmEniTarget" | "warmIpTarget" | "minimumIpTarget" | "warmPrefixTarget">;

export type EniView = {
  readonly eniId: string;
  readonly primary: boolean;
  readonly trunk: boolean;
  readonly efa: boolean;
  readonly excluded: boolean;
  /** Pods may get new addresses of it. */
  readonly serves: boolean;
  readonly createdAt: number;
  /** Secondary addresses and prefixes on it: each takes one of the slots EC2 grants. */
  readonly slots: number;
  /** Pods on it and addresses cooling, in CIDRs of either kind. */
  readonly held: number;
  readonly resting: number;
  /** Addresses of the CIDRs that give new ones. */
  readonly total: number;
  readonly assigned: number;
  readonly cooling: number;
  readonly available: number;
  readonly prefixes: number;
  /** CIDRs with nothing assigned and nothing cooling, in the order they should be given back. */
  readonly idleSingles: readonly string[];
  readonly idlePrefixes: readonly string[];
  /** Idle CIDRs of the kind this node is not set to. */
  readonly stale: readonly string[];
};

export type PoolView = {
  /** Oldest first. */
  readonly enis: readonly EniView[];
  readonly prefixMode: boolean;
  /** Slots for pods on an ENI of this type: its IPv4 limit less the primary address. A slot is an address or a prefix. */
  readonly addressesPerEni: number;
  /** `MAX_ENI` or the type's limit, whichever is less. */
  readonly maxEni: number;
  /** Attached ENIs that are not ours: each costs a slot. */
  readonly unmanagedEnis: number;
  readonly maxPods: number;
};

export type PoolStep =
  | { readonly do: "assign-addresses"; readonly eniId: string; readonly count: number }
  | { readonly do: "assign-prefixes"; readonly eniId: string; readonly count: number }
  | { readonly do: "attach-eni"; readonly count: number; readonly prefixes?: true }
  | { readonly do: "unassign"; readonly eniId: string; readonly cidrs: readonly string[] }
  | { readonly do: "free-eni"; readonly eniId: string };

export type PoolPlan = { readonly steps: readonly PoolStep[]; readonly because: string };

/** What EC2 said a moment ago and the snapshot does not show. */
export type Shortage = {
  /** ENIs whose subnet had no address left. */
  readonly full?: ReadonlySet<string>;
  /** The subnets have no free /28: single addresses are taken in its place. */
  readonly fragmented?: boolean;
};

type Totals = {
  total: number;
  assigned: number;
  cooling: number;
  available: number;
  prefixes: number;
  idlePrefixes: number;
};

const prefixSize = 16;

/** The datastore as the planner sees it. */
export function viewPool(
  datastore: Datastore,
  now: number,
  limits: Pick<PoolView, "addressesPerEni" | "maxEni" | "unmanagedEnis" | "maxPods">,
): PoolView {
  const enis = datastore.enis().map((eni): EniView => {
    const cidrs = [...eni.cidrs.values()].map((cidr) => ({ ...cidr, ...datastore.countsOf(cidr, now) }));
    const active = cidrs.filter((cidr) => cidr.active);
    const sumOf = (list: typeof cidrs, what: "total" | "assigned" | "cooling" | "available") =>
      list.reduce((sum, cidr) => sum + cidr[what], 0);
    const idle = cidrs.filter((cidr) => cidr.assigned === 0 && cidr.cooling === 0);
    const neverUsedLast = (list: typeof cidrs) => {
      const used = list.filter((cidr) => [...cidr.addresses.values()].some((one) => one.releasedAt !== undefined));
      return [...used, ...list.filter((cidr) => !used.includes(cidr)).reverse()].map(({ cidr }) => cidr);
    };
    return {
      eniId: eni.eniId,
      primary: eni.primary,
      trunk: eni.trunk,
      efa: eni.efa,
      excluded: eni.excluded,
      serves: datastore.servesPods(eni),
      createdAt: eni.createdAt,
      slots: cidrs.length,
      held: sumOf(cidrs, "assigned"),
      resting: sumOf(cidrs, "cooling"),
      total: sumOf(active, "total"),
      assigned: sumOf(active, "assigned"),
      cooling: sumOf(active, "cooling"),
      available: sumOf(active, "available"),
      prefixes: active.filter((cidr) => cidr.prefix).length,
      idleSingles: neverUsedLast(idle.filter((cidr) => cidr.active && !cidr.prefix)),
      idlePrefixes: neverUsedLast(idle.filter((cidr) => cidr.active && cidr.prefix)),
      stale: idle.filter((cidr) => !cidr.active).map(({ cidr }) => cidr),
    };
  });
  return { enis, prefixMode: datastore.prefixMode, ...limits };
}

/** One growth action at most: more addresses on an ENI that has room, else one more ENI. */
export function planGrowth(view: PoolView, targets: PoolTargets, shortage: Shortage = {}): PoolPlan {
  const totals = sum(view);
  if (totals.total >= view.maxPods) {
    return {
      steps: [],
      because: `${describe(totals)}: the pool has reached the ${view.maxPods} pods this node may run`,
    };
  }
  const need = shortOf(totals, view, targets);
  if (!need.low) return { steps: [], because: `${describe(totals)}: ${need.because}` };
  const inPrefixes = view.prefixMode && shortage.fragmented !== true;
  const wanted = inPrefixes
    ? prefixesWanted(need.short, totals, targets)
    : singlesWanted(need.short, totals, view, targets);
  const noun = inPrefixes ? "prefixes" : "addresses";
  const because = `${describe(totals)}: ${need.because}${view.prefixMode && !inPrefixes ? ", no /28 is free in the subnet" : ""}`;

  const roomy = view.enis.find(
    (eni) => eni.serves && shortage.full?.has(eni.eniId) !== true && eni.slots < view.addressesPerEni,
  );
  if (roomy) {
    const count = Math.min(view.addressesPerEni - roomy.slots, wanted);
    return {
      steps: [{ do: inPrefixes ? "assign-prefixes" : "assign-addresses", eniId: roomy.eniId, count }],
      because: `${because}; ${roomy.eniId} has room for ${count}${inPrefixes ? " prefixes" : ""}`,
    };
  }
  if (!hasRoomForEni(view)) {
    return {
      steps: [],
      because: `${because}, but all ${view.enis.length + view.unmanagedEnis} of ${view.maxEni} network interfaces are in use`,
    };
  }
  const count = Math.min(wanted, view.addressesPerEni);
  return {
    steps: [{ do: "attach-eni", count, ...(inPrefixes ? { prefixes: true as const } : {}) }],
    because: `${because}; attach a network interface with ${count}${view.prefixMode ? ` ${noun}` : ""}`,
  };
}

/** Addresses and prefixes to give back. Whole ENIs go by `planEniRemoval`. */
export function planAddressRelease(view: PoolView, targets: PoolTargets): PoolPlan {
  const totals = sum(view);
  if (!ipTargetsDefined(targets) && !view.prefixMode)
    return { steps: [], because: "WARM_ENI_TARGET never trims single addresses" };
  const steps: PoolStep[] = [];
  let overSingles = overBy(totals, targets, view.prefixMode);
  let overPrefixes = view.prefixMode ? prefixesOver(totals, targets) : 0;
  const because = view.prefixMode
    ? `${overPrefixes} prefixes over ${targetWords(targets, true)}`
    : `${overSingles} over ${targetWords(targets, false)}`;
  if (overSingles === 0 && overPrefixes === 0)
    return { steps: [], because: `${describe(totals)}: not over the targets` };
  // Youngest first, so that the newest ENI is the one that empties.
  for (const eni of [...view.enis].reverse()) {
    if (!eni.serves) continue;
    const prefixes = eni.idlePrefixes.slice(0, overPrefixes);
    overPrefixes -= prefixes.length;
    // Single addresses of a time without a free /28 go first of all: they take a slot that a prefix could have.
    overSingles -= prefixes.length * prefixSize;
    const singles = eni.idleSingles.slice(0, Math.max(overSingles, 0));
    overSingles -= singles.length;
    const cidrs = [...prefixes, ...singles];
    if (cidrs.length > 0) steps.push({ do: "unassign", eniId: eni.eniId, cidrs });
  }
  return { steps, because: `${describe(totals)}: ${because}` };
}

/**
 * What nobody will be given again: idle CIDRs of ENIs that serve no pods (excluded subnet, primary under custom networking),
 * and of the kind that the node is no longer set to.
 */
export function planDrain(view: PoolView): readonly PoolStep[] {
  return view.enis.flatMap((eni): PoolStep[] => {
    if (eni.trunk) return [];
    const cidrs = eni.serves ? eni.stale : [...eni.stale, ...eni.idleSingles, ...eni.idlePrefixes];
    return cidrs.length > 0 ? [{ do: "unassign", eniId: eni.eniId, cidrs }] : [];
  });
}

/** At most one ENI to detach and delete; the youngest that may go. */
export function planEniRemoval(view: PoolView, targets: PoolTargets, now: number): PoolPlan {
  const totals = sum(view);
  const perEni = view.addressesPerEni * (view.prefixMode ? prefixSize : 1);
  const excess = ((view.prefixMode ? targets.warmPrefixTarget : targets.warmEniTarget) + 1) * perEni;
  const unused = view.prefixMode && view.enis.some((eni) => !eni.primary && eni.held === 0);
  if (!ipTargetsDefined(targets) && totals.available < excess && !unused && !view.enis.some((eni) => eni.excluded)) {
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
  if (eni.held > 0 || eni.resting > 0 || now - eni.createdAt < minimumEniAgeMs) return false;
  if (eni.excluded) return true;
  const totalWithout = totals.total - eni.total;
  const availableWithout = totals.available - eni.available;
  if (ipTargetsDefined(targets)) {
    const round = (target: number) => (view.prefixMode ? Math.ceil(target / prefixSize) * prefixSize : target);
    return availableWithout >= round(targets.warmIpTarget) && totalWithout >= round(targets.minimumIpTarget);
  }
  if (view.prefixMode) {
    const idleWithout = totals.idlePrefixes - eni.idlePrefixes.length;
    return idleWithout >= targets.warmPrefixTarget && availableWithout > 0;
  }
  // The others must not fall below the target, or the next pass would attach one again. Upstream does so for target 0.
  return availableWithout >= Math.max(targets.warmEniTarget * view.addressesPerEni, 1);
}

function shortOf(
  totals: Totals,
  view: PoolView,
  targets: PoolTargets,
): { low: boolean; short: number; because: string } {
  const words = targetWords(targets, view.prefixMode);
  if (ipTargetsDefined(targets)) {
    const short = Math.max(
      Math.max(targets.warmIpTarget - totals.available, 0),
      targets.minimumIpTarget - totals.total,
      0,
    );
    return { low: short > 0, short, because: short > 0 ? `${short} short of ${words}` : `${words} are met` };
  }
  const wanted = view.prefixMode ? prefixSize * targets.warmPrefixTarget : view.addressesPerEni * targets.warmEniTarget;
  const low = wanted === 0 ? totals.available === 0 : totals.available < wanted;
  return { low, short: 0, because: `${words} wants ${wanted} available, ${low ? "short" : "met"}` };
}

function targetWords(targets: PoolTargets, prefixMode: boolean): string {
  if (ipTargetsDefined(targets))
    return `WARM_IP_TARGET=${targets.warmIpTarget} MINIMUM_IP_TARGET=${targets.minimumIpTarget}`;
  return prefixMode ? `WARM_PREFIX_TARGET=${targets.warmPrefixTarget}` : `WARM_ENI_TARGET=${targets.warmEniTarget}`;
}

function prefixesWanted(short: number, totals: Totals, targets: PoolTargets): number {
  if (ipTargetsDefined(targets)) return Math.max(1, Math.ceil(short / prefixSize));
  return Math.max(1, targets.warmPrefixTarget - totals.idlePrefixes);
}

function singlesWanted(short: number, totals: Totals, view: PoolView, targets: PoolTargets): number {
  if (short > 0) return short;
  return view.prefixMode ? Math.max(prefixSize * targets.warmPrefixTarget - totals.available, 1) : view.addressesPerEni;
}

/** Single addresses over the targets. */
function overBy(totals: Totals, targets: PoolTargets, prefixMode: boolean): number {
  if (!ipTargetsDefined(targets))
    return prefixMode ? Math.max(totals.available - Math.max(prefixSize * targets.warmPrefixTarget, 1), 0) : 0;
  return Math.max(
    Math.min(Math.max(totals.available - targets.warmIpTarget, 0), totals.total - targets.minimumIpTarget),
    0,
  );
}

/** Idle prefixes over the targets. */
function prefixesOver(totals: Totals, targets: PoolTargets): number {
  if (!ipTargetsDefined(targets)) {
    // With target 0 the last idle prefix stays while nothing else is available: it would be asked for again at once.
    const keep = targets.warmPrefixTarget === 0 && totals.available <= prefixSize ? 1 : targets.warmPrefixTarget;
    return Math.max(totals.idlePrefixes - keep, 0);
  }
  const needed = Math.ceil((totals.assigned + totals.cooling + targets.warmIpTarget) / prefixSize);
  const floor = Math.ceil(targets.minimumIpTarget / prefixSize);
  return Math.max(Math.min(totals.idlePrefixes, totals.prefixes - needed, totals.prefixes - floor), 0);
}

/** Excluded ENIs give no addresses but cost their slot like any other. */
function hasRoomForEni(view: PoolView): boolean {
  return view.enis.length < view.maxEni - view.unmanagedEnis;
}

function sum(view: PoolView): Totals {
  const totals = { total: 0, assigned: 0, cooling: 0, available: 0, prefixes: 0, idlePrefixes: 0 };
  for (const eni of view.enis) {
    if (!eni.serves) continue;
    totals.total += eni.total;
    totals.assigned += eni.assigned;
    totals.cooling += eni.cooling;
    totals.available += eni.available;
    totals.prefixes += eni.prefixes;
    totals.idlePrefixes += eni.idlePrefixes.length;
  }
  return totals;
}

function describe(totals: Totals): string {
  const prefixes = totals.prefixes === 0 ? "" : ` in ${totals.prefixes} prefixes`;
  return `${totals.total} addresses${prefixes}, ${totals.assigned} assigned, ${totals.cooling} cooling, ${totals.available} available`;
}
