/**
 * Applies a difference to the kernel, in the one order that never lets a packet through too early: namespaces, links,
 * addresses, neighbours, routes, rules, nft structure, nft elements; then what goes, in reverse.
 * Every step is idempotent; failures are collected so that one bad item does not keep the others away.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isExists, isNotFound } from "@underlay/kernel/errors";
import { deleteNetns, ensureNetns } from "@underlay/kernel/netns";
import { ifname, ip, u32, type Element, type ElementChange, type Verdict } from "@underlay/kernel/nft-elements";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import type { Change } from "@underlay/kernel/rtnetlink-types";
import { writeSysctls } from "@underlay/kernel/sysctl";
import type { Difference } from "./difference.ts";
import type { Handles } from "./handles.ts";
import type { ElementItem, Item, VethItem } from "./items.ts";
import { isStructure, removalText, structureText } from "./nft-text.ts";
import { nftTable } from "./places.ts";
import type { StaleFlows } from "./stale-flows.ts";

type Of<K extends Item["kind"]> = Extract<Item, { kind: K }>;

export async function converge(difference: Difference, handles: Handles, flows: StaleFlows): Promise<unknown[]> {
  const errors: unknown[] = [];
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      errors.push(error);
    }
  };
  const made = [...difference.add, ...difference.replace.map(({ to }) => to)];
  const gone = [...difference.remove, ...difference.replace.map(({ from }) => from)];

  flows.note(gone);
  for (const item of ofKind(made, "netns")) attempt(() => makeNetns(item));
  await removeVeths(ofKind(gone, "veth"), handles, errors);
  for (const veth of ofKind(made, "veth")) attempt(() => makeVeth(veth, handles));
  attempt(() => flows.sweepFor(made));
  for (const [netns, items] of byNetns(made)) attempt(() => collect(addRoutes(netns, items, handles), errors));
  for (const item of ofKind(made, "lease")) attempt(() => grantLease(item, errors));

  for (const [netns, items] of byNetns(made.filter(isStructure)))
    attempt(() => handles.nft(netns).run(structureText(items)));
  const elementChanges = [
    ...ofKind(gone, "element").map((item) => ({ do: "delete" as const, item })),
    ...ofKind(made, "element").map((item) => ({ do: "add" as const, item })),
  ];
  for (const [netns, changes] of Map.groupBy(elementChanges, ({ item }) => item.netns)) {
    attempt(() => handles.elements(netns).apply(mergeElements(changes)));
  }

  await carriersOf(ofKind(made, "veth"), handles).catch((error: unknown) => errors.push(error));

  const goneNetns = new Set(ofKind(difference.remove, "netns").map(({ netns }) => netns));
  const rest = difference.remove.filter(({ netns }) => !goneNetns.has(netns));
  for (const [netns, items] of byNetns(rest)) attempt(() => collect(removeRoutes(netns, items, handles), errors));
  for (const [netns, items] of byNetns(rest.filter(isStructure)))
    attempt(() => handles.nft(netns).run(removalText(items)));
  attempt(() => flows.sweepFor([]));
  for (const netns of goneNetns) {
    attempt(() => {
      handles.release(netns);
      deleteNetns(netns);
    });
  }
  return errors;
}

function makeNetns({ netns, sysctls }: Of<"netns">): void {
  ensureNetns(netns);
  writeSysctls(netns, sysctls);
  using rtnl = Rtnl.open(netns);
  // Last, since a namespace whose loopback is up counts as whole.
  rtnl.apply({ do: "set-link", name: "lo", up: true });
}

/** Deleting a link blocks 16 ms in the kernel, so it happens on a pool thread; several at once go as one group. */
async function removeVeths(veths: readonly VethItem[], handles: Handles, errors: unknown[]): Promise<void> {
  for (const [netns, items] of Map.groupBy(veths, (veth) => veth.netns)) {
    const deletes = items.map(({ name }): Change => ({ do: "delete-link", name }));
    const results = await Promise.allSettled(deletes.map((change) => handles.rtnl(netns).applyInPool(change)));
    for (const result of results) {
      if (result.status === "rejected" && !isNotFound(result.reason)) errors.push(result.reason);
    }
  }
}

function makeVeth(veth: VethItem, handles: Handles): void {
  const { netns, name, mac, mtu, alias, peer } = veth;
  const rtnl = handles.rtnl(netns);
  const add: Change = {
    do: "add-veth",
    name,
    mac,
    mtu,
    up: true,
    peer: { netns: peer.netns, name: peer.name, mac: peer.mac, mtu: peer.mtu },
  };
  try {
    rtnl.apply(add);
  } catch (error) {
    if (!isExists(error)) throw error;
    // A leftover under one of the two names: the far one may belong to a link whose near end is already gone.
    for (const [place, link] of [
      [netns, name],
      [peer.netns, peer.name],
    ] as const)
      removeLink(place, link);
    rtnl.apply(add);
  }
  if (veth.proxyArp) {
    // Without the delay of 0 the kernel holds proxied ARP answers back for up to 0.8 s.
    writeSysctls(netns, { [`net/ipv4/conf/${name}/proxy_arp`]: 1, [`net/ipv4/neigh/${name}/proxy_delay`]: 0 });
  }
  if (peer.up) {
    using there = Rtnl.open(peer.netns);
    there.apply({ do: "set-link", name: peer.name, up: true });
  }
  // Last, since a link with its alias counts as whole.
  rtnl.apply({ do: "set-link", name, alias });
}

/**
 * The end that came up first sends nothing until the kernel's link watcher has seen the other one come up: microseconds later,
 * or long after on a busy machine. Whoever awaits `apply` may send at once.
 */
async function carriersOf(veths: readonly VethItem[], handles: Handles): Promise<void> {
  const deadline = performance.now() + 1000;
  for (const { netns, name, peer } of veths) {
    while (peer.up && performance.now() < deadline && handles.rtnl(netns).findLink(name)?.running === false)
      await sleep(1);
  }
}

function removeLink(netns: string, name: string): void {
  using rtnl = Rtnl.open(netns);
  for (const error of rtnl.tryApply([{ do: "delete-link", name }]))
    if (error !== undefined && !isNotFound(error)) throw error;
}

/** Addresses, neighbours, routes (those that make others reachable first), rules. */
function addRoutes(netns: string, items: readonly Item[], handles: Handles): (Error | undefined)[] {
  const routes = ofKind(items, "route");
  const changes: Change[] = [
    ...ofKind(items, "address").map(({ address, dev }): Change => ({ do: "add-address", address, dev })),
    ...ofKind(items, "neighbour").map(({ neighbour }): Change => ({ do: "replace-neighbour", ...neighbour })),
    ...[
      ...routes.filter(({ route }) => route.via === undefined),
      ...routes.filter(({ route }) => route.via !== undefined),
    ].map(({ route }): Change => ({ do: "replace-route", ...route })),
    ...ofKind(items, "rule").map(({ rule }): Change => ({ do: "add-rule", ...rule })),
  ];
  if (changes.length === 0) return [];
  return handles
    .rtnl(netns)
    .tryApply(changes)
    .map((error) => (isExists(error) ? undefined : error));
}

function removeRoutes(netns: string, items: readonly Item[], handles: Handles): (Error | undefined)[] {
  const changes: Change[] = [
    ...ofKind(items, "rule").map(({ rule }): Change => ({ do: "delete-rule", ...rule })),
    ...ofKind(items, "route").map(({ route }): Change => ({ do: "delete-route", ...route })),
    ...ofKind(items, "neighbour").map(({ neighbour }): Change => ({ do: "delete-neighbour", ...neighbour })),
    ...ofKind(items, "address").map(({ address, dev }): Change => ({ do: "delete-address", address, dev })),
  ];
  if (changes.length === 0) return [];
  return handles
    .rtnl(netns)
    .tryApply(changes)
    .map((error) => (isNotFound(error) ? undefined : error));
}

/** What the DHCP client of a booting instance does, and its renewal afterwards. */
function grantLease({ netns, dev, address, gateway }: Of<"lease">, errors: unknown[]): void {
  using rtnl = Rtnl.open(netns);
  const results = rtnl.tryApply([
    { do: "set-link", name: dev, up: true },
    { do: "add-address", address, dev },
    { do: "replace-route", to: "default", via: gateway, dev },
  ]);
  collect(
    results.map((error) => (isExists(error) ? undefined : error)),
    errors,
  );
}

/** Deletes come first, so that an element with other data is replaced in the same transaction. */
function mergeElements(changes: readonly { do: "add" | "delete"; item: ElementItem }[]): ElementChange[] {
  return [...Map.groupBy(changes, (change) => `${change.do} ${change.item.set}`).values()].map((group) => ({
    do: group[0]!.do,
    family: "ip",
    table: nftTable,
    set: group[0]!.item.set,
    elements: group.map(({ item }) => elementOf(item)),
  }));
}

function elementOf(item: ElementItem): Element {
  const key = [item.keyType === "ifname" ? ifname(item.key) : ip(item.key)];
  switch (item.data?.type) {
    case undefined:
      return { key };
    case "address":
      return { key, data: [ip(item.data.address)] };
    case "mark":
      return { key, data: [u32(item.data.mark)] };
    case "verdict":
      return { key, data: verdictOf(item.data.verdict) };
  }
}

function verdictOf(text: string): Verdict {
  const [verdict, chain] = text.split(" ");
  if (chain === undefined) return { verdict: verdict as "accept" | "drop" | "return" };
  return { verdict: verdict as "jump" | "goto", chain };
}

function ofKind<K extends Item["kind"]>(items: readonly Item[], kind: K): Of<K>[] {
  return items.filter((item): item is Of<K> => item.kind === kind);
}

function byNetns<T extends Item>(items: readonly T[]): Map<string, T[]> {
  return Map.groupBy(items, (item) => item.netns);
}

function collect(results: readonly (Error | undefined)[], errors: unknown[]): void {
  for (const error of results) if (error !== undefined) errors.push(error);
}
