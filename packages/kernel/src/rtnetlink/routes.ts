import { formatCidr, parseCidr } from "@underlay/addr/cidr";
import { familyOf, formatIp, ipFromBytes, ipToBytes, type Family } from "@underlay/addr/ip";
import { eachAttr, readAttrs, type NetlinkMessage, type NetlinkWriter } from "../netlink.ts";
import type { EncodeContext, Route, RouteChange, RouteType } from "../rtnetlink-types.ts";
import { AF_INET, RT_TABLE_MAIN, familyNumber, scopeName, scopeNumber } from "./numbers.ts";

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTAX_MTU = 2;
const RTNH_F_ONLINK = 4;
const RTPROT_BOOT = 3;
const RT_SCOPE_NOWHERE = 255;
/** What the kernel gives an IPv6 route without a metric; not worth reporting. */
const IP6_RT_PRIO_USER = 1024;
const TYPES: Record<RouteType, number> = { unicast: 1, local: 2, blackhole: 6, unreachable: 7, prohibit: 8 };

/** The body of RTM_NEWROUTE or RTM_DELROUTE. */
export function encodeRoute(w: NetlinkWriter, change: RouteChange, context: EncodeContext): void {
  const { family, base, prefixLength } = routeTarget(change);
  const table = change.table ?? RT_TABLE_MAIN;
  const deleting = change.do === "delete-route";
  const oif = change.dev === undefined ? undefined : context.linkIndex(change.dev);
  w.struct(12, (header) => {
    header[0] = familyNumber(family);
    header[1] = prefixLength;
    header[4] = table < 256 ? table : 0;
    // Zero means "any" in a delete.
    header[5] = change.protocol ?? (deleting ? 0 : RTPROT_BOOT);
    header[6] = routeScope(change, family);
    header[7] = change.type === undefined ? (deleting ? 0 : TYPES.unicast) : TYPES[change.type];
    header.writeUInt32LE(change.onlink ? RTNH_F_ONLINK : 0, 8);
  });
  if (prefixLength > 0) w.attr(RTA_DST, ipToBytes(formatIp(family, base)));
  w.u32(RTA_TABLE, table);
  if (oif !== undefined) w.u32(RTA_OIF, oif);
  if (change.via !== undefined) gateway(w, change.via, family);
  if (change.src !== undefined) w.attr(RTA_PREFSRC, ipToBytes(change.src));
  if (change.metric !== undefined) w.u32(RTA_PRIORITY, change.metric);
  if (change.mtu !== undefined) w.nest(RTA_METRICS, () => w.u32(RTAX_MTU, change.mtu as number));
  if (change.nexthops !== undefined) w.nest(RTA_MULTIPATH, () => nexthops(w, change, family, context));
}

/** 'default' belongs to the family of the gateway. */
export function routeTarget(route: Route): { family: Family; base: bigint; prefixLength: number } {
  if (route.to !== "default") return parseCidr(route.to);
  const gateway = route.via ?? route.nexthops?.[0]?.via ?? route.src;
  return { family: (gateway === undefined ? undefined : familyOf(gateway)) ?? 4, base: 0n, prefixLength: 0 };
}

/** What `ip route` would choose. */
function routeScope(change: RouteChange, family: Family): number {
  if (change.scope !== undefined) return scopeNumber(change.scope);
  if (family === 6) return 0;
  if (change.do === "delete-route") return RT_SCOPE_NOWHERE;
  if (change.type === "local") return scopeNumber("host");
  const isDirect =
    (change.type ?? "unicast") === "unicast" && change.via === undefined && change.nexthops === undefined;
  return scopeNumber(isDirect ? "link" : "global");
}

function gateway(w: NetlinkWriter, via: string, family: Family): void {
  const bytes = ipToBytes(via);
  const viaFamily = bytes.length === 4 ? 4 : 6;
  if (viaFamily === family) w.attr(RTA_GATEWAY, bytes);
  else w.attr(RTA_VIA, Buffer.concat([Uint8Array.of(familyNumber(viaFamily), 0), bytes]));
}

function nexthops(w: NetlinkWriter, change: RouteChange, family: Family, context: EncodeContext): void {
  for (const hop of change.nexthops ?? []) {
    const index = context.linkIndex(hop.dev);
    const start = w.length;
    w.struct(8, (header) => {
      header[2] = change.onlink ? RTNH_F_ONLINK : 0;
      header[3] = (hop.weight ?? 1) - 1;
      header.writeInt32LE(index, 4);
    });
    if (hop.via !== undefined) gateway(w, hop.via, family);
    w.bytes.writeUInt16LE(w.length - start, start);
  }
}

/** The body of RTM_GETROUTE; table 0 asks for all. */
export function encodeGetRoutes(w: NetlinkWriter, family: Family, table: number): void {
  w.struct(12, (header) => {
    header[0] = familyNumber(family);
    header[4] = table < 256 ? table : 0;
  });
  if (table !== 0) w.u32(RTA_TABLE, table);
}

const TYPE_NAMES = new Map(Object.entries(TYPES).map(([name, number]) => [number, name as RouteType]));

/** undefined for kinds of routes no change can make (broadcast, multicast, …). */
export function decodeRoute({ body }: NetlinkMessage, nameOf: (index: number) => string): Route | undefined {
  const type = TYPE_NAMES.get(body[7] as number);
  if (type === undefined) return undefined;
  const family: Family = body[0] === AF_INET ? 4 : 6;
  const attrs = readAttrs(body.subarray(12));
  const prefixLength = body[1] as number;
  const target = attrs.get(RTA_DST);
  const metric = attrs.get(RTA_PRIORITY)?.readUInt32LE(0);
  const oif = attrs.get(RTA_OIF)?.readUInt32LE(0);
  const via = decodeGateway(attrs);
  const source = attrs.get(RTA_PREFSRC);
  const metrics = attrs.get(RTA_METRICS);
  const mtu = metrics === undefined ? undefined : readAttrs(metrics).get(RTAX_MTU)?.readUInt32LE(0);
  const multipath = attrs.get(RTA_MULTIPATH);
  const usualMetric = metric === undefined || (family === 6 && metric === IP6_RT_PRIO_USER);
  return {
    to:
      prefixLength === 0
        ? family === 4
          ? "default"
          : "::/0"
        : formatCidr(parseCidr(`${ipFromBytes(target ?? Buffer.alloc(family === 4 ? 4 : 16))}/${prefixLength}`)),
    table: attrs.get(RTA_TABLE)?.readUInt32LE(0) ?? (body[4] as number),
    type,
    scope: scopeName(body[6] as number),
    protocol: body[5] as number,
    ...(oif === undefined ? {} : { dev: nameOf(oif) }),
    ...(via === undefined ? {} : { via }),
    ...(source === undefined ? {} : { src: ipFromBytes(source) }),
    ...(usualMetric ? {} : { metric }),
    ...(mtu === undefined ? {} : { mtu }),
    ...((body.readUInt32LE(8) & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
    ...(multipath === undefined ? {} : { nexthops: decodeNexthops(multipath, nameOf) }),
  };
}

function decodeGateway(attrs: Map<number, Buffer>): string | undefined {
  const same = attrs.get(RTA_GATEWAY);
  if (same !== undefined) return ipFromBytes(same);
  const other = attrs.get(RTA_VIA);
  return other === undefined ? undefined : ipFromBytes(other.subarray(2));
}

function decodeNexthops(bytes: Buffer, nameOf: (index: number) => string): NonNullable<Route["nexthops"]> {
  const hops: NonNullable<Route["nexthops"]> = [];
  for (let at = 0; at + 8 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 8) break;
    const attrs = new Map([...eachAttr(bytes.subarray(at + 8, at + length))].map(({ type, data }) => [type, data]));
    const via = decodeGateway(attrs);
    hops.push({
      dev: nameOf(bytes.readInt32LE(at + 4)),
      weight: (bytes[at + 3] as number) + 1,
      ...(via === undefined ? {} : { via }),
    });
    at += (length + 3) & ~3;
  }
  return hops;
}
