/**
 * Tracked flows that must end: of addresses that left their ENI, and those EC2 would not have tracked once the rules that let
 * them through are gone (what other rules allow is picked up again with its next packet). They must not count as established for the address's next owner, nor go on
 * under a public address that was taken away. Walking the machine's flow table costs 10–20 ms whatever is in it, so private
 * addresses (which get no packets without their route) are swept only when somebody reuses one, or with the next audit.
 */
import { contains } from "@underlay/addr/cidr";
import { Conntrack } from "@underlay/kernel/conntrack";
import { netnsExists } from "@underlay/kernel/netns";
import type { Item } from "./items.ts";

type Stale = { readonly addresses: Set<string>; readonly prefixes: Set<string>; urgent: boolean };

export class StaleFlows {
  readonly #stale = new Map<string, Stale>();

  /** Items that are about to leave, or left. */
  note(gone: readonly Item[]): void {
    for (const item of gone) {
      if (item.kind === "element" && item.data?.type === "address") {
        const stale = this.#at(item.netns);
        stale.addresses.add(item.data.address).add(item.key);
        stale.urgent = true;
      }
      if (item.kind === "untracked") {
        const stale = this.#at(item.netns);
        for (const block of item.addresses) (block.endsWith("/28") ? stale.prefixes : stale.addresses).add(block);
        stale.urgent = true;
      }
      const owned = ownedBlock(item);
      if (owned?.endsWith("/28")) this.#at(item.netns).prefixes.add(owned);
      else if (owned !== undefined) this.#at(item.netns).addresses.add(owned);
    }
  }

  /** Sweeps the namespaces where a stale address is about to be used again, or where flows must end now. */
  sweepFor(made: readonly Item[]): void {
    for (const item of made) {
      const stale = this.#stale.get(item.netns);
      const owned = stale === undefined ? undefined : ownedBlock(item);
      if (stale !== undefined && owned !== undefined && concerns(stale, owned)) stale.urgent = true;
    }
    for (const [netns, stale] of this.#stale) if (stale.urgent) this.#sweep(netns, stale);
  }

  sweepAll(): void {
    for (const [netns, stale] of this.#stale) this.#sweep(netns, stale);
  }

  #sweep(netns: string, stale: Stale): void {
    this.#stale.delete(netns);
    if (!netnsExists(netns)) return;
    const conntrack = Conntrack.open(netns);
    try {
      conntrack.deleteWhere(
        ({ original, reply }) =>
          [original.src, original.dst, reply.src, reply.dst].some((address) => concerns(stale, address)),
        { family: 4 },
      );
    } finally {
      conntrack.close();
    }
  }

  #at(netns: string): Stale {
    let stale = this.#stale.get(netns);
    if (stale === undefined)
      this.#stale.set(netns, (stale = { addresses: new Set(), prefixes: new Set(), urgent: false }));
    return stale;
  }
}

/** The address or /28 an ENI owns by this route of its router's main table. */
function ownedBlock(item: Item): string | undefined {
  if (item.kind !== "route" || item.route.table !== undefined || !item.route.dev?.startsWith("eni")) return undefined;
  return item.route.to.replace(/\/32$/, "");
}

function concerns(stale: Stale, block: string): boolean {
  const address = block.replace(/\/\d+$/, "");
  if (stale.addresses.has(address) || stale.prefixes.has(block)) return true;
  if ([...stale.prefixes].some((prefix) => contains(prefix, address))) return true;
  return block.endsWith("/28") && [...stale.addresses].some((one) => contains(block, one));
}
