/**
 * Which addresses of one subnet are free, as EC2 sees it: five are reserved (base, +1 gateway, +2 DNS, +3, last),
 * single addresses and aligned /28 prefixes share the rest, and a prefix needs sixteen free neighbours, so a
 * scattered subnet runs out of prefixes long before it runs out of addresses.
 * Plain state: build it again at any time from the list of what is taken.
 */
import { AddressError } from "./errors.ts";
import { formatIpv4, parseIpv4 } from "./ipv4.ts";
import { formatCidr, parseCidr } from "./cidr.ts";

const FREE = 0;
const TAKEN = 1;
const IN_PREFIX = 2;
const RESERVED = 3;
const PREFIX_SIZE = 16;

export type TakeResult = { ok: true } | { ok: false; why: "taken" | "reserved" | "outside" | "unaligned" };

/** base, +1, +2, +3 and last: what EC2 keeps in every subnet. */
export function reservedAddresses(cidr: string): string[] {
  const { base, size } = ipv4Range(cidr);
  return reservedOffsets(size).map((offset) => formatIpv4(base + offset));
}

export class SubnetBlock {
  readonly cidr: string;
  readonly gateway: string;
  readonly #base: number;
  readonly #state: Uint8Array;
  /** Used addresses in each aligned /28. */
  readonly #used: Uint8Array;
  #freeCount: number;
  #freePrefixCount: number;
  /** No address, and no whole /28, below these is free. */
  #lowestMaybeFree = 0;
  #lowestMaybeFreePrefix = 0;

  constructor(cidr: string, taken: Iterable<string> = []) {
    const { base, size, text } = ipv4Range(cidr);
    this.cidr = text;
    this.gateway = formatIpv4(base + 1);
    this.#base = base;
    this.#state = new Uint8Array(size);
    this.#used = new Uint8Array(Math.floor(size / PREFIX_SIZE));
    this.#freeCount = size;
    this.#freePrefixCount = this.#used.length;
    for (const offset of reservedOffsets(size)) this.#mark(offset, RESERVED);
    for (const one of taken) {
      const result = one.includes("/") ? this.takeGivenPrefix(one) : this.take(one);
      if (!result.ok) throw new AddressError(`a free part of ${text} (it is ${result.why})`, one);
    }
  }

  /** EC2's AvailableIpAddressCount. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** Aligned /28 prefixes that are wholly free. */
  get freePrefixCount(): number {
    return this.#freePrefixCount;
  }

  status(address: string): "free" | "taken" | "reserved" | "outside" {
    const state = this.#state[parseIpv4(address) - this.#base];
    return state === undefined ? "outside" : state === FREE ? "free" : state === RESERVED ? "reserved" : "taken";
  }

  /** Takes one given address. */
  take(address: string): TakeResult {
    const status = this.status(address);
    if (status !== "free") return { ok: false, why: status };
    this.#mark(parseIpv4(address) - this.#base, TAKEN);
    return { ok: true };
  }

  /** Takes the lowest free address, or nothing when the subnet is full. */
  takeLowest(): string | undefined {
    if (this.#freeCount === 0) return undefined;
    const offset = this.#state.indexOf(FREE, this.#lowestMaybeFree);
    this.#lowestMaybeFree = offset + 1;
    this.#mark(offset, TAKEN);
    return formatIpv4(this.#base + offset);
  }

  /** Takes the `count` lowest free addresses, or none of them. */
  takeMany(count: number): string[] | undefined {
    if (count > this.#freeCount) return undefined;
    return Array.from({ length: count }, () => this.takeLowest() as string);
  }

  /** Takes the lowest wholly free /28, or nothing when there is none, however many addresses are free. */
  takePrefix(): string | undefined {
    if (this.#freePrefixCount === 0) return undefined;
    const index = this.#used.indexOf(0, this.#lowestMaybeFreePrefix);
    this.#lowestMaybeFreePrefix = index + 1;
    this.#markPrefix(index * PREFIX_SIZE);
    return `${formatIpv4(this.#base + index * PREFIX_SIZE)}/28`;
  }

  /** Takes one given /28. */
  takeGivenPrefix(prefix: string): TakeResult {
    const offset = this.#prefixOffset(prefix);
    if (offset === undefined) return { ok: false, why: "unaligned" };
    const states = this.#state.subarray(Math.max(offset, 0), Math.max(offset + PREFIX_SIZE, 0));
    if (offset < 0 || states.length < PREFIX_SIZE) return { ok: false, why: "outside" };
    if (states.includes(RESERVED)) return { ok: false, why: "reserved" };
    if (states.some((state) => state !== FREE)) return { ok: false, why: "taken" };
    this.#markPrefix(offset);
    return { ok: true };
  }

  /** Gives back an address or a prefix; throws when it was not taken as such. */
  release(addressOrPrefix: string): void {
    const isPrefix = addressOrPrefix.includes("/");
    const offset = isPrefix ? this.#prefixOffset(addressOrPrefix) : parseIpv4(addressOrPrefix) - this.#base;
    if (offset === undefined || this.#state[offset] !== (isPrefix ? IN_PREFIX : TAKEN)) {
      throw new AddressError(`something taken in ${this.cidr}`, addressOrPrefix);
    }
    for (let i = 0; i < (isPrefix ? PREFIX_SIZE : 1); i++) this.#unmark(offset + i);
  }

  /** undefined when the text is not an aligned /28. */
  #prefixOffset(prefix: string): number | undefined {
    const [address = "", length] = prefix.split("/");
    const value = parseIpv4(address);
    return length === "28" && value % PREFIX_SIZE === 0 ? value - this.#base : undefined;
  }

  #markPrefix(offset: number): void {
    for (let i = 0; i < PREFIX_SIZE; i++) this.#mark(offset + i, IN_PREFIX);
  }

  #mark(offset: number, state: number): void {
    this.#state[offset] = state;
    this.#freeCount--;
    const index = Math.floor(offset / PREFIX_SIZE);
    if (index >= this.#used.length) return;
    if (this.#used[index] === 0) this.#freePrefixCount--;
    this.#used[index] = (this.#used[index] as number) + 1;
  }

  #unmark(offset: number): void {
    this.#state[offset] = FREE;
    this.#freeCount++;
    this.#lowestMaybeFree = Math.min(this.#lowestMaybeFree, offset);
    const index = Math.floor(offset / PREFIX_SIZE);
    if (index >= this.#used.length) return;
    this.#used[index] = (this.#used[index] as number) - 1;
    if (this.#used[index] !== 0) return;
    this.#freePrefixCount++;
    this.#lowestMaybeFreePrefix = Math.min(this.#lowestMaybeFreePrefix, index);
  }
}

function ipv4Range(cidr: string): { base: number; size: number; text: string } {
  const block = parseCidr(cidr);
  // EC2 subnets are /16 to /28; anything wider would make a table of its own size.
  if (block.family !== 4 || block.prefixLength < 8 || block.prefixLength > 29)
    throw new AddressError("an IPv4 subnet", cidr);
  return { base: Number(block.base), size: 2 ** (32 - block.prefixLength), text: formatCidr(block) };
}

function reservedOffsets(size: number): number[] {
  return [0, 1, 2, 3, size - 1];
}
