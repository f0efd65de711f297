/**
 * The kernel's state in the same words as the plan: all items of the namespaces the fabric owns, and of guests only their
 * links and leases. Rules of chains cannot be compared as text (nft prints its own form), so a chain counts as right
 * when it lists as it did just after it was applied (`ChainMemory`).
 */
import { createHash } from "node:crypto";
import { listNetns, netnsExists } from "@underlay/kernel/netns";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import type { Link } from "@underlay/kernel/rtnetlink-types";
import type { Handles } from "./handles.ts";
import { keyOf, toItems, type Item, type Items, type VethItem } from "./items.ts";
import { isStructure } from "./nft-text.ts";
import { nftTable } from "./places.ts";

/** Chain and interval-set keys → how the kernel listed them after they were applied, and the item applied. */
export type ChainMemory = Map<string, { readonly listing: string; readonly item: Item }>;

/** `wanted` tells which namespaces are owned, and what the links and leases are called. */
export function observe(cid: string, wanted: Items, handles: Handles, memory: ChainMemory): Items {
  const names = listNetns(`ul-${cid}-`);
  // A kill may leave a name without a namespace behind it.
  const present = new Set(names.filter(netnsExists));
  const found: Item[] = [];
  const links = new Map<string, Link[]>();
  const linksOf = (netns: string): Link[] => {
    if (!present.has(netns)) return [];
    let list = links.get(netns);
    if (list === undefined) {
      using rtnl = Rtnl.open(netns);
      links.set(netns, (list = rtnl.listLinks()));
    }
    return list;
  };

  const withNft = new Set([...wanted.values()].filter(isStructure).map(({ netns }) => netns));
  for (const netns of names) {
    const want = wanted.get(`netns ${netns}`);
    const isWhole = present.has(netns) && linksOf(netns).some((link) => link.name === "lo" && link.up);
    if (want !== undefined && !isWhole) continue;
    found.push(want ?? { kind: "netns", netns, owned: false, sysctls: {} });
    if (want?.kind !== "netns" || !want.owned) continue;
    found.push(...observeRouting(netns, handles));
    if (withNft.has(netns)) found.push(...observeNft(netns, handles, memory, wanted));
  }
  const planned = [...wanted.values()];
  const veths = planned.filter((item) => item.kind === "veth");
  for (const veth of veths) if (isWholeVeth(veth, linksOf, present)) found.push(veth);
  // Links nobody wants any more, in the namespaces where the fabric makes them.
  const keys = new Set(veths.map(keyOf));
  for (const netns of new Set(veths.map((veth) => veth.netns))) {
    for (const link of linksOf(netns)) {
      const stray: VethItem = {
        kind: "veth",
        netns,
        name: link.name,
        mac: "",
        mtu: 0,
        alias: "",
        proxyArp: false,
        guest: false,
        peer: { netns: "", name: "", mac: "", mtu: 0, up: false },
      };
      if (link.kind === "veth" && isOurs(link.name) && !keys.has(keyOf(stray))) found.push(stray);
    }
  }
  for (const item of planned) {
    if (item.kind === "lease" && present.has(item.netns) && isHeld(item)) found.push(item);
    // Not in the kernel, so never missing there.
    if (item.kind === "untracked") found.push(item);
  }
  return toItems(found);
}

const isOurs = (name: string): boolean => /^(eni\d+|vpc-[0-9a-f]{10}|eks-[0-9a-f]{10})$/.test(name);

/** The near end is the planned one, and the far end is where the plan has it (a guest's end: its namespace is there). */
function isWholeVeth(veth: VethItem, linksOf: (netns: string) => Link[], present: ReadonlySet<string>): boolean {
  const near = linksOf(veth.netns).find((link) => link.name === veth.name);
  if (near === undefined || !near.up || near.alias !== veth.alias || near.mac !== veth.mac) return false;
  if (veth.guest) return present.has(veth.peer.netns);
  const far = linksOf(veth.peer.netns).find((link) => link.mac === veth.peer.mac && link.link === near.index);
  return far !== undefined && near.link === far.index && far.up;
}

/** A device the guest renamed, moved or took down is the guest's business; one that is up has its lease. */
function isHeld(lease: Extract<Item, { kind: "lease" }>): boolean {
  using rtnl = Rtnl.open(lease.netns);
  const link = rtnl.findLink(lease.dev);
  if (link === undefined || !link.up) return true;
  const hasAddress = rtnl.listAddresses({ family: 4, dev: lease.dev }).some(({ address }) => address === lease.address);
  const hasDefault = rtnl.listRoutes({ family: 4 }).some((route) => isDefault(route.to) && route.dev === lease.dev);
  return hasAddress && hasDefault;
}

const isDefault = (to: string): boolean => to === "default" || to === "0.0.0.0/0";

function observeRouting(netns: string, handles: Handles): Item[] {
  const rtnl = handles.rtnl(netns);
  const kernelProtocol = 2;
  const standardRules = new Set([0, 32766, 32767]);
  return [
    ...rtnl
      .listAddresses({ family: 4 })
      .filter(({ address }) => address !== "127.0.0.1/8")
      .map(({ address, dev }): Item => ({ kind: "address", netns, dev, address })),
    ...rtnl
      .listRoutes({ family: 4, table: 0 })
      .filter(({ table, protocol }) => table !== 255 && protocol !== kernelProtocol)
      .map((route): Item => ({ kind: "route", netns, route })),
    ...rtnl
      .listRules(4)
      .filter(({ priority }) => !standardRules.has(priority))
      .map((rule): Item => ({ kind: "rule", netns, rule })),
    ...rtnl
      .listNeighbours({ family: 4 })
      .filter(({ state, mac }) => /permanent/i.test(state ?? "") && mac !== undefined)
      .map(({ to, mac, dev }): Item => ({ kind: "neighbour", netns, neighbour: { to, mac: mac!, dev } })),
  ];
}

type NftObject = {
  chain?: { name: string };
  rule?: { chain: string; expr: unknown };
  set?: NftSet;
  map?: NftSet;
};
type NftSet = { name: string; type: string; map?: string; flags?: string[]; elem?: unknown[] };

function observeNft(netns: string, handles: Handles, memory: ChainMemory, wanted: Items): Item[] {
  const objects = listTable(netns, handles);
  const found: Item[] = [];
  for (const [name, listing] of chainListings(objects))
    found.push(remembered({ kind: "chain", netns, name, rules: [`listed ${listing}`] }, listing, memory));
  for (const { set, map } of objects) {
    const it = set ?? map;
    if (it === undefined) continue;
    const type = map === undefined ? "set" : "map";
    if (it.flags?.includes("interval")) {
      const listing = hash(it.elem ?? []);
      found.push(
        remembered({ kind: "set", netns, name: it.name, type, definition: `listed ${listing}` }, listing, memory),
      );
      continue;
    }
    const item: Item = { kind: "set", netns, name: it.name, type, definition: "" };
    found.push(wanted.get(keyOf(item)) ?? item);
    found.push(...(it.elem ?? []).map((element) => readElement(netns, it, element)));
  }
  return found;
}

/** How the kernel lists the chains and interval sets just applied. */
export function memorise(netns: string, items: readonly Item[], handles: Handles, memory: ChainMemory): void {
  const objects = listTable(netns, handles);
  const chains = chainListings(objects);
  for (const item of items) {
    if (item.kind === "chain") memory.set(keyOf(item), { listing: chains.get(item.name) ?? "", item });
    if (item.kind === "set" && item.elements !== undefined) {
      const set = objects.find((object) => object.set?.name === item.name)?.set;
      memory.set(keyOf(item), { listing: hash(set?.elem ?? []), item });
    }
  }
}

function remembered(item: Item, listing: string, memory: ChainMemory): Item {
  const known = memory.get(keyOf(item));
  return known?.listing === listing ? known.item : item;
}

function listTable(netns: string, handles: Handles): NftObject[] {
  const nft = handles.nft(netns);
  nft.run(`add table ip ${nftTable}`);
  return (nft.json(`table ip ${nftTable}`) as { nftables: NftObject[] }).nftables;
}

function chainListings(objects: readonly NftObject[]): Map<string, string> {
  const rules = new Map<string, unknown[]>();
  for (const { chain, rule } of objects) {
    if (chain !== undefined && !rules.has(chain.name)) rules.set(chain.name, []);
    if (rule !== undefined) rules.set(rule.chain, [...(rules.get(rule.chain) ?? []), rule.expr]);
  }
  return new Map([...rules].map(([name, list]) => [name, hash(list)]));
}

const hash = (value: unknown): string => createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);

/** `"eni1"`, or `["eni1", 196608]`, `["eni1", {"goto": {"target": "x"}}]` in a map. */
function readElement(netns: string, set: NftSet, element: unknown): Item {
  const [key, data] = set.map === undefined ? [element, undefined] : (element as [unknown, unknown]);
  const base = {
    kind: "element",
    netns,
    set: set.name,
    key: String(key),
    keyType: set.type === "ifname" ? "ifname" : "address",
  } as const;
  if (data === undefined) return base;
  if (typeof data === "number") return { ...base, data: { type: "mark", mark: data } };
  if (typeof data === "string") return { ...base, data: { type: "address", address: data } };
  const [verdict, detail] = Object.entries(data as Record<string, { target: string } | null>)[0]!;
  return { ...base, data: { type: "verdict", verdict: detail === null ? verdict : `${verdict} ${detail.target}` } };
}
