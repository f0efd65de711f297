import type { Change, LinkBasics, Route, RouteChange, Rule } from "./rtnetlink-types.ts";
import type { Netns } from "./netns.ts";
import { routeTarget } from "./rtnetlink/routes.ts";
import { parseCidr } from "@underlay/addr/cidr";

/** The `ip` command that would do the same: for errors, logs and tests. */
export function toIpCommand(change: Change): string {
  switch (change.do) {
    case "add-veth": {
      const { peer } = change;
      return words(
        "ip link add",
        basics(change),
        "type veth peer name",
        basics(peer),
        option("netns", netnsText(peer.netns)),
      );
    }
    case "add-macvlan":
      return words("ip link add link", change.link, "name", basics(change), "type macvlan mode", change.mode);
    case "add-vlan":
      return words("ip link add link", change.link, "name", basics(change), "type vlan id", change.id);
    case "add-dummy":
    case "add-bridge":
      return words("ip link add", basics(change), "type", change.do.slice("add-".length));
    case "set-link":
      return words(
        "ip link set",
        change.name,
        option("address", change.mac),
        option("mtu", change.mtu),
        option("name", change.rename),
        option("group", change.group),
        option("alias", change.alias),
        change.master === null ? "nomaster" : option("master", change.master),
        option("netns", netnsText(change.netns)),
        change.up === undefined ? "" : change.up ? "up" : "down",
      );
    case "delete-link":
      return words("ip link delete", change.name);
    case "delete-link-group":
      return words("ip link delete group", change.group);
    case "add-address":
    case "delete-address":
      return words(
        "ip address",
        verb(change.do),
        change.address,
        "dev",
        change.dev,
        option("scope", change.scope),
        change.noPrefixRoute && "noprefixroute",
      );
    case "add-route":
    case "replace-route":
    case "delete-route":
      return routeText(change);
    case "add-rule":
    case "delete-rule":
      return ruleText(verb(change.do), change);
    case "add-neighbour":
    case "replace-neighbour":
    case "delete-neighbour":
      return words(
        "ip neigh",
        verb(change.do),
        change.proxy && "proxy",
        change.to,
        option("lladdr", change.mac),
        "dev",
        change.dev,
        change.do !== "delete-neighbour" && !change.proxy && `nud ${change.state ?? "permanent"}`,
      );
  }
}

function routeText(change: RouteChange): string {
  const hops = (change.nexthops ?? []).map((hop) =>
    words("nexthop", option("via", hop.via), "dev", hop.dev, option("weight", hop.weight)),
  );
  return words(
    "ip",
    isIpv6(change) && "-6",
    "route",
    verb(change.do),
    change.type === "unicast" ? "" : change.type,
    change.to,
    option("via", change.via),
    option("dev", change.dev),
    option("src", change.src),
    option("scope", change.scope),
    option("metric", change.metric),
    option("mtu", change.mtu),
    option("proto", change.protocol),
    change.onlink && "onlink",
    ...hops,
    option("table", change.table),
  );
}

const isIpv6 = (route: Route): boolean => routeTarget(route).family === 6;

function ruleText(action: string, rule: Rule): string {
  const known = rule.from ?? rule.to;
  const family = known === undefined ? rule.family : parseCidr(known).family;
  const mark =
    rule.fwmark === undefined
      ? ""
      : `fwmark 0x${rule.fwmark.toString(16)}${rule.fwmask === undefined ? "" : `/0x${rule.fwmask.toString(16)}`}`;
  return words(
    "ip",
    family === 6 && "-6",
    "rule",
    action,
    rule.not && "not",
    "priority",
    rule.priority,
    "from",
    rule.from ?? "all",
    option("to", rule.to),
    mark,
    option("iif", rule.iif),
    option("oif", rule.oif),
    rule.type === undefined || rule.type === "table" ? `lookup ${rule.table ?? "main"}` : rule.type,
    option("suppress_prefixlength", rule.suppressPrefixLength),
  );
}

const basics = (link: LinkBasics): string =>
  words(link.name, option("address", link.mac), option("mtu", link.mtu), option("group", link.group), link.up && "up");
const verb = (action: string): string => (action.split("-")[0] === "delete" ? "del" : (action.split("-")[0] as string));
const option = (name: string, value: string | number | undefined | null): string =>
  value === undefined || value === null ? "" : `${name} ${value}`;
const netnsText = (netns: Netns | undefined): string | undefined =>
  typeof netns === "number" ? `/proc/self/fd/${netns}` : netns;
const words = (...parts: (string | number | false | undefined)[]): string =>
  parts.filter((part) => part !== false && part !== undefined && part !== "").join(" ");
