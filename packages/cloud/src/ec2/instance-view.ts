/** How an instance looks from outside, and to filters. */
import type { Instance as InstanceOutput } from "@underlay/aws/generated/ec2-types";
import type { World } from "../store/kinds.ts";
import type { FilterTable } from "./filters.ts";
import { capacityOf, limitsOf } from "./instance-types.ts";
import type { Instance, InstanceState } from "./instances.ts";
import { enisOf } from "./network-interface-attachments.ts";
import { groupsOf, publicDnsName, renderInstanceEni } from "./network-interface-view.ts";
import { tagList } from "./tags.ts";

const stateCodes: Readonly<Record<InstanceState, number>> = {
  pending: 0,
  running: 16,
  "shutting-down": 32,
  terminated: 48,
};

export function stateOf(state: InstanceState): { Code: number; Name: InstanceState } {
  return { Code: stateCodes[state], Name: state };
}

export function renderInstance(world: World, instance: Instance): InstanceOutput {
  const enis = enisOf(world, instance.id);
  const primary = enis.find((eni) => eni.id === instance.primaryEniId);
  const publicAddress = primary?.addresses[0]?.publicAddress;
  const alive = instance.state !== "terminated";
  const { metadataOptions: metadata } = instance;
  return {
    Architecture: /^(a1|[a-z]+\d+g[a-z]*)\./.test(instance.instanceType) ? "arm64" : "x86_64",
    BlockDeviceMappings: [],
    EbsOptimized: false,
    EnaSupport: true,
    Hypervisor: "xen",
    ...(instance.role === undefined
      ? {}
      : { IamInstanceProfile: { Arn: instance.role.profileArn, Id: instance.role.profileId } }),
    NetworkInterfaces: enis.map((eni) => renderInstanceEni(world, eni)),
    RootDeviceName: "/dev/xvda",
    RootDeviceType: "ebs",
    SecurityGroups: primary === undefined ? [] : groupsOf(world, primary),
    SourceDestCheck: primary?.sourceDestCheck,
    ...(instance.stateReason === undefined
      ? {}
      : { StateReason: { Code: instance.stateReason.code, Message: instance.stateReason.message } }),
    Tags: tagList(instance.tags),
    VirtualizationType: "hvm",
    CpuOptions: { CoreCount: Math.max(1, (capacityOf(instance.instanceType)?.cpus ?? 2) / 2), ThreadsPerCore: 2 },
    MetadataOptions: {
      State: "applied",
      HttpTokens: metadata.httpTokens,
      HttpPutResponseHopLimit: metadata.httpPutResponseHopLimit,
      HttpEndpoint: metadata.httpEndpoint,
      HttpProtocolIpv6: "disabled",
      InstanceMetadataTags: metadata.instanceMetadataTags,
    },
    PlatformDetails: "Linux/UNIX",
    PrivateDnsNameOptions: {
      HostnameType: "ip-name",
      EnableResourceNameDnsARecord: false,
      EnableResourceNameDnsAAAARecord: false,
    },
    InstanceId: instance.id,
    ImageId: instance.imageId,
    State: stateOf(instance.state),
    PrivateDnsName: alive ? instance.privateDnsName : "",
    PublicDnsName: publicAddress === undefined ? "" : publicDnsName(world, instance.vpcId, publicAddress),
    StateTransitionReason:
      instance.stateReason === undefined
        ? ""
        : `User initiated (${instance.stateReason.at.slice(0, 19).replace("T", " ")} GMT)`,
    ...(instance.keyName === undefined ? {} : { KeyName: instance.keyName }),
    AmiLaunchIndex: instance.amiLaunchIndex,
    ProductCodes: [],
    InstanceType: instance.instanceType,
    LaunchTime: new Date(instance.launchTime),
    Placement: { AvailabilityZone: instance.availabilityZone, GroupName: "", Tenancy: "default" },
    Monitoring: { State: "disabled" },
    ...(alive ? { SubnetId: instance.subnetId, VpcId: instance.vpcId, PrivateIpAddress: instance.privateAddress } : {}),
    ...(publicAddress === undefined ? {} : { PublicIpAddress: publicAddress }),
  };
}

export const instanceFilters = (world: World): FilterTable<Instance> => {
  const enis = (instance: Instance) => enisOf(world, instance.id);
  const primary = (instance: Instance) => world.store.get("eni", instance.primaryEniId);
  return {
    architecture: (instance) => [renderInstance(world, instance).Architecture],
    "availability-zone": (instance) => [instance.availabilityZone],
    "dns-name": (instance) => [renderInstance(world, instance).PublicDnsName],
    "group-id": (instance) => primary(instance)?.groupIds ?? [],
    "group-name": (instance) =>
      (primary(instance)?.groupIds ?? []).map((id) => world.store.get("security-group", id)?.name),
    hypervisor: (instance) => [limitsOf(instance.instanceType).hypervisor === "unknown" ? undefined : "xen"],
    "iam-instance-profile.arn": (instance) => [instance.role?.profileArn],
    "iam-instance-profile.id": (instance) => [instance.role?.profileId],
    "image-id": (instance) => [instance.imageId],
    "instance-id": (instance) => [instance.id],
    "instance-state-code": (instance) => [stateCodes[instance.state]],
    "instance-state-name": (instance) => [instance.state],
    "instance-type": (instance) => [instance.instanceType],
    "instance.group-id": (instance) => primary(instance)?.groupIds ?? [],
    "ip-address": (instance) => [primary(instance)?.addresses[0]?.publicAddress],
    "key-name": (instance) => [instance.keyName],
    "launch-time": (instance) => [instance.launchTime],
    "network-interface.addresses.private-ip-address": (instance) =>
      enis(instance).flatMap((eni) => eni.addresses.map(({ address }) => address)),
    "network-interface.attachment.attachment-id": (instance) => enis(instance).map((eni) => eni.attachment?.id),
    "network-interface.group-id": (instance) => enis(instance).flatMap((eni) => eni.groupIds),
    "network-interface.mac-address": (instance) => enis(instance).map((eni) => eni.mac),
    "network-interface.network-interface-id": (instance) => enis(instance).map((eni) => eni.id),
    "network-interface.subnet-id": (instance) => enis(instance).map((eni) => eni.subnetId),
    "network-interface.vpc-id": (instance) => enis(instance).map((eni) => eni.vpcId),
    "owner-id": () => [world.accountId],
    "private-dns-name": (instance) => [instance.privateDnsName],
    "private-ip-address": (instance) => [instance.privateAddress],
    "reservation-id": (instance) => [instance.reservationId],
    "source-dest-check": (instance) => [primary(instance)?.sourceDestCheck],
    "subnet-id": (instance) => [instance.subnetId],
    tenancy: () => ["default"],
    "vpc-id": (instance) => [instance.vpcId],
  };
};
