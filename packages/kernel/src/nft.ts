/**
 * nftables by its own library (libnftables, Debian package libnftables1): text in, one atomic transaction, no process spawned.
 * For structure (tables, chains, rules); elements of big plain sets and maps go faster through nft-elements.ts.
 */
import { closeSync } from "node:fs";
import { loadNftables } from "./ffi.ts";
import { KernelError } from "./errors.ts";
import { describeNetns, openNetns, runIn, type Netns } from "./netns.ts";

/** nft refused a transaction: nothing of it is in force. `text` is what nft said, with the place in the script. */
export class NftError extends KernelError {
  override readonly name = "NftError";
  readonly text: string;

  constructor(operation: string, netns: string | undefined, text: string) {
    super({ operation, errno: errnoOf(text), netns, detail: text.trim() });
    this.text = text;
  }
}

export class Nft {
  readonly #context: bigint;
  /** Kept open: names of interfaces are looked up in the caller's namespace at every run. */
  readonly #netnsFd: number;
  readonly #netns: string | undefined;
  #closed = false;

  private constructor(context: bigint, netnsFd: number, netns: string | undefined) {
    this.#context = context;
    this.#netnsFd = netnsFd;
    this.#netns = netns;
  }

  static open(netns?: Netns): Nft {
    const fd = openNetns(netns ?? "/proc/thread-self/ns/net");
    try {
      return new Nft(
        runIn(fd, () => loadNftables().newContext()),
        fd,
        describeNetns(netns),
      );
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Runs a script as `nft -f` would: all of it or nothing. */
  run(text: string): void {
    this.#run(text, "change nftables");
  }

  /** What `nft list <what>` prints: 'ruleset', 'table ip svc', 'set ip svc node_ips', … */
  list(what = "ruleset"): string {
    return this.#run(`list ${what}`, `nft list ${what}`);
  }

  /** What `nft -j list <what>` prints, parsed. */
  json(what = "ruleset"): unknown {
    const library = loadNftables();
    library.setJson(this.#context, true);
    try {
      return JSON.parse(this.#run(`list ${what}`, `nft -j list ${what}`));
    } finally {
      library.setJson(this.#context, false);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    loadNftables().freeContext(this.#context);
    closeSync(this.#netnsFd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #run(text: string, operation: string): string {
    if (this.#closed) throw new Error(`Cannot ${operation}: this nftables handle is closed`);
    const { failed, output, error } = runIn(this.#netnsFd, () => loadNftables().run(this.#context, text));
    if (failed) throw new NftError(operation, this.#netns, error);
    return output;
  }
}

/** nft prints strerror texts; the names are what code compares. */
function errnoOf(text: string): string {
  if (text.includes("No such file or directory")) return "ENOENT";
  if (text.includes("File exists")) return "EEXIST";
  if (text.includes("Device or resource busy")) return "EBUSY";
  if (text.includes("Operation not permitted")) return "EPERM";
  if (text.includes("Operation not supported")) return "EOPNOTSUPP";
  return "EINVAL";
}
