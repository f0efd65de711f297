import { ipFromBytes, ipToBytes } from "@underlay/addr/ip";
import { formatMac, parseMac } from "@underlay/addr/mac";
import { readAttrs, type NetlinkMessage, type NetlinkWriter } from "../netlink.ts";
import type { EncodeContext, Neighbour, NeighbourChange } from "../rtnetlink-types.ts";
import { familyNumber } from "./numbers.ts";

export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;

const NDA_DST = 1;
const NDA_LLADDR = 2;
const NTF_PROXY = 8;
const STATES: Record<string, number> = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
};

/** The body of RTM_NEWNEIGH or RTM_DELNEIGH. */
export function encodeNeighbour(w: NetlinkWriter, change: NeighbourChange, context: EncodeContext): void {
  const bytes = ipToBytes(change.to);
  const index = context.linkIndex(change.dev);
  w.struct(12, (header) => {
    header[0] = familyNumber(bytes.length === 4 ? 4 : 6);
    header.writeInt32LE(index, 4);
    header.writeUInt16LE(STATES[change.state ?? "permanent"] ?? 0, 8);
    header[10] = change.proxy ? NTF_PROXY : 0;
  });
  w.attr(NDA_DST, bytes);
  if (change.mac !== undefined) w.attr(NDA_LLADDR, parseMac(change.mac));
}

/** The body of RTM_GETNEIGH; proxy entries are a table of their own. */
export function encodeGetNeighbours(w: NetlinkWriter, family: number, proxy: boolean): void {
  w.struct(12, (header) => {
    header[0] = family;
    header[10] = proxy ? NTF_PROXY : 0;
  });
}

/** undefined for entries that are not about an IP address. */
export function decodeNeighbour({ body }: NetlinkMessage, nameOf: (index: number) => string): Neighbour | undefined {
  const attrs = readAttrs(body.subarray(12));
  const to = attrs.get(NDA_DST);
  if (to === undefined || (to.length !== 4 && to.length !== 16)) return undefined;
  const state = body.readUInt16LE(8);
  const mac = attrs.get(NDA_LLADDR);
  return {
    to: ipFromBytes(to),
    dev: nameOf(body.readInt32LE(4)),
    state: Object.entries(STATES).find(([, bits]) => bits === state)?.[0] ?? `0x${state.toString(16)}`,
    ...(mac?.length === 6 ? { mac: formatMac(mac) } : {}),
    ...(((body[10] as number) & NTF_PROXY) === 0 ? {} : { proxy: true }),
  };
}
