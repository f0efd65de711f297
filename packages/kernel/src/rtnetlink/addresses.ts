import { ipFromBytes, ipToBytes } from "@underlay/addr/ip";
import { readAttrs, type NetlinkMessage, type NetlinkWriter } from "../netlink.ts";
import type { Address, AddressChange, EncodeContext, Scope } from "../rtnetlink-types.ts";
import { familyNumber, scopeName, scopeNumber } from "./numbers.ts";

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_SECONDARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_NOPREFIXROUTE = 0x200;

/** The body of RTM_NEWADDR or RTM_DELADDR. */
export function encodeAddress(w: NetlinkWriter, change: AddressChange, context: EncodeContext): void {
  const slash = change.address.indexOf("/");
  const bytes = ipToBytes(slash < 0 ? change.address : change.address.slice(0, slash));
  const length = slash < 0 ? bytes.length * 8 : Number(change.address.slice(slash + 1));
  const index = context.linkIndex(change.dev);
  w.struct(8, (header) => {
    header[0] = familyNumber(bytes.length === 4 ? 4 : 6);
    header[1] = length;
    header[3] = scopeNumber(change.scope ?? usualScope(bytes));
    header.writeUInt32LE(index, 4);
  });
  w.attr(IFA_LOCAL, bytes);
  w.attr(IFA_ADDRESS, bytes);
  if (change.do === "delete-address") return;
  w.u32(IFA_FLAGS, ((change.nodad ?? true) ? IFA_F_NODAD : 0) | (change.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0));
}

/** As `ip addr add` has it: 127.0.0.0/8 is scope host. */
const usualScope = (bytes: Uint8Array): Scope => (bytes.length === 4 && bytes[0] === 127 ? "host" : "global");

/** The body of RTM_GETADDR. */
export function encodeGetAddresses(w: NetlinkWriter, family: number): void {
  w.struct(8, (header) => {
    header[0] = family;
  });
}

export function decodeAddress({ body }: NetlinkMessage, nameOf: (index: number) => string): Address {
  const attrs = readAttrs(body.subarray(8));
  const flags = attrs.get(IFA_FLAGS)?.readUInt32LE(0) ?? (body[2] as number);
  const bytes = attrs.get(IFA_LOCAL) ?? attrs.get(IFA_ADDRESS) ?? Buffer.alloc(0);
  return {
    address: `${ipFromBytes(bytes)}/${body[1]}`,
    dev: nameOf(body.readUInt32LE(4)),
    family: bytes.length === 4 ? 4 : 6,
    scope: scopeName(body[3] as number),
    // For IPv6 the same bit means "temporary" (privacy extensions).
    secondary: bytes.length === 4 && (flags & IFA_F_SECONDARY) !== 0,
    noPrefixRoute: (flags & IFA_F_NOPREFIXROUTE) !== 0,
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
  };
}
