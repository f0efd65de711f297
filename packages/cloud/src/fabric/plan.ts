/**
 * FabricState → units of kernel items. Pure.
 * A unit is what one object of the cloud (a VPC, a subnet, an ENI, a group, …) puts into the kernel; its `basis` is all it
 * was computed from, so an unchanged basis means unchanged items and costs nothing.
 */
import type { Item } from "./items.ts";
import { planCluster } from "./plan-cluster.ts";
import { planAcls } from "./plan-acls.ts";
import { planEni } from "./plan-eni.ts";
import { planInternet } from "./plan-internet.ts";
import { planNatGateway } from "./plan-nat-gateway.ts";
import { planRouter } from "./plan-router.ts";
import { planSubnet, type SubnetRoute } from "./plan-subnet.ts";
import {
  gateChain,
  gateRules,
  groupChain,
  groupRules,
  memberPrefixSet,
  memberSet,
  prefixListSet,
  untrackedProtocols,
} from "./groups.ts";
import { instanceNetns, routerNetns } from "./places.ts";
import type {
  FabricEni,
  FabricInstance,
  FabricNatGateway,
  FabricRouteTable,
  FabricSecurityGroup,
  FabricState,
  FabricSubnet,
  FabricVpc,
} from "./seam.ts";

export type Unit = { readonly id: string; readonly basis: readonly unknown[]; readonly items: () => Item[] };

/** Lookup tables over one state, built once per plan. */
export type Lookup = {
  readonly cid: string;
  readonly vpcs: ReadonlyMap<string, FabricVpc>;
  readonly subnets: ReadonlyMap<string, FabricSubnet>;
  readonly enis: ReadonlyMap<string, FabricEni>;
  readonly routeTables: ReadonlyMap<string, FabricRouteTable>;
  readonly instances: ReadonlyMap<string, FabricInstance>;
  readonly natGateways: ReadonlyMap<string, FabricNatGateway>;
  readonly groups: ReadonlyMap<string, FabricSecurityGroup>;
  readonly clusters: ReadonlySet<string>;
  /** VPCs with an attached internet gateway. */
  readonly gatewayed: ReadonlySet<string>;
};

export function lookupOf(state: FabricState): Lookup {
  return {
    cid: state.clusterId,
    vpcs: new Map(state.vpcs.map((vpc) => [vpc.vpcId, vpc])),
    subnets: new Map(state.subnets.map((subnet) => [subnet.subnetId, subnet])),
    enis: new Map(state.enis.map((eni) => [eni.eniId, eni])),
    routeTables: new Map(state.routeTables.map((table) => [table.routeTableId, table])),
    instances: new Map(state.instances.map((instance) => [instance.instanceId, instance])),
    natGateways: new Map(state.natGateways.map((nat) => [nat.natGatewayId, nat])),
    groups: new Map(state.securityGroups.map((group) => [group.groupId, group])),
    clusters: new Set(state.clusters.map(({ name }) => name)),
    gatewayed: new Set(state.internetGateways.map((gateway) => gateway.vpcId)),
  };
}

/** Everything the kernel must hold for `state`, in units. */
export function planUnits(state: FabricState): Unit[] {
  const lookup = lookupOf(state);
  const { cid } = lookup;
  const attached = state.enis.filter((eni) => ownerExists(eni, lookup)).map((eni) => withKnownGroups(eni, lookup));
  return [
    { id: "internet", basis: [cid], items: () => planInternet(cid) },
    ...state.vpcs.map((vpc) => {
      const gatewayed = lookup.gatewayed.has(vpc.vpcId);
      return { id: vpc.vpcId, basis: [vpc.vpcId, vpc.cidrs, gatewayed], items: () => planRouter(cid, vpc, gatewayed) };
    }),
    ...state.subnets.map((subnet) => {
      const routes = resolveRoutes(subnet, lookup);
      return {
        id: subnet.subnetId,
        basis: [subnet.number, subnet.cidr, routes],
        items: () => planSubnet(cid, subnet, routes),
      };
    }),
    ...state.instances.map(({ instanceId }) => ({
      id: instanceId,
      basis: [],
      items: (): Item[] => [
        { kind: "netns", netns: instanceNetns(cid, instanceId), owned: false, sysctls: guestSysctls },
      ],
    })),
    ...state.securityGroups.map((group) => {
      // A rule may outlive the group it names: it matches nobody.
      const rules = group.rules.filter(({ peer }) => !("groupId" in peer) || lookup.groups.has(peer.groupId));
      return { id: group.groupId, basis: [group.vpcId, rules], items: () => planGroup(cid, { ...group, rules }) };
    }),
    ...state.vpcs.flatMap(({ vpcId }) => {
      const subnets = state.subnets.filter((subnet) => subnet.vpcId === vpcId && subnet.acl !== undefined);
      if (subnets.length === 0) return [];
      const ids = new Set(subnets.map(({ subnetId }) => subnetId));
      const enis = attached.filter(({ subnetId }) => ids.has(subnetId));
      const basis = [subnets.map(({ number, acl }) => [number, acl]), enis.map((eni) => [eni.number, eni.subnetId])];
      return [{ id: `acls of ${vpcId}`, basis, items: () => planAcls(cid, vpcId, subnets, enis) }];
    }),
    ...planPrefixLists(state),
    ...planGates(cid, attached),
    ...planHopLimits(state),
    ...state.natGateways.flatMap((nat) => {
      const eni = lookup.enis.get(nat.eniId);
      const subnet = lookup.subnets.get(nat.subnetId);
      return eni === undefined || subnet === undefined
        ? []
        : [{ id: nat.natGatewayId, basis: [nat, eni.mac, subnet.cidr], items: () => planNatGateway(cid, nat, subnet) }];
    }),
    ...state.clusters.map((cluster) => {
      const enis = attached.filter(
        ({ attachment }) => attachment?.kind === "cluster" && attachment.clusterName === cluster.name,
      );
      const subnets = enis.map((eni) => lookup.subnets.get(eni.subnetId));
      const basis = [
        cluster,
        enis.map((eni) => [eni.eniId, eni.addresses, eni.attachment]),
        subnets.map((s) => s?.cidr),
      ];
      return { id: `cluster ${cluster.name}`, basis, items: () => planCluster(cid, cluster, enis, lookup) };
    }),
    ...attached.map((eni) => {
      const subnet = lookup.subnets.get(eni.subnetId)!;
      const hopLimit = hopLimitOf(eni, lookup);
      const gatewayed = lookup.gatewayed.has(eni.vpcId);
      const untracked = untrackedProtocols(eni.securityGroupIds.map((groupId) => lookup.groups.get(groupId)!));
      return {
        id: eni.eniId,
        basis: [eni, subnet.number, subnet.cidr, hopLimit, gatewayed, untracked],
        items: () => planEni({ cid, eni, subnet, hopLimit, gatewayed, untracked }),
      };
    }),
  ];
}

/** What AL2023 sets, whatever this machine's own values are. */
const guestSysctls = {
  "net.ipv4.ip_forward": 0,
  "net.ipv4.conf.all.rp_filter": 0,
  "net.ipv4.conf.default.rp_filter": 2,
  "net.ipv4.conf.all.arp_ignore": 0,
  "net.ipv4.conf.default.arp_ignore": 0,
  "net.ipv4.conf.all.proxy_arp": 0,
  "net.ipv4.conf.default.proxy_arp": 0,
  "net.ipv4.conf.default.accept_redirects": 0,
};

function ownerExists({ attachment, subnetId }: FabricEni, lookup: Lookup): boolean {
  if (!lookup.subnets.has(subnetId)) return false;
  switch (attachment?.kind) {
    case undefined:
      return false;
    case "instance":
      return lookup.instances.has(attachment.instanceId);
    case "nat-gateway":
      return lookup.natGateways.has(attachment.natGatewayId);
    case "cluster":
      return lookup.clusters.has(attachment.clusterName);
  }
}

function withKnownGroups(eni: FabricEni, { groups }: Lookup): FabricEni {
  if (eni.securityGroupIds.every((groupId) => groups.has(groupId))) return eni;
  return { ...eni, securityGroupIds: eni.securityGroupIds.filter((groupId) => groups.has(groupId)) };
}

function hopLimitOf({ attachment }: FabricEni, lookup: Lookup): number | undefined {
  if (attachment?.kind !== "instance") return undefined;
  return lookup.instances.get(attachment.instanceId)?.metadataOptions.httpPutResponseHopLimit;
}

function planGroup(cid: string, group: FabricState["securityGroups"][number]): Item[] {
  const netns = routerNetns(cid, group.vpcId);
  const set = (name: string): Item => ({ kind: "set", netns, name, type: "set", definition: "type ipv4_addr" });
  const chain = (direction: "ingress" | "egress"): Item => ({
    kind: "chain",
    netns,
    name: groupChain(group.groupId, direction),
    rules: groupRules(group, direction),
  });
  return [set(memberSet(group.groupId)), set(memberPrefixSet(group.groupId)), chain("ingress"), chain("egress")];
}

/** A prefix list is a set in every router whose groups refer to it. */
function planPrefixLists(state: FabricState): Unit[] {
  const uses = new Set(
    state.securityGroups.flatMap((group) =>
      group.rules.flatMap(({ peer }) => ("prefixListId" in peer ? [`${group.vpcId} ${peer.prefixListId}`] : [])),
    ),
  );
  return [...uses].map((use) => {
    const [vpcId = "", prefixListId = ""] = use.split(" ");
    const cidrs = state.prefixLists.find((list) => list.prefixListId === prefixListId)?.cidrs ?? [];
    const elements = cidrs.filter((cidr) => !cidr.includes(":"));
    return {
      id: `${prefixListId} in ${vpcId}`,
      basis: [elements],
      items: () => [
        {
          kind: "set",
          netns: routerNetns(state.clusterId, vpcId),
          name: prefixListSet(prefixListId),
          type: "set",
          definition: "type ipv4_addr; flags interval; auto-merge",
          elements,
        },
      ],
    };
  });
}

/** One pair of gates per combination of groups that an attached ENI carries. */
function planGates(cid: string, enis: readonly FabricEni[]): Unit[] {
  const gates = new Map<string, Unit>();
  for (const { vpcId, securityGroupIds, attachment } of enis) {
    if (attachment?.kind === "nat-gateway") continue;
    const id = `gates ${gateChain(securityGroupIds, "ingress")} in ${vpcId}`;
    if (gates.has(id)) continue;
    const chain = (direction: "ingress" | "egress"): Item => ({
      kind: "chain",
      netns: routerNetns(cid, vpcId),
      name: gateChain(securityGroupIds, direction),
      rules: gateRules(securityGroupIds, direction),
    });
    gates.set(id, { id, basis: [], items: () => [chain("ingress"), chain("egress")] });
  }
  return [...gates.values()];
}

/** Chains that give IMDS token replies the TTL some instance of the VPC asks for. */
function planHopLimits(state: FabricState): Unit[] {
  const uses = new Set(
    state.instances.map(({ vpcId, metadataOptions }) => `${vpcId} ${metadataOptions.httpPutResponseHopLimit}`),
  );
  return [...uses].map((use) => {
    const [vpcId = "", limit = ""] = use.split(" ");
    const netns = routerNetns(state.clusterId, vpcId);
    return {
      id: `hop limit ${use}`,
      basis: [],
      items: () => [{ kind: "chain", netns, name: `ttl_${limit}`, rules: [`ip ttl set ${limit}`] }],
    };
  });
}

/** The subnet's routes with targets as links and addresses; a target that cannot take packets is a blackhole. */
function resolveRoutes(subnet: FabricSubnet, lookup: Lookup): SubnetRoute[] {
  const table = lookup.routeTables.get(subnet.routeTableId);
  return (table?.routes ?? []).flatMap(({ cidr, target }): SubnetRoute[] => {
    if (cidr.includes(":")) return [];
    switch (target.kind) {
      case "local":
        return [];
      case "internet-gateway":
        return [lookup.gatewayed.has(subnet.vpcId) ? { cidr, by: "igw" } : { cidr, by: "nothing" }];
      case "nat-gateway": {
        const nat = lookup.natGateways.get(target.natGatewayId);
        return [throughEni(cidr, nat && lookup.enis.get(nat.eniId))];
      }
      case "eni": {
        const eni = lookup.enis.get(target.eniId);
        return [throughEni(cidr, eni?.sourceDestCheck === false ? eni : undefined)];
      }
      case "blackhole":
        return [{ cidr, by: "nothing" }];
    }
  });
}

function throughEni(cidr: string, eni: FabricEni | undefined): SubnetRoute {
  const via = eni?.addresses[0]?.address;
  if (eni?.attachment === undefined || via === undefined) return { cidr, by: "nothing" };
  return { cidr, by: "eni", number: eni.number, via };
}
