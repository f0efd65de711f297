/**
 * Which parts of one subnet's IPv6 /64 are taken. The space is too big for a table and too big to fill, so EC2
 * (and this) picks at random and keeps a list: single addresses and /80 prefixes, none overlapping another.
 */
import { AddressError } from "./errors.ts";
import type { TakeResult } from "./block.ts";
import { formatIpv6, parseIpv6 } from "./ipv6.ts";
import { formatCidr, parseCidr, sizeOf } from "./cidr.ts";

/** An /80 leaves 48 host bits. */
const PREFIX_BITS = 48n;

export class SubnetBlock6 {
  readonly cidr: string;
  readonly #base: bigint;
  readonly #size: bigint;
  readonly #addresses = new Set<bigint>();
  readonly #prefixes = new Set<bigint>();
  /** How many single addresses lie in an /80. */
  readonly #inPrefix = new Map<bigint, number>();

  constructor(cidr: string, taken: Iterable<string> = []) {
    const block = parseCidr(cidr);
    if (block.family !== 6 || block.prefixLength > 80) throw new AddressError("an IPv6 subnet", cidr);
    this.cidr = formatCidr(block);
    this.#base = block.base;
    this.#size = sizeOf(block);
    for (const one of taken) {
      const result = one.includes("/") ? this.takeGivenPrefix(one) : this.take(one);
      if (!result.ok) throw new AddressError(`a free part of ${this.cidr} (it is ${result.why})`, one);
    }
  }

  take(address: string): TakeResult {
    const value = parseIpv6(address);
    const why = this.#refusal(value);
    if (why !== undefined) return { ok: false, why };
    this.#addresses.add(value);
    const prefix = value >> PREFIX_BITS;
    this.#inPrefix.set(prefix, (this.#inPrefix.get(prefix) ?? 0) + 1);
    return { ok: true };
  }

  /** Takes a random free address; `random` is called like Math.random. */
  takeAny(random: () => number): string {
    for (;;) {
      const address = formatIpv6(this.#base + randomBelow(this.#size, random));
      if (this.take(address).ok) return address;
    }
  }

  takeGivenPrefix(prefix: string): TakeResult {
    const { base, prefixLength, family } = parseCidr(prefix);
    if (family !== 6 || prefixLength !== 80) return { ok: false, why: "unaligned" };
    if (base < this.#base || base >= this.#base + this.#size) return { ok: false, why: "outside" };
    const key = base >> PREFIX_BITS;
    if (key === this.#base >> PREFIX_BITS || key === (this.#base + this.#size - 1n) >> PREFIX_BITS)
      return { ok: false, why: "reserved" };
    if (this.#prefixes.has(key) || this.#inPrefix.has(key)) return { ok: false, why: "taken" };
    this.#prefixes.add(key);
    return { ok: true };
  }

  /** Takes a random free /80. */
  takePrefix(random: () => number): string {
    for (;;) {
      const index = randomBelow(this.#size >> PREFIX_BITS, random);
      const prefix = `${formatIpv6(this.#base + (index << PREFIX_BITS))}/80`;
      if (this.takeGivenPrefix(prefix).ok) return prefix;
    }
  }

  /** Gives back an address or a prefix; throws when it was not taken as such. */
  release(addressOrPrefix: string): void {
    if (addressOrPrefix.includes("/")) {
      if (this.#prefixes.delete(parseCidr(addressOrPrefix).base >> PREFIX_BITS)) return;
    } else {
      const value = parseIpv6(addressOrPrefix);
      if (this.#addresses.delete(value)) {
        const prefix = value >> PREFIX_BITS;
        const left = (this.#inPrefix.get(prefix) as number) - 1;
        if (left === 0) this.#inPrefix.delete(prefix);
        else this.#inPrefix.set(prefix, left);
        return;
      }
    }
    throw new AddressError(`something taken in ${this.cidr}`, addressOrPrefix);
  }

  #refusal(value: bigint): "taken" | "reserved" | "outside" | undefined {
    const offset = value - this.#base;
    if (offset < 0n || offset >= this.#size) return "outside";
    if (offset < 4n || offset === this.#size - 1n) return "reserved";
    if (this.#addresses.has(value) || this.#prefixes.has(value >> PREFIX_BITS)) return "taken";
    return undefined;
  }
}

function randomBelow(limit: bigint, random: () => number): bigint {
  const high = BigInt(Math.floor(random() * 2 ** 32));
  const low = BigInt(Math.floor(random() * 2 ** 32));
  return ((high << 32n) | low) % limit;
}
