/**
 * The fabric's desired kernel state as a flat map of small facts, each with an identity (`keyOf`) and a content (`valueOf`).
 * A plan makes items from the cloud's state, an observation makes them from the kernel; their difference is what to do.
 */
import type { Neighbour, Route, Rule } from "@underlay/kernel/rtnetlink-types";

export type Item =
  /** A namespace the fabric creates; `owned` ones hold nothing that is not planned. */
  | {
      readonly kind: "netns";
      readonly netns: string;
      readonly owned: boolean;
      readonly sysctls: Readonly<Record<string, string | number>>;
    }
  | VethItem
  | { readonly kind: "address"; readonly netns: string; readonly dev: string; readonly address: string }
  | { readonly kind: "route"; readonly netns: string; readonly route: Route }
  | { readonly kind: "rule"; readonly netns: string; readonly rule: Rule }
  | { readonly kind: "neighbour"; readonly netns: string; readonly neighbour: Neighbour & { readonly mac: string } }
  /** What DHCP gives the first device of an instance. Checked and renewed, but the guest may add to it. */
  | {
      readonly kind: "lease";
      readonly netns: string;
      readonly dev: string;
      readonly address: string;
      readonly gateway: string;
    }
  /** A set or map; `elements` only where they are part of the definition (interval sets). */
  | {
      readonly kind: "set";
      readonly netns: string;
      readonly name: string;
      readonly type: "set" | "map";
      readonly definition: string;
      readonly elements?: readonly string[];
    }
  /** A chain with all its rules; `hook` makes it a base chain. */
  | {
      readonly kind: "chain";
      readonly netns: string;
      readonly name: string;
      readonly hook?: string;
      readonly rules: readonly string[];
    }
  /** Nothing in the kernel: EC2 does not track the ENI's flows of this protocol, so they end when this item goes. */
  | {
      readonly kind: "untracked";
      readonly netns: string;
      readonly eniId: string;
      readonly protocol: "tcp" | "udp";
      readonly addresses: readonly string[];
    }
  | ElementItem;

export type VethItem = {
  readonly kind: "veth";
  readonly netns: string;
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  /** Names what the link stands for and where it leads; a link with this alias is the planned one. */
  readonly alias: string;
  readonly proxyArp: boolean;
  /** The other end is a guest's: it may rename it, or move it into another namespace. */
  readonly guest: boolean;
  readonly peer: {
    readonly netns: string;
    readonly name: string;
    readonly mac: string;
    readonly mtu: number;
    readonly up: boolean;
  };
};

export type ElementItem = {
  readonly kind: "element";
  readonly netns: string;
  readonly set: string;
  /** A link name or an address. */
  readonly key: string;
  readonly keyType: "ifname" | "address";
  readonly data?:
    | { readonly type: "address"; readonly address: string }
    | { readonly type: "mark"; readonly mark: number }
    | { readonly type: "verdict"; readonly verdict: string };
};

/** Items by identity. */
export type Items = Map<string, Item>;

/** Two items with the same key are the same thing in the kernel. */
export function keyOf(item: Item): string {
  switch (item.kind) {
    case "netns":
      return `netns ${item.netns}`;
    case "veth":
      return `veth ${item.netns} ${item.name}`;
    case "address":
      return `address ${item.netns} ${item.dev} ${item.address}`;
    case "route":
      return `route ${item.netns} ${item.route.table ?? 254} ${routeTo(item.route)}`;
    case "rule":
      return `rule ${item.netns} ${ruleText(item.rule)}`;
    case "neighbour":
      return `neighbour ${item.netns} ${item.neighbour.dev} ${item.neighbour.to}`;
    case "lease":
      return `lease ${item.netns} ${item.dev}`;
    case "untracked":
      return `untracked ${item.netns} ${item.eniId} ${item.protocol}`;
    case "set":
      return `set ${item.netns} ${item.name}`;
    case "chain":
      return `chain ${item.netns} ${item.name}`;
    case "element":
      return `element ${item.netns} ${item.set} ${item.key}`;
  }
}

/** Two items with the same key and value are equal; with another value one replaces the other. */
export function valueOf(item: Item): string {
  switch (item.kind) {
    case "netns":
    case "address":
    case "rule":
    case "untracked":
      return "";
    case "veth":
      return [item.mac, item.alias, item.peer.netns, item.peer.name, item.peer.mac].join(" ");
    case "route": {
      const { type = "unicast", via = "", dev = "", src = "" } = item.route;
      return `${type} ${via} ${dev} ${src}`;
    }
    case "neighbour":
      return item.neighbour.mac ?? "";
    case "lease":
      return `${item.address} ${item.gateway}`;
    case "set":
      return `${item.type} ${item.definition} ${item.elements?.join(",") ?? ""}`;
    case "chain":
      return `${item.hook ?? ""}\n${item.rules.join("\n")}`;
    case "element":
      return elementData(item);
  }
}

function elementData(item: ElementItem): string {
  switch (item.data?.type) {
    case undefined:
      return "";
    case "address":
      return item.data.address;
    case "mark":
      return `0x${item.data.mark.toString(16)}`;
    case "verdict":
      return item.data.verdict;
  }
}

/** Destination without the `/32` that the kernel may or may not print. */
function routeTo(route: Route): string {
  if (route.to === "0.0.0.0/0") return "default";
  return route.to.replace(/\/32$/, "");
}

function ruleText(rule: Rule): string {
  const mark = rule.fwmark === undefined ? "" : ` fwmark ${rule.fwmark}/${rule.fwmask ?? 0xffffffff}`;
  const action = (rule.type ?? "table") === "table" ? `table ${rule.table ?? 254}` : rule.type!;
  return `${rule.priority} from ${rule.from?.replace(/\/32$/, "") ?? "all"}${mark} ${action}`;
}

export function toItems(list: Iterable<Item>): Items {
  return new Map([...list].map((item) => [keyOf(item), item]));
}
