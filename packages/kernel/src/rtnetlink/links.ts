import { formatMac, parseMac } from "@underlay/addr/mac";
import { readAttrs, readText, type NetlinkMessage, type NetlinkWriter } from "../netlink.ts";
import type { EncodeContext, Link, LinkBasics, LinkChange, MacvlanMode } from "../rtnetlink-types.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;

const IFF_UP = 1;
const IFF_RUNNING = 0x40;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_GROUP = 27;
const IFLA_NET_NS_FD = 28;
const IFLA_EXT_MASK = 29;
const IFLA_NUM_TX_QUEUES = 31;
const IFLA_NUM_RX_QUEUES = 32;
const IFLA_LINK_NETNSID = 37;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_MACVLAN_MODE = 1;
const IFLA_VLAN_ID = 1;
const RTEXT_FILTER_SKIP_STATS = 8;

const MACVLAN_MODES: Record<MacvlanMode, number> = { private: 1, vepa: 2, bridge: 4, passthru: 8 };

/** The body of RTM_NEWLINK or RTM_DELLINK. */
export function encodeLink(w: NetlinkWriter, change: LinkChange, context: EncodeContext): void {
  switch (change.do) {
    case "add-veth":
      header(w, 0, change.up);
      basics(w, change);
      singleQueue(w);
      linkInfo(w, "veth", () =>
        w.nest(VETH_INFO_PEER, () => {
          // The peer cannot be up at once: ENOTCONN.
          header(w, 0, undefined);
          basics(w, change.peer);
          singleQueue(w);
          if (change.peer.netns !== undefined) w.u32(IFLA_NET_NS_FD, context.netnsFd(change.peer.netns));
        }),
      );
      return;
    case "add-macvlan":
      header(w, 0, change.up);
      basics(w, change);
      w.u32(IFLA_LINK, context.linkIndex(change.link));
      linkInfo(w, "macvlan", () => w.u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[change.mode]));
      return;
    case "add-vlan":
      header(w, 0, change.up);
      basics(w, change);
      w.u32(IFLA_LINK, context.linkIndex(change.link));
      linkInfo(w, "vlan", () => w.u16(IFLA_VLAN_ID, change.id));
      return;
    case "add-dummy":
    case "add-bridge":
      header(w, 0, change.up);
      basics(w, change);
      linkInfo(w, change.do.slice("add-".length));
      return;
    case "set-link":
      header(w, context.linkIndex(change.name), change.up);
      if (change.mac !== undefined) w.attr(IFLA_ADDRESS, parseMac(change.mac));
      if (change.mtu !== undefined) w.u32(IFLA_MTU, change.mtu);
      if (change.rename !== undefined) w.text(IFLA_IFNAME, change.rename);
      if (change.group !== undefined) w.u32(IFLA_GROUP, change.group);
      if (change.alias !== undefined) w.text(IFLA_IFALIAS, change.alias);
      if (change.master !== undefined)
        w.u32(IFLA_MASTER, change.master === null ? 0 : context.linkIndex(change.master));
      if (change.netns !== undefined) w.u32(IFLA_NET_NS_FD, context.netnsFd(change.netns));
      return;
    case "delete-link":
      header(w, context.linkIndex(change.name), undefined);
      return;
    case "delete-link-group":
      header(w, 0, undefined);
      w.u32(IFLA_GROUP, change.group);
      return;
  }
}

/** The body of RTM_GETLINK: all links, or the one with that name. */
export function encodeGetLink(w: NetlinkWriter, name?: string): void {
  header(w, 0, undefined);
  w.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  if (name !== undefined) w.text(IFLA_IFNAME, name);
}

/** ifinfomsg: family, pad, type, index, flags, change. */
function header(w: NetlinkWriter, index: number, up: boolean | undefined): void {
  w.struct(16, (bytes) => {
    bytes.writeInt32LE(index, 4);
    bytes.writeUInt32LE(up ? IFF_UP : 0, 8);
    bytes.writeUInt32LE(up === undefined ? 0 : IFF_UP, 12);
  });
}

function basics(w: NetlinkWriter, link: LinkBasics): void {
  w.text(IFLA_IFNAME, link.name);
  if (link.mac !== undefined) w.attr(IFLA_ADDRESS, parseMac(link.mac));
  if (link.mtu !== undefined) w.u32(IFLA_MTU, link.mtu);
  if (link.group !== undefined) w.u32(IFLA_GROUP, link.group);
}

/** One queue a direction instead of one a CPU: faster to make. */
function singleQueue(w: NetlinkWriter): void {
  w.u32(IFLA_NUM_TX_QUEUES, 1);
  w.u32(IFLA_NUM_RX_QUEUES, 1);
}

function linkInfo(w: NetlinkWriter, kind: string, data?: () => void): void {
  w.nest(IFLA_LINKINFO, () => {
    w.attr(IFLA_INFO_KIND, Buffer.from(kind));
    if (data !== undefined) w.nest(IFLA_INFO_DATA, data);
  });
}

/** Links of a dump; a second pass names their masters. */
export function decodeLinks(messages: NetlinkMessage[]): Link[] {
  const found = messages.filter((message) => message.type === RTM_NEWLINK).map(decodeLink);
  const names = new Map(found.map(({ link }) => [link.index, link.name]));
  return found.map(({ link, master }) =>
    master === undefined ? link : { ...link, master: names.get(master) ?? `if${master}` },
  );
}

function decodeLink({ body }: NetlinkMessage): { link: Link; master: number | undefined } {
  const flags = body.readUInt32LE(8);
  const attrs = readAttrs(body.subarray(16));
  const info = readAttrs(attrs.get(IFLA_LINKINFO) ?? Buffer.alloc(0));
  const kind = info.get(IFLA_INFO_KIND);
  const vlanId =
    kind && readText(kind) === "vlan"
      ? readAttrs(info.get(IFLA_INFO_DATA) ?? Buffer.alloc(0)).get(IFLA_VLAN_ID)
      : undefined;
  const number = (type: number): number | undefined => attrs.get(type)?.readInt32LE(0);
  const mac = attrs.get(IFLA_ADDRESS);
  const alias = attrs.get(IFLA_IFALIAS);
  const parent = number(IFLA_LINK);
  const peerNetnsId = number(IFLA_LINK_NETNSID);
  const link: Link = {
    index: body.readInt32LE(4),
    name: readText(attrs.get(IFLA_IFNAME) ?? Buffer.alloc(0)),
    mtu: number(IFLA_MTU) ?? 0,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    group: number(IFLA_GROUP) ?? 0,
    ...(mac?.length === 6 ? { mac: formatMac(mac) } : {}),
    ...(kind === undefined ? {} : { kind: readText(kind) }),
    ...(parent === undefined ? {} : { link: parent }),
    ...(peerNetnsId === undefined ? {} : { peerNetnsId }),
    ...(alias === undefined ? {} : { alias: readText(alias) }),
    ...(vlanId === undefined ? {} : { vlanId: vlanId.readUInt16LE(0) }),
  };
  return { link, master: number(IFLA_MASTER) };
}
