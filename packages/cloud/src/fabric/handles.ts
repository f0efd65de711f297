/**
 * One netlink socket, libnftables context and element socket per namespace, opened when first used.
 * A namespace that was deleted and made again behind our back gets new ones: an open socket stays in the namespace
 * it was made in, for ever.
 */
import { statSync } from "node:fs";
import { netnsPath } from "@underlay/kernel/netns";
import { Nft } from "@underlay/kernel/nft";
import { NftElements } from "@underlay/kernel/nft-elements";
import { Rtnl } from "@underlay/kernel/rtnetlink";

type Open = { readonly inode: number; rtnl?: Rtnl; nft?: Nft; elements?: NftElements };

export class Handles {
  readonly #open = new Map<string, Open>();

  rtnl(netns: string): Rtnl {
    return (this.#at(netns).rtnl ??= Rtnl.open(netns));
  }

  nft(netns: string): Nft {
    return (this.#at(netns).nft ??= Nft.open(netns));
  }

  elements(netns: string): NftElements {
    return (this.#at(netns).elements ??= NftElements.open(netns));
  }

  /** Must precede deleteNetns: an open socket keeps the namespace alive. */
  release(netns: string): void {
    const open = this.#open.get(netns);
    if (open === undefined) return;
    this.#open.delete(netns);
    open.rtnl?.close();
    open.nft?.close();
    open.elements?.close();
  }

  close(): void {
    for (const netns of this.#open.keys()) this.release(netns);
  }

  #at(netns: string): Open {
    const inode = statSync(netnsPath(netns)).ino;
    const open = this.#open.get(netns);
    if (open?.inode === inode) return open;
    this.release(netns);
    const fresh = { inode };
    this.#open.set(netns, fresh);
    return fresh;
  }
}
