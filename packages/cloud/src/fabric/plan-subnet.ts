/** A subnet in its router: the gateway's address, and its route table behind the subnet's mark. Pure. */
import { nthAddress } from "@underlay/addr/cidr";
import type { Item } from "./items.ts";
import {
  eniLink,
  igwLink,
  routerNetns,
  subnetMark,
  subnetMask,
  subnetPriority,
  subnetTable,
  wireNear,
} from "./places.ts";
import type { FabricSubnet } from "./seam.ts";

export type SubnetRoute =
  | { readonly cidr: string; readonly by: "igw" | "nothing" }
  | { readonly cidr: string; readonly by: "eni"; readonly number: number; readonly via: string };

/** The subnet's router address: base + 1. */
export const gatewayOf = (cidr: string): string => nthAddress(cidr, 1);

export function planSubnet(cid: string, subnet: FabricSubnet, routes: readonly SubnetRoute[]): Item[] {
  const netns = routerNetns(cid, subnet.vpcId);
  const table = subnetTable(subnet.number);
  return [
    { kind: "address", netns, dev: "lo", address: `${gatewayOf(subnet.cidr)}/32` },
    {
      kind: "rule",
      netns,
      rule: { priority: subnetPriority, fwmark: subnetMark(subnet.number), fwmask: subnetMask, table },
    },
    ...routes.map((route): Item => {
      switch (route.by) {
        case "igw":
          return { kind: "route", netns, route: { to: route.cidr, table, via: wireNear, dev: igwLink, onlink: true } };
        case "eni":
          return {
            kind: "route",
            netns,
            route: { to: route.cidr, table, via: route.via, dev: eniLink(route.number), onlink: true },
          };
        case "nothing":
          return { kind: "route", netns, route: { to: route.cidr, table, type: "blackhole" } };
      }
    }),
  ];
}
