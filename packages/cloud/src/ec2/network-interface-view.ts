/** How an ENI looks from outside: in DescribeNetworkInterfaces, in DescribeInstances, and to filters. */
import type {
  InstanceNetworkInterface,
  NetworkInterface,
  NetworkInterfaceAssociation,
} from "@underlay/aws/generated/ec2-types";
import { isAttaching } from "./attaching.ts";
import type { World } from "../store/kinds.ts";
import type { FilterTable } from "./filters.ts";
import { zoneIdOf } from "./zones.ts";
import type { Eni, EniAddress } from "./network-interfaces.ts";
import { tagList } from "./tags.ts";

/** `ip-10-42-1-2.us-west-2.compute.internal`. */
export function privateDnsName(world: World, address: string): string {
  const domain = world.region === "us-east-1" ? "ec2.internal" : `${world.region}.compute.internal`;
  return `ip-${address.replace(/\./g, "-")}.${domain}`;
}

/** The public name, in VPCs with DNS host names. */
export function publicDnsName(world: World, vpcId: string, address: string): string {
  if (world.store.get("vpc", vpcId)?.enableDnsHostnames !== true) return "";
  const domain = world.region === "us-east-1" ? "compute-1.amazonaws.com" : `${world.region}.compute.amazonaws.com`;
  return `ec2-${address.replace(/\./g, "-")}.${domain}`;
}

export function renderEni(world: World, eni: Eni): NetworkInterface {
  const primary = eni.addresses[0];
  return {
    ...(primary?.publicAddress === undefined ? {} : { Association: association(world, eni, primary) }),
    ...(eni.attachment === undefined ? {} : { Attachment: attachmentOf(world, eni) }),
    AvailabilityZone: eni.availabilityZone,
    ...(eni.connectionTracking === undefined
      ? {}
      : {
          ConnectionTrackingConfiguration: {
            TcpEstablishedTimeout: eni.connectionTracking.tcpEstablished,
            UdpStreamTimeout: eni.connectionTracking.udpStream,
            UdpTimeout: eni.connectionTracking.udp,
          },
        }),
    Description: eni.description,
    Groups: groupsOf(world, eni),
    InterfaceType: eni.interfaceType,
    Ipv6Addresses: [],
    MacAddress: eni.mac,
    NetworkInterfaceId: eni.id,
    OwnerId: world.accountId,
    ...(hasPrivateName(world, eni) ? { PrivateDnsName: privateDnsName(world, primary?.address ?? "") } : {}),
    PrivateIpAddress: primary?.address,
    PrivateIpAddresses: eni.addresses.map((one, index) => ({
      ...(one.publicAddress === undefined ? {} : { Association: association(world, eni, one) }),
      Primary: index === 0,
      ...(hasPrivateName(world, eni) ? { PrivateDnsName: privateDnsName(world, one.address) } : {}),
      PrivateIpAddress: one.address,
    })),
    ...(eni.prefixes.length === 0 ? {} : { Ipv4Prefixes: eni.prefixes.map((Ipv4Prefix) => ({ Ipv4Prefix })) }),
    ...(eni.requester === undefined ? {} : { RequesterId: eni.requester }),
    RequesterManaged: eni.requester !== undefined,
    SourceDestCheck: eni.sourceDestCheck,
    Status: statusOf(eni),
    SubnetId: eni.subnetId,
    TagSet: tagList(eni.tags),
    VpcId: eni.vpcId,
    Operator: { Managed: false },
    AvailabilityZoneId: zoneIdOf(world, eni.availabilityZone),
  };
}

export function statusOf(eni: Eni): "available" | "in-use" {
  return eni.attachment === undefined ? "available" : "in-use";
}

/** The ENI inside an instance's description. */
export function renderInstanceEni(world: World, eni: Eni): InstanceNetworkInterface {
  const { Attachment, PrivateIpAddresses = [], Association, ...rest } = renderEni(world, eni);
  const shortAssociation = (full: NetworkInterfaceAssociation | undefined) =>
    full === undefined
      ? {}
      : { Association: { IpOwnerId: full.IpOwnerId, PublicDnsName: full.PublicDnsName, PublicIp: full.PublicIp } };
  return {
    ...shortAssociation(Association),
    Attachment: {
      AttachTime: Attachment?.AttachTime,
      AttachmentId: Attachment?.AttachmentId,
      DeleteOnTermination: Attachment?.DeleteOnTermination,
      DeviceIndex: Attachment?.DeviceIndex,
      Status: Attachment?.Status,
      NetworkCardIndex: Attachment?.NetworkCardIndex,
    },
    Description: rest.Description,
    Groups: rest.Groups,
    Ipv6Addresses: [],
    MacAddress: rest.MacAddress,
    NetworkInterfaceId: rest.NetworkInterfaceId,
    OwnerId: rest.OwnerId,
    ...(rest.PrivateDnsName === undefined ? {} : { PrivateDnsName: rest.PrivateDnsName }),
    PrivateIpAddress: rest.PrivateIpAddress,
    PrivateIpAddresses: PrivateIpAddresses.map(({ Association: full, ...address }) => ({
      ...shortAssociation(full),
      ...address,
    })),
    SourceDestCheck: rest.SourceDestCheck,
    Status: rest.Status,
    SubnetId: rest.SubnetId,
    VpcId: rest.VpcId,
    InterfaceType: rest.InterfaceType,
    ...(rest.Ipv4Prefixes === undefined ? {} : { Ipv4Prefixes: rest.Ipv4Prefixes }),
  };
}

export function groupsOf(world: World, eni: Eni): { GroupId: string; GroupName: string }[] {
  return eni.groupIds.map((GroupId) => ({
    GroupId,
    GroupName: world.store.get("security-group", GroupId)?.name ?? "",
  }));
}

function hasPrivateName(world: World, eni: Eni): boolean {
  return world.store.get("vpc", eni.vpcId)?.enableDnsHostnames === true;
}

function association(world: World, eni: Eni, address: EniAddress): NetworkInterfaceAssociation {
  return {
    ...(address.allocationId === undefined
      ? {}
      : { AllocationId: address.allocationId, AssociationId: address.associationId }),
    IpOwnerId: address.allocationId === undefined ? "amazon" : world.accountId,
    PublicDnsName: publicDnsName(world, eni.vpcId, address.publicAddress ?? ""),
    PublicIp: address.publicAddress,
  };
}

function attachmentOf(world: World, eni: Eni): NetworkInterface["Attachment"] {
  const { attachment } = eni;
  if (attachment === undefined) return undefined;
  const common = {
    AttachTime: new Date(attachment.attachTime),
    AttachmentId: attachment.id,
    Status: isAttaching(world, eni) ? "attaching" : "attached",
  };
  if (attachment.kind === "instance")
    return {
      ...common,
      DeleteOnTermination: attachment.deleteOnTermination,
      DeviceIndex: attachment.deviceIndex,
      NetworkCardIndex: attachment.networkCardIndex,
      InstanceId: attachment.instanceId,
      InstanceOwnerId: world.accountId,
    };
  // What AWS services hold belongs to an account of theirs.
  const owner = attachment.kind === "cluster" ? "amazon-eks" : "amazon-aws";
  return { ...common, DeleteOnTermination: false, DeviceIndex: 1, NetworkCardIndex: 0, InstanceOwnerId: owner };
}

export const eniFilters = (world: World): FilterTable<Eni> => {
  const attachment = (eni: Eni) => attachmentOf(world, eni);
  const mapped = (eni: Eni) => eni.addresses.filter((one) => one.publicAddress !== undefined);
  const owner = (eni: Eni) => mapped(eni).map((one) => (one.allocationId === undefined ? "amazon" : world.accountId));
  return {
    "addresses.association.owner-id": owner,
    "addresses.association.public-ip": (eni) => mapped(eni).map((one) => one.publicAddress),
    "addresses.primary": (eni) => eni.addresses.map((_, index) => index === 0),
    "addresses.private-ip-address": (eni) => eni.addresses.map((one) => one.address),
    "association.allocation-id": (eni) => mapped(eni).map((one) => one.allocationId),
    "association.association-id": (eni) => mapped(eni).map((one) => one.associationId),
    "association.ip-owner-id": owner,
    "association.public-dns-name": (eni) =>
      mapped(eni).map((one) => publicDnsName(world, eni.vpcId, one.publicAddress ?? "")),
    "association.public-ip": (eni) => mapped(eni).map((one) => one.publicAddress),
    "attachment.attach-time": (eni) => [eni.attachment?.attachTime],
    "attachment.attachment-id": (eni) => [eni.attachment?.id],
    "attachment.delete-on-termination": (eni) => [attachment(eni)?.DeleteOnTermination],
    "attachment.device-index": (eni) => [attachment(eni)?.DeviceIndex],
    "attachment.instance-id": (eni) => [attachment(eni)?.InstanceId],
    "attachment.instance-owner-id": (eni) => [attachment(eni)?.InstanceOwnerId],
    "attachment.status": (eni) => [attachment(eni)?.Status],
    "availability-zone": (eni) => [eni.availabilityZone],
    "availability-zone-id": (eni) => [zoneIdOf(world, eni.availabilityZone)],
    description: (eni) => [eni.description],
    "group-id": (eni) => eni.groupIds,
    "group-name": (eni) => groupsOf(world, eni).map(({ GroupName }) => GroupName),
    "interface-type": (eni) => [eni.interfaceType],
    "ipv6-addresses.ipv6-address": () => [],
    "mac-address": (eni) => [eni.mac],
    "network-interface-id": (eni) => [eni.id],
    "operator.managed": () => [false],
    "operator.principal": () => [],
    "owner-id": () => [world.accountId],
    "private-dns-name": (eni) =>
      hasPrivateName(world, eni) ? eni.addresses.map((one) => privateDnsName(world, one.address)) : [],
    "private-ip-address": (eni) => [eni.addresses[0]?.address],
    "requester-id": (eni) => [eni.requester],
    "requester-managed": (eni) => [eni.requester !== undefined],
    "source-dest-check": (eni) => [eni.sourceDestCheck],
    status: (eni) => [statusOf(eni)],
    "subnet-id": (eni) => [eni.subnetId],
    "vpc-id": (eni) => [eni.vpcId],
  };
};
