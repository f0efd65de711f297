/**
 * Links, addresses, routes, rules and neighbours of one namespace through one rtnetlink socket: what `ip` does, without
 * spawning it. Changes are plain data (rtnetlink-types.ts), go out several in one send, and fail with an error that reads as
 * the `ip` command it stands for. Lists read the kernel, nothing is cached (interface numbers repeat and change).
 *
 * Deleting one link blocks some 16 ms in the kernel: use applyInPool, or a link group, or let the namespace die.
 */
import { closeSync } from "node:fs";
import type { Family } from "@underlay/addr/ip";
import { errnoName } from "./ffi.ts";
import { KernelError, isNotFound } from "./errors.ts";
import { NetlinkSocket, type Ack } from "./netlink-socket.ts";
import {
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NetlinkWriter,
  type NetlinkMessage,
} from "./netlink.ts";
import { openNetns, type Netns } from "./netns.ts";
import { toIpCommand } from "./rtnetlink-text.ts";
import type { Address, Change, EncodeContext, Link, Neighbour, Route, Rule } from "./rtnetlink-types.ts";
import {
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_NEWADDR,
  decodeAddress,
  encodeAddress,
  encodeGetAddresses,
} from "./rtnetlink/addresses.ts";
import { RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, decodeLinks, encodeGetLink, encodeLink } from "./rtnetlink/links.ts";
import {
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
  decodeNeighbour,
  encodeGetNeighbours,
  encodeNeighbour,
} from "./rtnetlink/neighbours.ts";
import { RT_TABLE_MAIN, familyNumber } from "./rtnetlink/numbers.ts";
import {
  RTM_DELROUTE,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  decodeRoute,
  encodeGetRoutes,
  encodeRoute,
} from "./rtnetlink/routes.ts";
import { RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, decodeRule, encodeGetRules, encodeRule } from "./rtnetlink/rules.ts";

export type * from "./rtnetlink-types.ts";

const NETLINK_ROUTE = 0;
/** Requests in one send: bounded so that their acks fit the receive buffer. */
const BATCH = 500;

/** A change the kernel refused; `operation` is the `ip` command it stands for. */
export class RtnlError extends KernelError {
  override readonly name = "RtnlError";
  readonly change: Change;

  constructor(change: Change, errno: string, netns: string | undefined, detail?: string) {
    super({ operation: toIpCommand(change), errno, netns, detail });
    this.change = change;
  }
}

export class Rtnl {
  readonly #socket: NetlinkSocket;
  readonly #writer = new NetlinkWriter();
  #poolSocket: NetlinkSocket | undefined;
  #poolQueue: Promise<unknown> = Promise.resolve();

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** One socket, which stays in that namespace and keeps it alive. */
  static open(netns?: Netns): Rtnl {
    return new Rtnl(NetlinkSocket.open(NETLINK_ROUTE, netns));
  }

  close(): void {
    this.#socket.close();
    this.#poolSocket?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Makes the changes in order. Throws the first refusal; those after it were tried as well. */
  apply(...changes: Change[]): void {
    const refused = this.tryApply(changes).find((error) => error !== undefined);
    if (refused !== undefined) throw refused;
  }

  /** Makes the changes in order and tells for each what was refused. */
  tryApply(changes: readonly Change[]): (RtnlError | undefined)[] {
    const errors: (RtnlError | undefined)[] = changes.map(() => undefined);
    const batch = new Batch(this.#socket, this.#writer);
    const flush = (): void => {
      if (batch.count === 0) return;
      try {
        this.#socket.send(batch.bytes);
        batch.report(this.#socket.readAcks(batch.count), errors);
      } finally {
        batch.reset();
      }
    };
    for (const [index, change] of changes.entries()) {
      let refused = batch.add(index, change);
      if (refused !== undefined && batch.count > 0) {
        // It may name a link that an earlier change of the same batch makes.
        flush();
        refused = batch.add(index, change);
      }
      errors[index] = refused;
      if (batch.count >= BATCH) flush();
    }
    flush();
    return errors;
  }

  /** Like apply, with the blocking part on a pool thread and a socket of its own. Links named must exist already. */
  async applyInPool(...changes: Change[]): Promise<void> {
    const turn = this.#poolQueue.then(async () => {
      this.#poolSocket ??= this.#socket.sibling();
      const batch = new Batch(this.#poolSocket, new NetlinkWriter());
      const errors: (RtnlError | undefined)[] = changes.map((change, index) => batch.add(index, change));
      try {
        if (batch.count > 0) {
          await this.#poolSocket.sendInPool(batch.bytes);
          batch.report(this.#poolSocket.readAcks(batch.count), errors);
        }
      } finally {
        batch.reset();
      }
      const refused = errors.find((error) => error !== undefined);
      if (refused !== undefined) throw refused;
    });
    this.#poolQueue = turn.catch(() => {});
    return turn;
  }

  /** Index of a link by name; about 1 µs. */
  linkIndex(name: string): number | undefined {
    return this.#socket.linkIndex(name);
  }

  /**
   * Makes a veth end usable whose peer has just come up, and tells whether it has carrier. Without this the kernel switches
   * its queue on some time later (milliseconds, up to a second under load), and drops what is sent before.
   */
  settle(name: string): boolean {
    return this.#socket.carrier(name);
  }

  listLinks(): Link[] {
    return decodeLinks(this.#dump(RTM_GETLINK, "list links", (w) => encodeGetLink(w)));
  }

  findLink(name: string): Link | undefined {
    const answer = this.#socket.get((seq) => this.#request(RTM_GETLINK, 0, seq, (w) => encodeGetLink(w, name)));
    if ("message" in answer) return decodeLinks([answer.message])[0];
    const error = new KernelError({
      operation: `ip link show ${name}`,
      errno: errnoName(answer.result),
      netns: this.#socket.netns,
    });
    if (isNotFound(error)) return undefined;
    throw error;
  }

  listAddresses(o: { family?: Family; dev?: string } = {}): Address[] {
    const nameOf = this.#linkNames();
    const family = o.family === undefined ? 0 : familyNumber(o.family);
    return this.#dump(RTM_GETADDR, "list addresses", (w) => encodeGetAddresses(w, family))
      .map((message) => decodeAddress(message, nameOf))
      .filter((address) => o.dev === undefined || address.dev === o.dev);
  }

  /** Routes of one table (main when left out; 0: of all). */
  listRoutes(o: { family?: Family; table?: number } = {}): Route[] {
    const nameOf = this.#linkNames();
    const table = o.table ?? RT_TABLE_MAIN;
    return this.#families(o.family).flatMap((family) => {
      let messages: NetlinkMessage[];
      try {
        messages = this.#dump(RTM_GETROUTE, `list routes of table ${table}`, (w) => encodeGetRoutes(w, family, table));
      } catch (error) {
        if (isNotFound(error)) return []; // the table does not exist
        throw error;
      }
      return messages.map((message) => decodeRoute(message, nameOf)).filter((route) => route !== undefined);
    });
  }

  listRules(family?: Family): Rule[] {
    return this.#families(family).flatMap((one) =>
      this.#dump(RTM_GETRULE, "list rules", (w) => encodeGetRules(w, one)).map(decodeRule),
    );
  }

  listNeighbours(o: { family?: Family; dev?: string } = {}): Neighbour[] {
    const nameOf = this.#linkNames();
    const family = o.family === undefined ? 0 : familyNumber(o.family);
    return [false, true]
      .flatMap((proxy) => this.#dump(RTM_GETNEIGH, "list neighbours", (w) => encodeGetNeighbours(w, family, proxy)))
      .map((message) => decodeNeighbour(message, nameOf))
      .filter((entry) => entry !== undefined)
      .filter((entry) => o.dev === undefined || entry.dev === o.dev);
  }

  #families(family: Family | undefined): Family[] {
    return family === undefined ? [4, 6] : [family];
  }

  #linkNames(): (index: number) => string {
    const names = new Map(this.listLinks().map((link) => [link.index, link.name]));
    return (index) => names.get(index) ?? `if${index}`;
  }

  #dump(type: number, operation: string, body: (w: NetlinkWriter) => void): NetlinkMessage[] {
    return this.#socket.dump((seq) => this.#request(type, NLM_F_DUMP, seq, body), operation);
  }

  #request(type: number, flags: number, seq: number, body: (w: NetlinkWriter) => void): Buffer {
    this.#writer.clear();
    this.#writer.message(type, NLM_F_REQUEST | flags, seq, () => body(this.#writer));
    return this.#writer.bytes;
  }
}

/** Requests on their way: their bytes, and which change each stands for. */
class Batch {
  readonly #socket: NetlinkSocket;
  readonly #writer: NetlinkWriter;
  #pending: { seq: number; index: number; change: Change }[] = [];
  #fds: number[] = [];

  constructor(socket: NetlinkSocket, writer: NetlinkWriter) {
    this.#socket = socket;
    this.#writer = writer;
    writer.clear();
  }

  get count(): number {
    return this.#pending.length;
  }

  get bytes(): Buffer {
    return this.#writer.bytes;
  }

  /** Adds a change; gives the error when it names a link or namespace that is not there. */
  add(index: number, change: Change): RtnlError | undefined {
    const before = this.#writer.length;
    const seq = this.#socket.nextSeq();
    try {
      encodeChange(this.#writer, change, seq, this.#context());
      this.#pending.push({ seq, index, change });
      return undefined;
    } catch (error) {
      this.#writer.truncate(before);
      if (error instanceof KernelError) return new RtnlError(change, error.errno, this.#socket.netns, error.operation);
      throw error;
    }
  }

  report(acks: Ack[], errors: (RtnlError | undefined)[]): void {
    const bySeq = new Map(acks.map((ack) => [ack.seq, ack]));
    for (const { seq, index, change } of this.#pending) {
      const ack = bySeq.get(seq);
      if (ack === undefined || ack.result === 0) continue;
      errors[index] = new RtnlError(change, errnoName(ack.result), this.#socket.netns, ack.detail);
    }
  }

  reset(): void {
    this.#pending = [];
    this.#writer.clear();
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }

  #context(): EncodeContext {
    return {
      linkIndex: (name) => {
        const index = this.#socket.linkIndex(name);
        if (index === undefined) throw new KernelError({ operation: `no link is named ${name}`, errno: "ENODEV" });
        return index;
      },
      netnsFd: (netns) => {
        if (typeof netns === "number") return netns;
        const fd = openNetns(netns);
        this.#fds.push(fd);
        return fd;
      },
    };
  }
}

const ADD = NLM_F_CREATE | NLM_F_EXCL;
const REPLACE = NLM_F_CREATE | NLM_F_REPLACE;

function encodeChange(w: NetlinkWriter, change: Change, seq: number, context: EncodeContext): void {
  const message = (type: number, flags: number, body: () => void): void =>
    w.message(type, NLM_F_REQUEST | NLM_F_ACK | flags, seq, body);
  switch (change.do) {
    case "add-veth":
    case "add-macvlan":
    case "add-vlan":
    case "add-dummy":
    case "add-bridge":
      return message(RTM_NEWLINK, ADD, () => encodeLink(w, change, context));
    case "set-link":
      return message(RTM_NEWLINK, 0, () => encodeLink(w, change, context));
    case "delete-link":
    case "delete-link-group":
      return message(RTM_DELLINK, 0, () => encodeLink(w, change, context));
    case "add-address":
      return message(RTM_NEWADDR, ADD, () => encodeAddress(w, change, context));
    case "delete-address":
      return message(RTM_DELADDR, 0, () => encodeAddress(w, change, context));
    case "add-route":
      return message(RTM_NEWROUTE, ADD, () => encodeRoute(w, change, context));
    case "replace-route":
      return message(RTM_NEWROUTE, REPLACE, () => encodeRoute(w, change, context));
    case "delete-route":
      return message(RTM_DELROUTE, 0, () => encodeRoute(w, change, context));
    case "add-rule":
      return message(RTM_NEWRULE, ADD, () => encodeRule(w, change));
    case "delete-rule":
      return message(RTM_DELRULE, 0, () => encodeRule(w, change));
    case "add-neighbour":
      return message(RTM_NEWNEIGH, ADD, () => encodeNeighbour(w, change, context));
    case "replace-neighbour":
      return message(RTM_NEWNEIGH, REPLACE, () => encodeNeighbour(w, change, context));
    case "delete-neighbour":
      return message(RTM_DELNEIGH, 0, () => encodeNeighbour(w, change, context));
  }
}
