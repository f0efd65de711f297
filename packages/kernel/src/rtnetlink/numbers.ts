import type { Family } from "@underlay/addr/ip";
import type { Scope } from "../rtnetlink-types.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;
export const RT_TABLE_MAIN = 254;

export const familyNumber = (family: Family): number => (family === 4 ? AF_INET : AF_INET6);

const SCOPES: Record<Scope, number> = { global: 0, link: 253, host: 254, nowhere: 255 };

export const scopeNumber = (scope: Scope): number => SCOPES[scope];

export function scopeName(number: number): Scope {
  return number === 253 ? "link" : number === 254 ? "host" : number === 255 ? "nowhere" : "global";
}
