/**
 * SNAT and marks in the kernel: iptables-nft for upstream's chains, libnftables for `table ip aws-cni`. Compares with what is
 * there and writes the difference; what the text should be is decided in `snat-rules.ts`.
 */
import type { Netns } from "@underlay/kernel/netns";
import { Nft } from "@underlay/kernel/nft";
import { restoreTable, saveTable } from "./iptables.ts";
import { connmarkTable, diffIptablesTable, planFirewall, type FirewallInput } from "./snat-rules.ts";

export class HostFirewall {
  readonly #netns: Netns | undefined;
  readonly #nft: Nft;
  /** The connmark table as the kernel printed it after we wrote it. */
  #connmarkWritten: { text: string; printed: string } | undefined;

  constructor(netns?: Netns) {
    this.#netns = netns;
    this.#nft = Nft.open(netns);
  }

  close(): void {
    this.#nft.close();
  }

  /** SNAT, marks and the connmark table. Returns whether anything had to change. */
  set(input: FirewallInput): boolean {
    const rules = planFirewall(input);
    let changed = false;
    for (const table of ["nat", "mangle"] as const) {
      const saved = saveTable(this.#netns, table);
      const chains = table === "nat" ? rules.natChains : new Map<string, readonly string[]>();
      const text = diffIptablesTable(table, saved, { chains, rules: rules[table] });
      if (text === "") continue;
      restoreTable(this.#netns, text);
      changed = true;
    }
    return this.setConnmarkTable(rules.nft) || changed;
  }

  /** Rewrites `table ip aws-cni` when it is not as we wrote it: foreign or reordered rules do not stay. */
  setConnmarkTable(text: string | undefined): boolean {
    const printed = this.#printConnmarkTable();
    if (text === undefined) {
      this.#connmarkWritten = undefined;
      if (printed === undefined) return false;
      this.#nft.run(`delete ${connmarkTable}`);
      return true;
    }
    if (printed !== undefined && this.#connmarkWritten?.text === text && this.#connmarkWritten.printed === printed)
      return false;
    this.#nft.run(`${connmarkTable}\ndelete ${connmarkTable}\n${text}`);
    this.#connmarkWritten = { text, printed: this.#printConnmarkTable() ?? "" };
    return true;
  }

  /** Puts back what somebody else changed in the connmark table. */
  healConnmarkTable(): boolean {
    return this.#connmarkWritten === undefined ? false : this.setConnmarkTable(this.#connmarkWritten.text);
  }

  #printConnmarkTable(): string | undefined {
    try {
      return this.#nft.list(connmarkTable);
    } catch {
      return undefined;
    }
  }
}
