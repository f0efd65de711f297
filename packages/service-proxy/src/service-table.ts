/**
 * The kernel's table `svc` of one family, kept equal to the plans of all services. Small changes go out as element
 * differences in one raw transaction; a new process, a changed node and an error lead to the whole table in one transaction,
 * which replaces what an earlier process left without a gap.
 */
import { Conntrack, type Flow } from "@underlay/kernel/conntrack";
import { isNotFound } from "@underlay/kernel/errors";
import type { Netns } from "@underlay/kernel/netns";
import { Nft } from "@underlay/kernel/nft";
import { NftElements, type ElementChange } from "@underlay/kernel/nft-elements";
import { Claims, type ClaimChange } from "./claims.ts";
import type { PlannedElement, ServicePlan } from "./plan.ts";
import { TABLE, renderAdditions, renderRemovals, renderTable, withNeeded, type TableFacts } from "./ruleset.ts";

const IPPROTO_UDP = 17;

export class ServiceTable {
  readonly #nft: Nft;
  readonly #elements: NftElements;
  readonly #conntrack: Conntrack;
  readonly #plans = new Map<string, ServicePlan>();
  readonly #claims = new Claims();
  readonly #sharedChains = new Set<string>();
  #facts: TableFacts;
  /** The kernel's table may differ from what we know of it. */
  #isUnsure = true;

  constructor(facts: TableFacts, netns?: Netns) {
    this.#facts = facts;
    this.#nft = Nft.open(netns);
    this.#elements = NftElements.open(netns);
    this.#conntrack = Conntrack.open(netns);
  }

  close(): void {
    this.#nft.close();
    this.#elements.close();
    this.#conntrack.close();
  }

  plan(service: string): ServicePlan | undefined {
    return this.#plans.get(service);
  }

  plans(): IterableIterator<[string, ServicePlan]> {
    return this.#plans.entries();
  }

  /** The next apply writes the whole table. */
  distrust(): void {
    this.#isUnsure = true;
  }

  setFacts(facts: TableFacts): void {
    if (JSON.stringify(facts) === JSON.stringify(this.#facts)) return;
    this.#facts = facts;
    this.#isUnsure = true;
  }

  /** Brings the kernel to these plans for the named services (undefined: the service is gone). */
  apply(changed: ReadonlyMap<string, ServicePlan | undefined>): { full: boolean; elements: number; healed?: Error } {
    const changes: ClaimChange[] = [];
    const added = {
      sharedChains: new Set<string>(),
      ownChains: [] as [string, string][],
      ownSets: [] as [string, string][],
    };
    const removed = { ownChains: [] as string[], ownSets: [] as string[] };
    const udpBefore: ServicePlan["udp"] = [];
    for (const [name, plan] of changed) {
      const before = this.#plans.get(name);
      udpBefore.push(...(before?.udp ?? []));
      changes.push(...this.#claims.replace(name, before?.elements ?? [], plan?.elements ?? []));
      for (const chain of withNeeded(plan?.sharedChains ?? []))
        if (!this.#sharedChains.has(chain)) added.sharedChains.add(chain);
      for (const [chain, body] of plan?.ownChains ?? [])
        if (before?.ownChains.get(chain) !== body) added.ownChains.push([chain, body]);
      // A set cannot change in place: another body means another one, and an earlier timeout would outlive it.
      for (const [set, body] of plan?.ownSets ?? []) {
        const old = before?.ownSets.get(set);
        if (old === undefined) added.ownSets.push([set, body]);
        else if (old !== body) this.#isUnsure = true;
      }
      for (const chain of before?.ownChains.keys() ?? [])
        if (!plan?.ownChains.has(chain)) removed.ownChains.push(chain);
      for (const set of before?.ownSets.keys() ?? []) if (!plan?.ownSets.has(set)) removed.ownSets.push(set);
      if (plan === undefined) this.#plans.delete(name);
      else this.#plans.set(name, plan);
    }
    let full = this.#isUnsure;
    let healed: Error | undefined;
    if (full) this.#writeWhole();
    else {
      try {
        this.#writeDifference(changes, { ...added, sharedChains: [...added.sharedChains] }, removed);
      } catch (error) {
        full = true;
        healed = error as Error;
        // Somebody else changed the table, or we misjudged it: the whole one heals both, and its error would say more.
        this.#writeWhole();
      }
    }
    this.#forgetUdp([...udpBefore, ...[...changed.values()].flatMap((plan) => plan?.udp ?? [])], full);
    return { full, elements: changes.length, ...(healed === undefined ? {} : { healed }) };
  }

  #writeDifference(
    changes: readonly ClaimChange[],
    added: Parameters<typeof renderAdditions>[1],
    removed: Parameters<typeof renderRemovals>[1],
  ): void {
    this.#isUnsure = true;
    const additions = renderAdditions(this.#facts, added);
    if (additions !== "") this.#nft.run(additions);
    for (const chain of added.sharedChains) this.#sharedChains.add(chain);
    this.#elements.apply([
      ...this.#elementChanges(
        "delete",
        changes.map((change) => change.before),
      ),
      ...this.#elementChanges(
        "add",
        changes.map((change) => change.after),
      ),
    ]);
    if (removed.ownChains.length + removed.ownSets.length > 0)
      this.#nft.run(renderRemovals(this.#facts.family, removed));
    this.#isUnsure = false;
  }

  #elementChanges(action: "add" | "delete", elements: readonly (PlannedElement | undefined)[]): ElementChange[] {
    const bySet = Map.groupBy(
      elements.filter((one) => one !== undefined),
      (one) => one.set,
    );
    const family = this.#facts.family === 4 ? "ip" : "ip6";
    return [...bySet].map(([set, ones]) => ({
      do: action,
      family,
      table: TABLE,
      set,
      elements: ones.map((one) => one.element),
    }));
  }

  #writeWhole(): void {
    this.#isUnsure = true;
    const plans = [...this.#plans.values()];
    const shared = new Set(plans.flatMap((plan) => plan.sharedChains));
    const content = {
      elements: [...this.#claims.elements()],
      sharedChains: shared,
      ownChains: new Map(plans.flatMap((plan) => [...plan.ownChains])),
      ownSets: new Map(plans.flatMap((plan) => [...plan.ownSets])),
    };
    const remembered = this.#rememberedClients();
    try {
      this.#nft.run(renderTable(this.#facts, { ...content, remembered }));
    } catch (error) {
      // Memories may not fit the new sets (a shorter timeout); better forget than fail.
      if (remembered.size === 0) throw error;
      this.#nft.run(renderTable(this.#facts, content));
    }
    this.#sharedChains.clear();
    for (const chain of withNeeded(shared)) this.#sharedChains.add(chain);
    this.#isUnsure = false;
  }

  /** Which client sticks to which endpoint, from the table that stands: the new one goes on with it. */
  #rememberedClients(): Map<string, string> {
    const remembered = new Map<string, string>();
    let listed: { nftables: { set?: { table: string; name: string; elem?: unknown[] } }[] };
    try {
      listed = this.#nft.json(`table ${this.#facts.family === 4 ? "ip" : "ip6"} ${TABLE}`) as typeof listed;
    } catch (error) {
      if (isNotFound(error)) return remembered;
      throw error;
    }
    for (const { set } of listed.nftables) {
      if (set === undefined || !set.name.startsWith("sticky_") || set.elem === undefined) continue;
      const clients = set.elem.flatMap((one) => {
        const { val, expires } = (one as { elem?: { val?: string; expires?: number } }).elem ?? {};
        return val === undefined || expires === undefined || expires < 1 ? [] : [`${val} expires ${expires}s`];
      });
      if (clients.length > 0) remembered.set(set.name, clients.join(", "));
    }
    return remembered;
  }

  /** A UDP flow keeps its first translation for ever: those to endpoints that are gone, or made while there was none, are deleted. */
  #forgetUdp(changed: ServicePlan["udp"], all: boolean): void {
    if (changed.length === 0) return;
    const serving = new Map<string, Set<string>>();
    const current = all ? [...this.#plans.values()].flatMap((plan) => plan.udp) : changed;
    for (const one of current) serving.set(keyOf(one), new Set());
    for (const plan of this.#plans.values()) {
      for (const one of plan.udp)
        for (const endpoint of one.endpoints) serving.get(keyOf(one))?.add(`${endpoint.address} ${endpoint.port}`);
    }
    this.#conntrack.deleteWhere((flow) => isStale(flow, serving, this.#facts.nodeAddresses), {
      family: this.#facts.family,
    });
  }
}

function keyOf(one: { address: string | undefined; port: number }): string {
  return `${one.address ?? "node"} ${one.port}`;
}

function isStale(
  flow: Flow,
  serving: ReadonlyMap<string, ReadonlySet<string>>,
  nodeAddresses: readonly string[],
): boolean {
  if (flow.proto !== IPPROTO_UDP) return false;
  const { dst, dstPort } = flow.original;
  const endpoints =
    serving.get(`${dst} ${dstPort}`) ?? (nodeAddresses.includes(dst) ? serving.get(`node ${dstPort}`) : undefined);
  return endpoints !== undefined && !endpoints.has(`${flow.reply.src} ${flow.reply.srcPort}`);
}
