/**
 * The node's nftables table and connection table, kept equal to a plan: one transaction of differences, then the connections
 * that the change denies are cut. The first write of a process replaces the whole table in one step, so that a restart neither
 * opens nor closes anything.
 */
import { networkInterfaces } from "node:os";
import { Conntrack } from "@underlay/kernel/conntrack";
import { isNotFound } from "@underlay/kernel/errors";
import type { Netns } from "@underlay/kernel/netns";
import { Nft } from "@underlay/kernel/nft";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import { emptyPlan, type NodePlan, type PodPlan } from "./plan.ts";
import { isDenied, tightened } from "./revocation.ts";
import { difference, dropTable, wholeTable, type RulesetOptions } from "./ruleset.ts";

export type Applied = {
  /** Nothing had to be written. */
  readonly unchanged: boolean;
  readonly whole: boolean;
  readonly cutFlows: number;
  /** Why a difference was refused; the whole table was written instead. */
  readonly healed?: unknown;
};

export type PolicyTableOptions = RulesetOptions & {
  /** For tests; the process's own otherwise. */
  readonly netns?: Netns | undefined;
  /** Leave established connections alone when a policy turns against them, as upstream's agent does. */
  readonly keepEstablished?: boolean | undefined;
};

export class PolicyTable {
  readonly #o: PolicyTableOptions;
  readonly #nft: Nft;
  readonly #conntrack: Conntrack;
  /** What is in force; undefined: unknown, what an earlier process wrote. */
  #plan: NodePlan | undefined;

  constructor(options: PolicyTableOptions) {
    this.#o = options;
    this.#nft = Nft.open(options.netns);
    this.#conntrack = Conntrack.open(options.netns);
  }

  get plan(): NodePlan {
    return this.#plan ?? emptyPlan;
  }

  /**
   * Throws when the kernel refuses the whole table; what was in force stays so. `fresh`: the host veth of a pod that was just
   * wired and has no connections to cut.
   */
  apply(plan: NodePlan, fresh?: string): Applied {
    const before = this.#plan;
    let whole = before === undefined;
    let healed: unknown;
    if (before === undefined) {
      this.#nft.run(wholeTable(plan, this.#o));
    } else {
      const text = difference(before, plan, this.#o);
      try {
        if (text !== "") this.#nft.run(text);
        else if (tightened(before, plan).length === 0) {
          this.#plan = plan;
          return { unchanged: true, whole: false, cutFlows: 0 };
        }
      } catch (error) {
        healed = error;
        whole = true;
        this.#nft.run(wholeTable(plan, this.#o));
      }
    }
    this.#plan = plan;
    const cutFlows = this.#o.keepEstablished
      ? 0
      : this.#cut(tightened(before ?? emptyPlan, plan).filter(({ pod }) => pod.hostVeth !== fresh));
    return { unchanged: false, whole, cutFlows, ...(healed === undefined ? {} : { healed }) };
  }

  /** The next `apply` writes everything: somebody may have touched the table. */
  distrust(): void {
    this.#plan = undefined;
  }

  /** Removes the table: nothing is denied any more. */
  remove(): void {
    try {
      this.#nft.run(dropTable());
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    this.#plan = emptyPlan;
  }

  /** Forgets the connections of an address whose pod is gone: a successor must not inherit them. */
  forgetAddress(address: string): number {
    return this.#conntrack.deleteWhere(({ original, reply }) => original.src === address || reply.src === address);
  }

  close(): void {
    this.#nft.close();
    this.#conntrack.close();
  }

  #cut(changed: readonly PodPlan[]): number {
    const touched = new Set(changed.flatMap(({ pod }) => pod.addresses));
    if (touched.size === 0) return 0;
    const byAddress = new Map(
      [...this.plan.pods.values()].flatMap((one) => one.pod.addresses.map((address) => [address, one] as const)),
    );
    const own = this.#ownAddresses();
    return this.#conntrack.deleteWhere(
      (flow) =>
        (touched.has(flow.original.src) || touched.has(flow.reply.src)) &&
        isDenied(
          flow,
          (address) => byAddress.get(address),
          (address) => own.has(address),
        ),
    );
  }

  #ownAddresses(): Set<string> {
    if (this.#o.netns === undefined)
      return new Set(Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)));
    using rtnl = Rtnl.open(this.#o.netns);
    return new Set(rtnl.listAddresses().map(({ address }) => address.split("/")[0] as string));
  }
}
