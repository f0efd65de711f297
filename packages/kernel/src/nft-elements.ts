/**
 * Elements of plain (hash) sets, maps and verdict maps straight over nfnetlink: some 10 µs a transaction whatever the set's
 * size. A key is a list of parts; several parts are a concatenation. To change what a key maps to, delete and add it in
 * one transaction. Interval sets are not for this file: their keys need an end.
 */
import { ipToBytes } from "@underlay/addr/ip";
import { parseMac } from "@underlay/addr/mac";
import { errnoName } from "./ffi.ts";
import { KernelError } from "./errors.ts";
import { NetlinkSocket } from "./netlink-socket.ts";
import { NLM_F_CREATE, NLM_F_REQUEST, NetlinkWriter } from "./netlink.ts";
import type { Netns } from "./netns.ts";

/** One part of a key or of data, with the text nft would print for it. */
export interface KeyPart {
  readonly bytes: Uint8Array;
  readonly text: string;
}

export type Verdict = { verdict: "accept" | "drop" | "return" } | { verdict: "jump" | "goto"; chain: string };

export interface Element {
  key: KeyPart[];
  /** For maps. */
  data?: KeyPart[] | Verdict;
  timeoutMs?: number;
}

export interface ElementChange {
  do: "add" | "delete";
  family: "ip" | "ip6" | "inet";
  table: string;
  set: string;
  elements: readonly Element[];
}

const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17, "ipv6-icmp": 58, sctp: 132 } as const;

export const ip = (text: string): KeyPart => ({ bytes: ipToBytes(text), text });
export const port = (number: number): KeyPart => ({
  bytes: Uint8Array.of(number >>> 8, number & 255),
  text: `${number}`,
});
export const mac = (text: string): KeyPart => ({ bytes: parseMac(text), text });
/** A number in host order: packet marks, numgen, numbers as such. */
export const u32 = (number: number): KeyPart => ({
  bytes: new Uint8Array(Uint32Array.of(number).buffer),
  text: `${number}`,
});

export function proto(protocol: keyof typeof PROTOCOLS | number): KeyPart {
  const number = typeof protocol === "number" ? protocol : PROTOCOLS[protocol];
  return { bytes: Uint8Array.of(number), text: `${protocol}` };
}

export function ifname(name: string): KeyPart {
  const bytes = new Uint8Array(16);
  new TextEncoder().encodeInto(name, bytes.subarray(0, 15));
  return { bytes, text: `"${name}"` };
}

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const NFT_MSG_NEWSETELEM = (NFNL_SUBSYS_NFTABLES << 8) | 12;
const NFT_MSG_DELSETELEM = (NFNL_SUBSYS_NFTABLES << 8) | 14;
const FAMILIES = { inet: 1, ip: 2, ip6: 10 } as const;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_TIMEOUT = 4;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;
const VERDICTS = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 } as const;
/** A list attribute holds 64 KiB at most. */
const ELEMENTS_PER_MESSAGE = 256;

export class NftElements {
  readonly #socket: NetlinkSocket;
  readonly #writer = new NetlinkWriter();

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  static open(netns?: Netns): NftElements {
    return new NftElements(NetlinkSocket.open(NETLINK_NETFILTER, netns));
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** All changes in one transaction, in order: all or nothing. Adding what is there with the same data is no error. */
  apply(changes: readonly ElementChange[]): void {
    const parts = changes.flatMap(split);
    if (parts.length === 0) return;
    const w = this.#writer;
    w.clear();
    const begin = this.#socket.nextSeq();
    batchEdge(w, NFNL_MSG_BATCH_BEGIN, begin);
    const bySeq = new Map<number, ElementChange>();
    for (const part of parts) {
      const seq = this.#socket.nextSeq();
      bySeq.set(seq, part);
      encodeChange(w, part, seq);
    }
    batchEdge(w, NFNL_MSG_BATCH_END, this.#socket.nextSeq());
    this.#socket.send(w.bytes);
    // Without NLM_F_ACK only refusals are answered, and they are there when send returns.
    const refused = this.#socket.readRefusals();
    const first = refused.find((ack) => bySeq.has(ack.seq)) ?? refused[0];
    if (first === undefined) return;
    throw new KernelError({
      operation: describe(bySeq.get(first.seq) ?? (parts[0] as ElementChange)),
      errno: errnoName(first.result),
      netns: this.#socket.netns,
      detail: first.detail,
    });
  }
}

function split(change: ElementChange): ElementChange[] {
  const parts: ElementChange[] = [];
  for (let at = 0; at < change.elements.length; at += ELEMENTS_PER_MESSAGE) {
    parts.push({ ...change, elements: change.elements.slice(at, at + ELEMENTS_PER_MESSAGE) });
  }
  return parts;
}

function batchEdge(w: NetlinkWriter, type: number, seq: number): void {
  w.message(type, NLM_F_REQUEST, seq, () =>
    w.struct(4, (header) => void header.writeUInt16BE(NFNL_SUBSYS_NFTABLES, 2)),
  );
}

function encodeChange(w: NetlinkWriter, change: ElementChange, seq: number): void {
  const type = change.do === "add" ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
  w.message(type, NLM_F_REQUEST | (change.do === "add" ? NLM_F_CREATE : 0), seq, () => {
    w.struct(4, (header) => {
      header[0] = FAMILIES[change.family];
    });
    w.text(NFTA_SET_ELEM_LIST_TABLE, change.table);
    w.text(NFTA_SET_ELEM_LIST_SET, change.set);
    w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, () => {
      for (const element of change.elements)
        w.nested(NFTA_LIST_ELEM, () => encodeElement(w, element, change.do === "add"));
    });
  });
}

function encodeElement(w: NetlinkWriter, element: Element, adding: boolean): void {
  w.nested(NFTA_SET_ELEM_KEY, () => w.attr(NFTA_DATA_VALUE, join(element.key)));
  if (!adding) return;
  const { data } = element;
  if (Array.isArray(data)) w.nested(NFTA_SET_ELEM_DATA, () => w.attr(NFTA_DATA_VALUE, join(data)));
  else if (data !== undefined) {
    w.nested(NFTA_SET_ELEM_DATA, () =>
      w.nested(NFTA_DATA_VERDICT, () => {
        w.be32(NFTA_VERDICT_CODE, VERDICTS[data.verdict]);
        if ("chain" in data) w.text(NFTA_VERDICT_CHAIN, data.chain);
      }),
    );
  }
  if (element.timeoutMs !== undefined) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(element.timeoutMs));
    w.attr(NFTA_SET_ELEM_TIMEOUT, bytes);
  }
}

/** In a concatenation every part is padded to four bytes; a part of its own is not. */
function join(parts: readonly KeyPart[]): Uint8Array {
  if (parts.length === 1) return (parts[0] as KeyPart).bytes;
  const padded = parts.map(({ bytes }) => {
    const whole = new Uint8Array((bytes.length + 3) & ~3);
    whole.set(bytes);
    return whole;
  });
  return Buffer.concat(padded);
}

const textOf = (parts: readonly KeyPart[]): string => parts.map((part) => part.text).join(" . ");

/** The nft command a change stands for, with its first element. */
function describe(change: ElementChange): string {
  const [first] = change.elements;
  const more = change.elements.length > 1 ? `, … ${change.elements.length - 1} more` : "";
  const data = first?.data;
  const value =
    data === undefined
      ? ""
      : ` : ${Array.isArray(data) ? textOf(data) : data.verdict + ("chain" in data ? ` ${data.chain}` : "")}`;
  return `nft ${change.do} element ${change.family} ${change.table} ${change.set} { ${first ? textOf(first.key) : ""}${value}${more} }`;
}
