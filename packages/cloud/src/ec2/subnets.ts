/** Subnets, and the free addresses in each: five reserved, every address counts one, every /28 prefix sixteen. */
import type { Ec2Actions, Subnet as SubnetOutput } from "@underlay/aws/generated/ec2-types";
import { SubnetBlock } from "@underlay/addr/block";
import { overlaps, parseCidr, sizeOf } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { requireIpv4Cidr } from "./cidr-input.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { forgetSubnet } from "./network-acls.ts";
import { pageOf } from "./pages.ts";
import { tagList, tagsFrom } from "./tags.ts";
import { requireZone, zoneIdOf } from "./zones.ts";
import { liesInVpc } from "./vpcs.ts";

export type Subnet = {
  readonly id: string;
  /** Unique in its VPC; the upper half of a packet's mark. */
  readonly number: number;
  readonly vpcId: string;
  readonly cidr: string;
  readonly availabilityZone: string;
  readonly mapPublicIpOnLaunch: boolean;
  readonly hostnameType: "ip-name" | "resource-name";
  readonly tags: Tags;
};

export const subnetOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateSubnet: {
    takes: ["VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId", "TagSpecifications"],
    run(input) {
      const vpc = find(world, "vpc", input.VpcId ?? "");
      if (input.CidrBlock === undefined)
        throw new ApiError("MissingParameter", "Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided");
      const cidr = requireIpv4Cidr(input.CidrBlock, { code: "InvalidSubnet.Range", least: 16, most: 28 });
      if (!liesInVpc(vpc, cidr)) throw new ApiError("InvalidSubnet.Range", `The CIDR '${cidr}' is invalid.`);
      if (world.store.all("subnet").some((other) => other.vpcId === vpc.id && overlaps(other.cidr, cidr)))
        throw new ApiError("InvalidSubnet.Conflict", `The CIDR '${cidr}' conflicts with another subnet`);
      const subnet = world.store.put("subnet", {
        id: newId("subnet-"),
        number: world.store.next(`subnet:${vpc.id}`),
        vpcId: vpc.id,
        cidr,
        availabilityZone: requireZone(world, input.AvailabilityZone, input.AvailabilityZoneId),
        mapPublicIpOnLaunch: false,
        hostnameType: "ip-name",
        tags: tagsFrom(input.TagSpecifications, "subnet"),
      });
      return { Subnet: renderSubnet(world, subnet) };
    },
  },

  DescribeSubnets: {
    takes: ["SubnetIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const given = input.SubnetIds?.length ? findAll(world, "subnet", input.SubnetIds) : world.store.all("subnet");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, {
        ids: input.SubnetIds,
      });
      return { Subnets: page.map((subnet) => renderSubnet(world, subnet)), ...next };
    },
  },

  DeleteSubnet: {
    takes: ["SubnetId"],
    run({ SubnetId = "" }) {
      const subnet = find(world, "subnet", SubnetId);
      if (world.store.all("eni").some((eni) => eni.subnetId === SubnetId))
        throw new ApiError("DependencyViolation", `The subnet '${SubnetId}' has dependencies and cannot be deleted.`);
      for (const table of world.store.all("route-table"))
        if (table.associations.some((one) => one.subnetId === SubnetId))
          world.store.put("route-table", {
            ...table,
            associations: table.associations.filter((one) => one.subnetId !== SubnetId),
          });
      forgetSubnet(world, subnet.id);
      world.store.remove("subnet", subnet.id);
      return {};
    },
  },

  ModifySubnetAttribute: {
    takes: ["SubnetId", "MapPublicIpOnLaunch", "PrivateDnsHostnameTypeOnLaunch"],
    run({ SubnetId = "", MapPublicIpOnLaunch, PrivateDnsHostnameTypeOnLaunch }) {
      const subnet = find(world, "subnet", SubnetId);
      world.store.put("subnet", {
        ...subnet,
        mapPublicIpOnLaunch: MapPublicIpOnLaunch?.Value ?? subnet.mapPublicIpOnLaunch,
        hostnameType: PrivateDnsHostnameTypeOnLaunch === "resource-name" ? "resource-name" : subnet.hostnameType,
      });
      return {};
    },
  },
});

/** The allocator of a subnet as its ENIs leave it. Throw-away: built again for every call. */
export function blockOf(world: World, subnet: Subnet): SubnetBlock {
  return new SubnetBlock(subnet.cidr, takenIn(world, subnet.id));
}

/** AvailableIpAddressCount. */
export function freeCount(world: World, subnet: Subnet): number {
  let free = Number(sizeOf(parseCidr(subnet.cidr))) - 5;
  for (const one of takenIn(world, subnet.id)) free -= one.includes("/") ? 16 : 1;
  return free;
}

function* takenIn(world: World, subnetId: string): Generator<string> {
  for (const eni of world.store.all("eni")) {
    if (eni.subnetId !== subnetId) continue;
    for (const { address } of eni.addresses) yield address;
    yield* eni.prefixes;
  }
}

export function renderSubnet(world: World, subnet: Subnet): SubnetOutput {
  return {
    AvailabilityZoneId: zoneIdOf(world, subnet.availabilityZone),
    MapCustomerOwnedIpOnLaunch: false,
    OwnerId: world.accountId,
    AssignIpv6AddressOnCreation: false,
    Ipv6CidrBlockAssociationSet: [],
    Tags: tagList(subnet.tags),
    SubnetArn: `arn:aws:ec2:${world.region}:${world.accountId}:subnet/${subnet.id}`,
    EnableDns64: false,
    Ipv6Native: false,
    PrivateDnsNameOptionsOnLaunch: {
      HostnameType: subnet.hostnameType,
      EnableResourceNameDnsARecord: false,
      EnableResourceNameDnsAAAARecord: false,
    },
    BlockPublicAccessStates: { InternetGatewayBlockMode: "off" },
    SubnetId: subnet.id,
    State: "available",
    VpcId: subnet.vpcId,
    CidrBlock: subnet.cidr,
    AvailableIpAddressCount: freeCount(world, subnet),
    AvailabilityZone: subnet.availabilityZone,
    DefaultForAz: false,
    MapPublicIpOnLaunch: subnet.mapPublicIpOnLaunch,
  };
}

const filtersOf = (world: World): FilterTable<Subnet> => ({
  "availability-zone": (subnet) => [subnet.availabilityZone],
  availabilityZone: (subnet) => [subnet.availabilityZone],
  "availability-zone-id": (subnet) => [zoneIdOf(world, subnet.availabilityZone)],
  "available-ip-address-count": (subnet) => [freeCount(world, subnet)],
  cidr: (subnet) => [subnet.cidr],
  "cidr-block": (subnet) => [subnet.cidr],
  cidrBlock: (subnet) => [subnet.cidr],
  "default-for-az": () => [false],
  defaultForAz: () => [false],
  "ipv6-native": () => [false],
  "map-public-ip-on-launch": (subnet) => [subnet.mapPublicIpOnLaunch],
  "owner-id": () => [world.accountId],
  state: () => ["available"],
  "subnet-arn": (subnet) => [`arn:aws:ec2:${world.region}:${world.accountId}:subnet/${subnet.id}`],
  "subnet-id": (subnet) => [subnet.id],
  "vpc-id": (subnet) => [subnet.vpcId],
});
