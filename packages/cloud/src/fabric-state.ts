/** The store's records as the fabric wants them: plain, whole, in a stable order. Pure. */
import type {
  Change,
  FabricCluster,
  FabricEni,
  FabricInstance,
  FabricNatGateway,
  FabricRouteTable,
  FabricRouteTarget,
  FabricState,
  FabricSubnet,
} from "./fabric/seam.ts";
import { allPrefixLists } from "./ec2/prefix-lists.ts";
import { aclOf, type NetworkAcl } from "./ec2/network-acls.ts";
import { isBlackhole, routeTableOf, type Route, type RouteTable } from "./ec2/route-tables.ts";
import { isAttaching } from "./ec2/attaching.ts";
import type { Eni } from "./ec2/network-interfaces.ts";
import type { Instance } from "./ec2/instances.ts";
import type { Kinds, World } from "./store/kinds.ts";
import type { StoreChange } from "./store/store.ts";

export function fabricState(world: World, clusterId: string): FabricState {
  const { store } = world;
  const rules = Map.groupBy(store.all("security-group-rule"), (rule) => rule.groupId);
  return {
    clusterId,
    region: world.region,
    accountId: world.accountId,
    vpcs: store.all("vpc").map((vpc) => ({
      vpcId: vpc.id,
      cidrs: vpc.cidrs.map(({ cidr }) => cidr),
      enableDnsSupport: vpc.enableDnsSupport,
      enableDnsHostnames: vpc.enableDnsHostnames,
    })),
    subnets: store.all("subnet").map((subnet): FabricSubnet => ({
      subnetId: subnet.id,
      number: subnet.number,
      vpcId: subnet.vpcId,
      cidr: subnet.cidr,
      availabilityZone: subnet.availabilityZone,
      routeTableId: routeTableOf(world, subnet)?.id ?? "",
      ...fabricAcl(aclOf(world, subnet)),
    })),
    enis: store.all("eni").map((eni) => fabricEni(world, eni)),
    instances: store.all("instance").flatMap(fabricInstance),
    securityGroups: store.all("security-group").map((group) => ({
      groupId: group.id,
      groupName: group.name,
      vpcId: group.vpcId,
      rules: (rules.get(group.id) ?? []).map((rule) => ({
        ruleId: rule.id,
        direction: rule.isEgress ? ("egress" as const) : ("ingress" as const),
        protocol: rule.protocol,
        fromPort: rule.fromPort,
        toPort: rule.toPort,
        peer: rule.peer,
      })),
    })),
    routeTables: store.all("route-table").map((table) => fabricRouteTable(world, table)),
    internetGateways: store
      .all("internet-gateway")
      .flatMap(({ id, vpcId }) => (vpcId === undefined ? [] : [{ internetGatewayId: id, vpcId }])),
    natGateways: store.all("nat-gateway").flatMap((gateway): FabricNatGateway[] => {
      const { eniId, privateAddress, publicAddress } = gateway;
      if (eniId === undefined || privateAddress === undefined || !["pending", "available"].includes(gateway.state))
        return [];
      const common = {
        natGatewayId: gateway.id,
        vpcId: gateway.vpcId,
        subnetId: gateway.subnetId,
        eniId,
        privateAddress,
      };
      return [publicAddress === undefined ? common : { ...common, publicAddress }];
    }),
    prefixLists: allPrefixLists(world).map((list) => ({
      prefixListId: list.id,
      name: list.name,
      cidrs: list.entries.map(({ cidr }) => cidr),
    })),
    clusters: store.all("cluster").map((cluster): FabricCluster => ({
      name: cluster.id,
      vpcId: cluster.vpcId,
      eniIds: cluster.eniIds,
      xeniAddresses: cluster.eniIds.map((id) => store.get("eni", id)?.addresses[0]?.address ?? ""),
      publicAddress: cluster.publicAddress,
      // DNS questions come in lower case.
      endpointName: cluster.endpointName.toLowerCase(),
      endpointPublicAccess: cluster.endpointPublicAccess,
      endpointPrivateAccess: cluster.endpointPrivateAccess,
      publicAccessCidrs: cluster.publicAccessCidrs,
      serviceCidr: cluster.serviceCidr,
    })),
  };
}

function fabricEni(world: World, eni: Eni): FabricEni {
  const common = {
    eniId: eni.id,
    number: eni.number,
    vpcId: eni.vpcId,
    subnetId: eni.subnetId,
    mac: eni.mac,
    securityGroupIds: eni.groupIds,
    sourceDestCheck: eni.sourceDestCheck,
    interfaceType: eni.interfaceType,
    addresses: eni.addresses.map(({ address, publicAddress }) =>
      publicAddress === undefined ? { address } : { address, publicAddress },
    ),
    prefixes: eni.prefixes,
  };
  const { attachment } = eni;
  if (attachment === undefined || isAttaching(world, eni)) return common;
  switch (attachment.kind) {
    case "instance": {
      const { instanceId, deviceIndex, networkCardIndex } = attachment;
      return {
        ...common,
        attachment: { kind: "instance", attachmentId: attachment.id, instanceId, deviceIndex, networkCardIndex },
      };
    }
    case "cluster":
      return {
        ...common,
        attachment: { kind: "cluster", clusterName: attachment.clusterName, deviceIndex: attachment.deviceIndex },
      };
    case "nat-gateway":
      return { ...common, attachment: { kind: "nat-gateway", natGatewayId: attachment.natGatewayId } };
  }
}

/** One that allows everything before anything else is not worth a packet's time. */
function fabricAcl(acl: NetworkAcl | undefined): Pick<FabricSubnet, "acl"> {
  if (acl === undefined) return {};
  const isOpen = [true, false].every((egress) => {
    const first = acl.entries.find((entry) => entry.egress === egress);
    return first?.action === "allow" && first.protocol === "-1" && first.cidr === "0.0.0.0/0";
  });
  return isOpen ? {} : { acl: acl.entries };
}

function fabricInstance(instance: Instance): FabricInstance[] {
  if (instance.state === "terminated") return [];
  const { id, keyName, role, userData } = instance;
  return [
    {
      instanceId: id,
      // One that is shutting down keeps its links until its last process is gone.
      state: instance.state === "pending" ? "pending" : "running",
      vpcId: instance.vpcId,
      subnetId: instance.subnetId,
      availabilityZone: instance.availabilityZone,
      instanceType: instance.instanceType,
      imageId: instance.imageId,
      ...(keyName === undefined ? {} : { keyName }),
      launchTime: instance.launchTime,
      privateDnsName: instance.privateDnsName,
      privateAddress: instance.privateAddress,
      primaryEniId: instance.primaryEniId,
      reservationId: instance.reservationId,
      amiLaunchIndex: instance.amiLaunchIndex,
      tags: instance.tags,
      metadataOptions: instance.metadataOptions,
      ...(role === undefined ? {} : { role }),
      ...(userData === undefined ? {} : { userData }),
    },
  ];
}

function fabricRouteTable(world: World, table: RouteTable): FabricRouteTable {
  const blocks = world.store.get("vpc", table.vpcId)?.cidrs ?? [];
  return {
    routeTableId: table.id,
    vpcId: table.vpcId,
    routes: [
      ...blocks.map(({ cidr }) => ({ cidr, target: { kind: "local" } as const })),
      ...table.routes.map((route) => ({ cidr: route.cidr, target: fabricTarget(world, table, route) })),
    ],
  };
}

function fabricTarget(world: World, table: RouteTable, route: Route): FabricRouteTarget {
  if (isBlackhole(world, table, route)) return { kind: "blackhole" };
  const { kind, id } = route.target;
  switch (kind) {
    case "internet-gateway":
      return { kind, internetGatewayId: id };
    case "nat-gateway":
      return { kind, natGatewayId: id };
    case "eni":
      return { kind, eniId: id };
  }
}

const touched: { readonly [K in keyof Kinds]?: keyof FabricState } = {
  vpc: "vpcs",
  subnet: "subnets",
  eni: "enis",
  instance: "instances",
  "security-group": "securityGroups",
  "security-group-rule": "securityGroups",
  "route-table": "routeTables",
  "network-acl": "subnets",
  "internet-gateway": "internetGateways",
  "nat-gateway": "natGateways",
  "prefix-list": "prefixLists",
  cluster: "clusters",
};

/** What some commits mean to the fabric; undefined when nothing. */
export function fabricChange(changes: readonly StoreChange<keyof Kinds>[]): Change | undefined {
  const kinds = new Set<keyof FabricState>();
  const ids = new Set<string>();
  for (const { kind, id } of changes) {
    const key = touched[kind];
    if (key === undefined) continue;
    kinds.add(key);
    ids.add(id);
  }
  return kinds.size === 0 ? undefined : { kinds: [...kinds], ids: [...ids] };
}
