import { formatCidr, parseCidr } from "@underlay/addr/cidr";
import { formatIp, ipFromBytes, ipToBytes, type Family } from "@underlay/addr/ip";
import { readAttrs, readText, type NetlinkMessage, type NetlinkWriter } from "../netlink.ts";
import type { Rule, RuleChange } from "../rtnetlink-types.ts";
import { AF_INET, RT_TABLE_MAIN, familyNumber } from "./numbers.ts";

export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;

const FRA_DST = 1;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_OIFNAME = 17;
const FRA_PROTOCOL = 21;
const FIB_RULE_INVERT = 2;
const ALL_BITS = 0xffffffff;
const ACTIONS = { table: 1, blackhole: 6, unreachable: 7, prohibit: 8 } as const;

/** The body of RTM_NEWRULE or RTM_DELRULE; a delete matches on what is given. */
export function encodeRule(w: NetlinkWriter, change: RuleChange): void {
  const from = change.from === undefined ? undefined : parseCidr(change.from);
  const to = change.to === undefined ? undefined : parseCidr(change.to);
  const family = from?.family ?? to?.family ?? change.family ?? 4;
  const type = change.type ?? "table";
  const table = type === "table" ? (change.table ?? (change.do === "delete-rule" ? 0 : RT_TABLE_MAIN)) : 0;
  w.struct(12, (header) => {
    header[0] = familyNumber(family);
    header[1] = to?.prefixLength ?? 0;
    header[2] = from?.prefixLength ?? 0;
    header[4] = table < 256 ? table : 0;
    header[7] = change.do === "delete-rule" && change.type === undefined ? 0 : ACTIONS[type];
    header.writeUInt32LE(change.not ? FIB_RULE_INVERT : 0, 8);
  });
  if (from && from.prefixLength > 0) w.attr(FRA_SRC, ipToBytes(formatIp(family, from.base)));
  if (to && to.prefixLength > 0) w.attr(FRA_DST, ipToBytes(formatIp(family, to.base)));
  w.u32(FRA_PRIORITY, change.priority);
  if (table !== 0) w.u32(FRA_TABLE, table);
  if (change.fwmark !== undefined) w.u32(FRA_FWMARK, change.fwmark);
  if (change.fwmask !== undefined) w.u32(FRA_FWMASK, change.fwmask);
  if (change.iif !== undefined) w.text(FRA_IIFNAME, change.iif);
  if (change.oif !== undefined) w.text(FRA_OIFNAME, change.oif);
  if (change.suppressPrefixLength !== undefined) w.u32(FRA_SUPPRESS_PREFIXLEN, change.suppressPrefixLength);
  if (change.protocol !== undefined) w.u8(FRA_PROTOCOL, change.protocol);
}

/** The body of RTM_GETRULE. */
export function encodeGetRules(w: NetlinkWriter, family: Family): void {
  w.struct(12, (header) => {
    header[0] = familyNumber(family);
  });
}

export function decodeRule({ body }: NetlinkMessage): Rule {
  const family: Family = body[0] === AF_INET ? 4 : 6;
  const attrs = readAttrs(body.subarray(12));
  const number = (type: number): number | undefined => attrs.get(type)?.readUInt32LE(0);
  const block = (bytes: Buffer | undefined, length: number): string | undefined =>
    bytes === undefined ? undefined : formatCidr(parseCidr(`${ipFromBytes(bytes)}/${length}`));
  const from = block(attrs.get(FRA_SRC), body[2] as number);
  const to = block(attrs.get(FRA_DST), body[1] as number);
  const iif = attrs.get(FRA_IIFNAME);
  const oif = attrs.get(FRA_OIFNAME);
  const mark = number(FRA_FWMARK);
  const mask = number(FRA_FWMASK);
  const protocol = attrs.get(FRA_PROTOCOL)?.[0] ?? 0;
  const suppress = attrs.get(FRA_SUPPRESS_PREFIXLEN)?.readInt32LE(0) ?? -1;
  const type = (Object.entries(ACTIONS).find(([, action]) => action === body[7])?.[0] ?? "table") as NonNullable<
    Rule["type"]
  >;
  return {
    priority: number(FRA_PRIORITY) ?? 0,
    family,
    type,
    ...(type === "table" ? { table: number(FRA_TABLE) ?? (body[4] as number) } : {}),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(mark === undefined ? {} : { fwmark: mark }),
    ...(mask === undefined || mask === ALL_BITS || mark === undefined ? {} : { fwmask: mask }),
    ...(iif === undefined ? {} : { iif: readText(iif) }),
    ...(oif === undefined ? {} : { oif: readText(oif) }),
    ...((body.readUInt32LE(8) & FIB_RULE_INVERT) === 0 ? {} : { not: true }),
    ...(suppress < 0 ? {} : { suppressPrefixLength: suppress }),
    ...(protocol === 0 ? {} : { protocol }),
  };
}
