/** What rtnetlink is asked to change, and what it reports, as plain data. */
import type { Family } from "@underlay/addr/ip";
import type { Netns } from "./netns.ts";

export interface LinkBasics {
  name: string;
  mac?: string | undefined;
  mtu?: number | undefined;
  up?: boolean | undefined;
  group?: number | undefined;
}

export interface VethPeer {
  name: string;
  mac?: string | undefined;
  mtu?: number | undefined;
  netns?: Netns | undefined;
}

export type MacvlanMode = "private" | "bridge" | "vepa" | "passthru";

export type LinkChange =
  | ({ do: "add-veth"; peer: VethPeer } & LinkBasics)
  | ({ do: "add-macvlan"; link: string; mode: MacvlanMode } & LinkBasics)
  | ({ do: "add-vlan"; link: string; id: number } & LinkBasics)
  | ({ do: "add-dummy" | "add-bridge" } & LinkBasics)
  | {
      do: "set-link";
      name: string;
      up?: boolean;
      mtu?: number;
      mac?: string;
      rename?: string;
      /** null: take it out of its bridge. */
      master?: string | null;
      netns?: Netns;
      group?: number;
      /** Only here: the kernel ignores it in a link's creation. */
      alias?: string;
    }
  | { do: "delete-link"; name: string }
  | { do: "delete-link-group"; group: number };

export type Scope = "global" | "link" | "host" | "nowhere";

export interface AddressChange {
  do: "add-address" | "delete-address";
  /** With its length: '10.0.1.10/32'. */
  address: string;
  dev: string;
  /** Skip duplicate address detection (IPv6); default true. */
  nodad?: boolean | undefined;
  noPrefixRoute?: boolean | undefined;
  scope?: Scope | undefined;
}

export type RouteType = "unicast" | "blackhole" | "unreachable" | "prohibit" | "local";

export interface Route {
  /** 'default' (IPv4, or of the family of `via`), '::/0', '10.0.0.0/16', '10.0.1.5'. Lists give it with its length. */
  to: string;
  dev?: string | undefined;
  via?: string | undefined;
  src?: string | undefined;
  /** 254 (main) when left out. */
  table?: number | undefined;
  /** As `ip` picks it when left out: link for a route without gateway, else global. */
  scope?: Scope | undefined;
  metric?: number | undefined;
  mtu?: number | undefined;
  onlink?: boolean | undefined;
  type?: RouteType | undefined;
  /** rtm_protocol, 3 (boot) when left out. */
  protocol?: number | undefined;
  nexthops?: { via?: string | undefined; dev: string; weight?: number | undefined }[] | undefined;
}

export interface Rule {
  priority: number;
  /** Needed only where neither from nor to tells; IPv4 when left out. */
  family?: Family | undefined;
  from?: string | undefined;
  to?: string | undefined;
  fwmark?: number | undefined;
  fwmask?: number | undefined;
  iif?: string | undefined;
  oif?: string | undefined;
  /** 254 (main) when left out. */
  table?: number | undefined;
  type?: "table" | "blackhole" | "unreachable" | "prohibit" | undefined;
  not?: boolean | undefined;
  suppressPrefixLength?: number | undefined;
  protocol?: number | undefined;
}

export interface Neighbour {
  to: string;
  mac?: string | undefined;
  dev: string;
  /** 'permanent' when left out of a change. */
  state?: string | undefined;
  proxy?: boolean | undefined;
}

export type RouteChange = { do: "add-route" | "replace-route" | "delete-route" } & Route;
export type RuleChange = { do: "add-rule" | "delete-rule" } & Rule;
export type NeighbourChange = { do: "add-neighbour" | "replace-neighbour" | "delete-neighbour" } & Neighbour;

export type Change = LinkChange | AddressChange | RouteChange | RuleChange | NeighbourChange;

export interface Link {
  index: number;
  name: string;
  mac?: string;
  mtu: number;
  /** Administratively up (IFF_UP). */
  up: boolean;
  /** IFF_RUNNING: up, and the peer too. */
  running: boolean;
  /** 'veth', 'macvlan', 'vlan', …; absent for lo and hardware. */
  kind?: string;
  master?: string;
  /** Index of the veth peer or the parent link, in namespace `peerNetnsId` if that is set. */
  link?: number;
  peerNetnsId?: number;
  group: number;
  alias?: string;
  vlanId?: number;
}

export interface Address {
  address: string;
  dev: string;
  family: Family;
  scope: Scope;
  secondary: boolean;
  noPrefixRoute: boolean;
  tentative: boolean;
}

/** What encoders need to know about the socket's namespace. */
export interface EncodeContext {
  /** Throws KernelError ENODEV. */
  linkIndex(name: string): number;
  /** A descriptor for IFLA_NET_NS_FD, closed after the send. */
  netnsFd(netns: Netns): number;
}
