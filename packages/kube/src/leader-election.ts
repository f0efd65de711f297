/** Leader election on a Lease: get, compare-and-swap, renew; as client-go does it, so both can compete for one lease. */
import { setTimeout as sleep } from "node:timers/promises";
import { isConflict, isAlreadyExists, type KubeClient } from "./client.ts";
import { wireMicroTime } from "./conditions.ts";
import type { Lease } from "./objects.ts";
import { leases } from "./resources.ts";

export type ElectionOptions = {
  namespace: string;
  name: string;
  identity: string;
  /** Runs while we lead; its signal aborts when the lease is lost. */
  lead: (signal: AbortSignal) => Promise<void>;
  onNewLeader?: ((identity: string) => void) | undefined;
  signal?: AbortSignal | undefined;
  leaseMs?: number | undefined;
  /** A leader that could not renew for this long stops leading. */
  renewMs?: number | undefined;
  retryMs?: number | undefined;
};

type Observed = { record: string; at: number };

/** Resolves when leadership was lost or the signal aborted (the lease is then released). */
export async function runAsLeader(client: KubeClient, options: ElectionOptions): Promise<void> {
  const { leaseMs = 15_000, renewMs = 10_000, retryMs = 2_000, identity } = options;
  const signal = options.signal ?? new AbortController().signal;
  const observed: Observed = { record: "", at: 0 };
  let leader = "";
  const attempt = async (): Promise<boolean> => {
    try {
      const holder = await tryAcquire(client, options, leaseMs, observed);
      if (holder !== leader) options.onNewLeader?.(holder);
      leader = holder;
      return holder === identity;
    } catch {
      return false;
    }
  };
  const pause = () => sleep(retryMs * (1 + Math.random() * 0.2), undefined, { signal }).catch(() => undefined);
  while (!signal.aborted && !(await attempt())) await pause();
  if (signal.aborted) return;

  const leading = new AbortController();
  const stop = () => leading.abort();
  signal.addEventListener("abort", stop, { once: true });
  const work = options.lead(leading.signal).finally(stop);
  let renewedAt = performance.now();
  while (!leading.signal.aborted) {
    await sleep(retryMs, undefined, { signal: leading.signal }).catch(() => undefined);
    if (leading.signal.aborted) break;
    if (await attempt()) renewedAt = performance.now();
    else if (leader !== identity || performance.now() - renewedAt > renewMs) leading.abort();
  }
  signal.removeEventListener("abort", stop);
  await work;
  if (leader === identity) await release(client, options).catch(() => undefined);
}

/** One round: returns who holds the lease now. */
async function tryAcquire(
  client: KubeClient,
  options: ElectionOptions,
  leaseMs: number,
  observed: Observed,
): Promise<string> {
  const { namespace, name, identity } = options;
  const now = wireMicroTime(new Date());
  const spec = { holderIdentity: identity, leaseDurationSeconds: Math.ceil(leaseMs / 1000), renewTime: now };
  const quick = { namespace, timeoutMs: 5_000, retryForMs: 0 };
  const current = await client.find(leases, name, quick);
  if (!current) {
    const fresh: Lease = { metadata: { name, namespace }, spec: { ...spec, acquireTime: now, leaseTransitions: 0 } };
    try {
      await client.create(leases, fresh, quick);
      return identity;
    } catch (err) {
      if (isAlreadyExists(err)) return "";
      throw err;
    }
  }
  const holder = current.spec?.holderIdentity ?? "";
  // Expiry is judged by our own clock since the record last changed: clocks of machines differ.
  const record = JSON.stringify(current.spec);
  if (record !== observed.record) Object.assign(observed, { record, at: performance.now() });
  const lastsMs = (current.spec?.leaseDurationSeconds ?? 0) * 1000;
  if (holder !== "" && holder !== identity && performance.now() - observed.at < lastsMs) return holder;
  const mine = holder === identity;
  const update: Lease = {
    ...current,
    spec: {
      ...current.spec,
      ...spec,
      acquireTime: mine ? current.spec?.acquireTime : now,
      leaseTransitions: (current.spec?.leaseTransitions ?? 0) + (mine ? 0 : 1),
    },
  };
  try {
    await client.update(leases, update, quick);
    return identity;
  } catch (err) {
    if (isConflict(err)) return holder;
    throw err;
  }
}

async function release(client: KubeClient, options: ElectionOptions): Promise<void> {
  const quick = { namespace: options.namespace, timeoutMs: 2_000, retryForMs: 0 };
  const current = await client.find(leases, options.name, quick);
  if (current?.spec?.holderIdentity !== options.identity) return;
  const spec = { ...current.spec, holderIdentity: "", leaseDurationSeconds: 1, renewTime: wireMicroTime(new Date()) };
  await client.update(leases, { ...current, spec }, quick);
}
