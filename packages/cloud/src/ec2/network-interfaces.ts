/**
 * ENIs: created with addresses and /28 prefixes from their subnet, attached to instances, deleted when detached.
 * Next to this: -addresses.ts (assign and unassign), -attachments.ts (attach, detach, attributes), -view.ts (answers and filters).
 */
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { randomMac } from "@underlay/addr/mac";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { disassociate } from "./addresses.ts";
import { applyFilters, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { eniFilters, renderEni } from "./network-interface-view.ts";
import { pageOf } from "./pages.ts";
import { takeAddresses, takeGiven, takePrefixes } from "./subnet-addresses.ts";
import { blockOf } from "./subnets.ts";
import { tagsFrom } from "./tags.ts";

export type EniAddress = {
  readonly address: string;
  /** Elastic (with its allocation) or automatic public address. */
  readonly publicAddress?: string;
  readonly allocationId?: string;
  readonly associationId?: string;
};

type AttachmentFacts = {
  readonly id: string;
  readonly attachTime: string;
  /** Until then it is "attaching" and has no link (the fault attach-time). */
  readonly readyAt?: string;
};

export type EniAttachment = AttachmentFacts &
  (
    | {
        readonly kind: "instance";
        readonly instanceId: string;
        readonly deviceIndex: number;
        readonly networkCardIndex: number;
        readonly deleteOnTermination: boolean;
      }
    | { readonly kind: "cluster"; readonly clusterName: string; readonly deviceIndex: number }
    | { readonly kind: "nat-gateway"; readonly natGatewayId: string }
  );

/** `ConnectionTrackingSpecification`: idle seconds. */
export type ConnectionTracking = {
  readonly tcpEstablished?: number;
  readonly udpStream?: number;
  readonly udp?: number;
};

export type Eni = {
  readonly id: string;
  /** Unique in the cloud: link names are made of it. */
  readonly number: number;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly availabilityZone: string;
  readonly mac: string;
  readonly description: string;
  readonly groupIds: readonly string[];
  readonly sourceDestCheck: boolean;
  readonly interfaceType: "interface" | "trunk" | "nat_gateway";
  /** The primary first. */
  readonly addresses: readonly EniAddress[];
  readonly prefixes: readonly string[];
  readonly connectionTracking?: ConnectionTracking;
  readonly attachment?: EniAttachment;
  /** The AWS service that made it, for requester-managed ENIs. */
  readonly requester?: string;
  readonly tags: Tags;
};

export type EniRequest = {
  readonly subnetId: string;
  readonly description: string;
  /** None: the VPC's default group. */
  readonly groupIds: readonly string[];
  readonly primaryAddress?: string | undefined;
  readonly secondaryAddresses?: readonly string[];
  readonly secondaryCount?: number | undefined;
  readonly prefixes?: readonly string[] | undefined;
  readonly prefixCount?: number | undefined;
  readonly interfaceType?: Eni["interfaceType"];
  readonly sourceDestCheck?: boolean;
  readonly requester?: string;
  readonly attachment?: EniAttachment;
  readonly connectionTracking?: ConnectionTracking;
  readonly tags: Tags;
};

/** Default quota of groups on one ENI. */
const mostGroups = 5;

/** Makes an ENI with its addresses, or throws EC2's error and takes nothing. */
export function createEni(world: World, request: EniRequest): Eni {
  const subnet = find(world, "subnet", request.subnetId);
  const block = blockOf(world, subnet);
  const primary =
    request.primaryAddress === undefined ? takeAddresses(block, 1) : takeGiven(block, [request.primaryAddress]);
  const others = [
    ...takeGiven(block, request.secondaryAddresses ?? []),
    ...takePrefixes(block, request.prefixes, request.prefixCount),
    ...takeAddresses(block, request.secondaryCount ?? 0),
  ];
  const attachment = request.attachment === undefined ? {} : { attachment: request.attachment };
  return world.store.put("eni", {
    id: newId("eni-"),
    number: world.store.next("eni"),
    vpcId: subnet.vpcId,
    subnetId: subnet.id,
    availabilityZone: subnet.availabilityZone,
    mac: newMac(world),
    description: request.description,
    groupIds: request.interfaceType === "nat_gateway" ? [] : groupsFor(world, subnet.vpcId, request.groupIds),
    sourceDestCheck: request.sourceDestCheck ?? true,
    interfaceType: request.interfaceType ?? "interface",
    addresses: [...primary, ...others.filter((one) => !one.includes("/"))].map((address) => ({ address })),
    prefixes: others.filter((one) => one.includes("/")),
    ...(request.connectionTracking === undefined ? {} : { connectionTracking: request.connectionTracking }),
    ...attachment,
    ...(request.requester === undefined ? {} : { requester: request.requester }),
    tags: request.tags,
  });
}

/** Gives the ENI's addresses back and ends what is mapped to them. */
export function removeEni(world: World, eni: Eni): void {
  for (const { allocationId } of eni.addresses) {
    const address = allocationId === undefined ? undefined : world.store.get("address", allocationId);
    if (address !== undefined) disassociate(world, address);
  }
  world.store.remove("eni", eni.id);
}

/** The groups of an ENI: those given, which must be of its VPC and not too many, or the default group. */
export function groupsFor(world: World, vpcId: string, groupIds: readonly string[]): string[] {
  if (groupIds.length === 0) {
    const standard = world.store
      .all("security-group")
      .find((group) => group.vpcId === vpcId && group.name === "default");
    return standard === undefined ? [] : [standard.id];
  }
  const groups = findAll(world, "security-group", [...new Set(groupIds)]);
  const foreign = groups.find((group) => group.vpcId !== vpcId);
  if (foreign !== undefined)
    throw new ApiError("InvalidParameter", `Security group ${foreign.id} and the subnet belong to different networks.`);
  if (groups.length > mostGroups)
    throw new ApiError(
      "SecurityGroupsPerInterfaceLimitExceeded",
      "The maximum number of security groups per interface has been reached.",
    );
  return groups.map((group) => group.id);
}

export const networkInterfaceOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateNetworkInterface: {
    takes: [
      "SubnetId",
      "Description",
      "Groups",
      "PrivateIpAddress",
      "PrivateIpAddresses",
      "SecondaryPrivateIpAddressCount",
      "Ipv4Prefixes",
      "Ipv4PrefixCount",
      "InterfaceType",
      "ConnectionTrackingSpecification",
      "TagSpecifications",
    ],
    run(input) {
      if (input.InterfaceType !== undefined && input.InterfaceType !== "interface")
        throw new ApiError("UnsupportedOperation", `The interface type ${input.InterfaceType} is not supported.`);
      const prefixes = input.Ipv4Prefixes?.map(({ Ipv4Prefix = "" }) => Ipv4Prefix);
      const count = input.SecondaryPrivateIpAddressCount;
      const secondary = (input.PrivateIpAddresses ?? [])
        .filter(({ Primary }) => Primary !== true)
        .map(({ PrivateIpAddress = "" }) => PrivateIpAddress);
      const wantsPrefixes = (prefixes?.length ?? 0) > 0 || (input.Ipv4PrefixCount ?? 0) > 0;
      if (wantsPrefixes && ((count ?? 0) > 0 || secondary.length > 0))
        throw new ApiError(
          "InvalidParameterCombination",
          "You can't specify both secondary private IP addresses and IPv4 prefixes in one request.",
        );
      const eni = createEni(world, {
        subnetId: input.SubnetId ?? "",
        description: input.Description ?? "",
        groupIds: input.Groups ?? [],
        primaryAddress:
          input.PrivateIpAddress ?? input.PrivateIpAddresses?.find(({ Primary }) => Primary === true)?.PrivateIpAddress,
        secondaryAddresses: secondary,
        secondaryCount: count,
        prefixes,
        prefixCount: input.Ipv4PrefixCount,
        ...(input.ConnectionTrackingSpecification === undefined
          ? {}
          : { connectionTracking: trackingFrom(input.ConnectionTrackingSpecification) }),
        tags: tagsFrom(input.TagSpecifications, "network-interface"),
      });
      return {
        NetworkInterface: { ...renderEni(world, eni), Status: "pending" },
        ...(input.ClientToken === undefined ? {} : { ClientToken: input.ClientToken }),
      };
    },
  },

  DescribeNetworkInterfaces: {
    takes: ["NetworkInterfaceIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const ids = input.NetworkInterfaceIds;
      const given = ids?.length ? findAll(world, "eni", ids) : world.store.all("eni");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, eniFilters(world)), input, { ids });
      return { NetworkInterfaces: page.map((eni) => renderEni(world, eni)), ...next };
    },
  },

  DeleteNetworkInterface: {
    takes: ["NetworkInterfaceId"],
    run({ NetworkInterfaceId = "" }) {
      const eni = find(world, "eni", NetworkInterfaceId);
      requireOwn(eni);
      if (eni.attachment !== undefined)
        throw new ApiError("InvalidParameterValue", `Network interface '${eni.id}' is currently in use.`);
      removeEni(world, eni);
      return {};
    },
  },
});

/** ENIs that an AWS service made are that service's to change. */
export function requireOwn(eni: Eni): void {
  if (eni.requester !== undefined)
    throw new ApiError("OperationNotPermitted", `You are not allowed to manage the network interface '${eni.id}'.`);
}

export function trackingFrom(given: {
  TcpEstablishedTimeout?: number | undefined;
  UdpStreamTimeout?: number | undefined;
  UdpTimeout?: number | undefined;
}): ConnectionTracking {
  const bounds = { TcpEstablishedTimeout: [60, 432_000], UdpStreamTimeout: [60, 180], UdpTimeout: [30, 60] } as const;
  for (const [name, [least, most]] of Object.entries(bounds)) {
    const value = given[name as keyof typeof bounds];
    if (value !== undefined && (value < least || value > most))
      throw new ApiError(
        "InvalidParameterValue",
        `Value (${value}) for parameter ${name} is invalid. It must be between ${least} and ${most} seconds.`,
      );
  }
  return {
    ...(given.TcpEstablishedTimeout === undefined ? {} : { tcpEstablished: given.TcpEstablishedTimeout }),
    ...(given.UdpStreamTimeout === undefined ? {} : { udpStream: given.UdpStreamTimeout }),
    ...(given.UdpTimeout === undefined ? {} : { udp: given.UdpTimeout }),
  };
}

function newMac(world: World): string {
  const taken = new Set(world.store.all("eni").map(({ mac }) => mac));
  for (;;) {
    const mac = randomMac(Math.random);
    if (!taken.has(mac)) return mac;
  }
}
