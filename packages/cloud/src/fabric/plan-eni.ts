/**
 * An attached ENI: a veth between its router and its owner, routes for all it owns, its place in the router's sets. Pure.
 *
 *   router                                owner
 *   eni12  (mark, gates, source check) ── eth1  02:…  9001
 *   10.42.1.5/32 dev eni12 + permanent neighbour; secondary addresses and /28s via 10.42.1.5
 */
import { parseCidr } from "@underlay/addr/cidr";
import type { ElementItem, Item } from "./items.ts";
import { gateChain, memberPrefixSet, memberSet } from "./groups.ts";
import { publicRoute } from "./plan-internet.ts";
import { gatewayOf } from "./plan-subnet.ts";
import {
  clusterNetns,
  eniLink,
  instanceNetns,
  natNetns,
  routerMac,
  routerNetns,
  subnetMark,
  vpcMtu,
  wireLink,
} from "./places.ts";
import type { FabricAttachment, FabricEni, FabricSubnet } from "./seam.ts";

type EniPlan = {
  readonly cid: string;
  readonly eni: FabricEni;
  readonly subnet: FabricSubnet;
  /** Of IMDS token replies, when the owner is an instance. */
  readonly hopLimit: number | undefined;
  readonly gatewayed: boolean;
  readonly untracked: readonly ("tcp" | "udp")[];
};

export function planEni(o: EniPlan): Item[] {
  const { cid, eni, subnet } = o;
  const attachment = eni.attachment!;
  const netns = routerNetns(cid, eni.vpcId);
  const dev = eniLink(eni.number);
  const [primary, ...secondary] = eni.addresses.map(({ address }) => address);
  const owner = ownerOf(cid, attachment);
  return [
    {
      kind: "veth",
      netns,
      name: dev,
      mac: routerMac(subnet.number),
      mtu: vpcMtu,
      alias: `${eni.eniId} ${owner.name} ${owner.dev}`,
      proxyArp: true,
      guest: attachment.kind === "instance",
      peer: { netns: owner.netns, name: owner.dev, mac: eni.mac, mtu: vpcMtu, up: owner.configured },
    },
    { kind: "neighbour", netns, neighbour: { to: primary!, mac: eni.mac, dev } },
    { kind: "route", netns, route: { to: `${primary}/32`, dev, scope: "link" } },
    ...[...secondary.map((address) => `${address}/32`), ...eni.prefixes].map((to): Item => ({
      kind: "route",
      netns,
      route: { to, via: primary!, dev, onlink: true },
    })),
    ...lease(attachment, owner, eni, subnet),
    ...elements(o, netns, dev),
    ...o.untracked.map((protocol): Item => {
      const addresses = [...eni.addresses.map(({ address }) => address), ...eni.prefixes];
      return { kind: "untracked", netns, eniId: eni.eniId, protocol, addresses };
    }),
    ...(o.gatewayed ? publicAddresses(cid, eni) : []),
  ];
}

type Owner = { readonly name: string; readonly netns: string; readonly dev: string; readonly configured: boolean };

/** Where the ENI's other end is, and whether the fabric brings it up (else the guest does, as on EC2). */
function ownerOf(cid: string, attachment: FabricAttachment): Owner {
  switch (attachment.kind) {
    case "instance": {
      const { deviceIndex, instanceId: name } = attachment;
      return { name, netns: instanceNetns(cid, name), dev: `eth${deviceIndex}`, configured: deviceIndex === 0 };
    }
    case "nat-gateway":
      return {
        name: attachment.natGatewayId,
        netns: natNetns(cid, attachment.natGatewayId),
        dev: "eth0",
        configured: true,
      };
    case "cluster":
      return {
        name: attachment.clusterName,
        netns: clusterNetns(cid, attachment.clusterName),
        dev: `eth${attachment.deviceIndex}`,
        configured: true,
      };
  }
}

function lease(attachment: FabricAttachment, owner: Owner, eni: FabricEni, subnet: FabricSubnet): Item[] {
  if (attachment.kind !== "instance" || attachment.deviceIndex !== 0) return [];
  const address = `${eni.addresses[0]!.address}/${parseCidr(subnet.cidr).prefixLength}`;
  return [{ kind: "lease", netns: owner.netns, dev: owner.dev, address, gateway: gatewayOf(subnet.cidr) }];
}

function elements({ eni, subnet, hopLimit }: EniPlan, netns: string, dev: string): Item[] {
  const ofLink = (set: string, data?: ElementItem["data"]): ElementItem => ({
    kind: "element",
    netns,
    set,
    key: dev,
    keyType: "ifname",
    ...(data === undefined ? {} : { data }),
  });
  const ofAddress = (set: string, key: string): ElementItem => ({
    kind: "element",
    netns,
    set,
    key,
    keyType: "address",
  });
  const isNat = eni.attachment?.kind === "nat-gateway";
  const gate = (direction: "ingress" | "egress"): ElementItem["data"] => ({
    type: "verdict",
    verdict: isNat ? "accept" : `goto ${gateChain(eni.securityGroupIds, direction)}`,
  });
  return [
    ofLink("subnet_of", { type: "mark", mark: subnetMark(subnet.number) }),
    ofLink("egress_of", gate("egress")),
    ofLink("ingress_of", gate("ingress")),
    ...(isNat || !eni.sourceDestCheck ? [ofLink("unchecked")] : []),
    ...(hopLimit === undefined ? [] : [ofLink("hop_limit_of", { type: "verdict", verdict: `goto ttl_${hopLimit}` })]),
    ...eni.securityGroupIds.flatMap((groupId) => [
      ...eni.addresses.map(({ address }) => ofAddress(memberSet(groupId), address)),
      ...eni.prefixes.map((prefix) => ofAddress(memberPrefixSet(groupId), prefix.replace(/\/.*/, ""))),
    ]),
  ];
}

/** 1:1 mappings of the internet gateway, and the way back to it. */
function publicAddresses(cid: string, eni: FabricEni): Item[] {
  const netns = routerNetns(cid, eni.vpcId);
  return eni.addresses.flatMap(({ address, publicAddress }): Item[] => {
    if (publicAddress === undefined) return [];
    return [
      {
        kind: "element",
        netns,
        set: "public_of",
        key: address,
        keyType: "address",
        data: { type: "address", address: publicAddress },
      },
      {
        kind: "element",
        netns,
        set: "private_of",
        key: publicAddress,
        keyType: "address",
        data: { type: "address", address },
      },
      publicRoute(cid, publicAddress, wireLink("vpc", eni.vpcId)),
    ];
  });
}
