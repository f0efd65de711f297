/**
 * Instances: run, describe, terminate. The record says what should be; src/instances boots and ends the real thing, and
 * `instance-lifecycle.ts` moves the state along: pending → running → shutting-down → terminated.
 */
import type { Ec2Actions, RunInstancesRequest } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import { refuseOthers } from "../protocol/nested.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { takePublicAddress } from "./addresses.ts";
import { applyFilters, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { instanceFilters, renderInstance, stateOf } from "./instance-view.ts";
import { limitsOf } from "./instance-types.ts";
import { attachEni, enisOf } from "./network-interface-attachments.ts";
import { privateDnsName } from "./network-interface-view.ts";
import { createEni, groupsFor, removeEni, type Eni } from "./network-interfaces.ts";
import { pageOf } from "./pages.ts";
import { blockOf, freeCount, type Subnet } from "./subnets.ts";
import { tagsFrom } from "./tags.ts";

export type InstanceState = "pending" | "running" | "shutting-down" | "terminated";

export type MetadataOptions = {
  readonly httpTokens: "required" | "optional";
  readonly httpPutResponseHopLimit: number;
  readonly httpEndpoint: "enabled" | "disabled";
  readonly instanceMetadataTags: "enabled" | "disabled";
};

export type InstanceRole = { readonly name: string; readonly profileArn: string; readonly profileId: string };

export type Instance = {
  readonly id: string;
  readonly reservationId: string;
  readonly amiLaunchIndex: number;
  readonly imageId: string;
  readonly instanceType: string;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly availabilityZone: string;
  readonly privateAddress: string;
  readonly privateDnsName: string;
  readonly primaryEniId: string;
  readonly state: InstanceState;
  readonly stateReason?: { readonly code: string; readonly message: string; readonly at: string };
  readonly launchTime: string;
  readonly keyName?: string;
  readonly userData?: string;
  readonly metadataOptions: MetadataOptions;
  readonly role?: InstanceRole;
  readonly tags: Tags;
};

export type InstanceRequest = {
  readonly imageId: string;
  readonly instanceType: string;
  readonly count: number;
  readonly keyName?: string | undefined;
  readonly userData?: string | undefined;
  readonly metadataOptions?: Partial<MetadataOptions>;
  readonly role?: InstanceRole | undefined;
  readonly tags: Tags;
  readonly eniTags?: Tags;
  readonly network: NetworkRequest;
};

type NetworkRequest =
  | {
      readonly subnetId: string;
      readonly groupIds: readonly string[];
      readonly privateAddress?: string | undefined;
      readonly secondaryCount?: number | undefined;
      readonly prefixCount?: number | undefined;
      readonly publicAddress?: boolean | undefined;
      readonly deleteOnTermination?: boolean | undefined;
      readonly description?: string | undefined;
    }
  | { readonly eniId: string };

/** Long after this, EC2 forgets a terminated instance. */
export const terminatedVisibleMs = 3600_000;

/** Records the instances and their primary ENIs as pending. */
export function runInstances(world: World, request: InstanceRequest): Instance[] {
  const limits = limitsOf(request.instanceType);
  if ("subnetId" in request.network) {
    const subnet = find(world, "subnet", request.network.subnetId);
    if (freeCount(world, subnet) < request.count)
      throw new ApiError(
        "InsufficientFreeAddressesInSubnet",
        `There are not enough free addresses in subnet '${subnet.id}' to satisfy the requested number of instances.`,
      );
    const slots = 1 + (request.network.secondaryCount ?? 0) + (request.network.prefixCount ?? 0);
    if (slots > limits.ipv4PerEni)
      throw new ApiError("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes");
  }
  const reservationId = newId("r-");
  return Array.from({ length: request.count }, (_, index) => runOne(world, request, reservationId, index));
}

function runOne(world: World, request: InstanceRequest, reservationId: string, amiLaunchIndex: number): Instance {
  const eni = primaryEniFor(world, request);
  const privateAddress = eni.addresses[0]?.address ?? "";
  const instance = world.store.put("instance", {
    id: newId("i-"),
    reservationId,
    amiLaunchIndex,
    imageId: request.imageId,
    instanceType: request.instanceType,
    vpcId: eni.vpcId,
    subnetId: eni.subnetId,
    availabilityZone: eni.availabilityZone,
    privateAddress,
    privateDnsName: privateDnsName(world, privateAddress),
    primaryEniId: eni.id,
    state: "pending",
    launchTime: world.now().toISOString(),
    ...(request.keyName === undefined ? {} : { keyName: request.keyName }),
    ...(request.userData === undefined ? {} : { userData: request.userData }),
    metadataOptions: {
      httpTokens: "required",
      httpPutResponseHopLimit: 2,
      httpEndpoint: "enabled",
      instanceMetadataTags: "disabled",
      ...request.metadataOptions,
    },
    ...(request.role === undefined ? {} : { role: request.role }),
    tags: request.tags,
  });
  const own = "subnetId" in request.network ? (request.network.deleteOnTermination ?? true) : false;
  attachEni(world, eni, instance, {
    deviceIndex: 0,
    networkCardIndex: limitsOf(request.instanceType).defaultCard,
    deleteOnTermination: own,
  });
  return instance;
}

function primaryEniFor(world: World, { network, eniTags = {} }: InstanceRequest): Eni {
  if ("eniId" in network) {
    const eni = find(world, "eni", network.eniId);
    if (eni.attachment !== undefined)
      throw new ApiError("InvalidNetworkInterface.InUse", `Interface: [${eni.id}] in use.`);
    return eni;
  }
  const subnet = find(world, "subnet", network.subnetId);
  const eni = createEni(world, {
    subnetId: subnet.id,
    description: network.description ?? "",
    groupIds: groupsFor(world, subnet.vpcId, network.groupIds),
    primaryAddress: network.privateAddress ?? unusedAddress(world, subnet),
    secondaryCount: network.secondaryCount,
    prefixCount: network.prefixCount,
    tags: eniTags,
  });
  if (!(network.publicAddress ?? subnet.mapPublicIpOnLaunch)) return eni;
  const [primary, ...others] = eni.addresses;
  const mapped = { address: primary?.address ?? "", publicAddress: takePublicAddress(world) };
  return world.store.put("eni", { ...eni, addresses: [mapped, ...others] });
}

/**
 * An address that no terminated instance still visible had. EC2 picks at random, so that names made of addresses hardly ever
 * return; picking the lowest would give a new node the name of the one it replaces.
 */
function unusedAddress(world: World, subnet: Subnet): string | undefined {
  const block = blockOf(world, subnet);
  for (const one of world.store.all("instance"))
    if (one.state === "terminated" && one.subnetId === subnet.id) block.take(one.privateAddress);
  return block.takeLowest();
}

/** Begins the end of an instance; its address is gone for others only when it is terminated. */
export function terminateInstance(world: World, instance: Instance): Instance {
  if (instance.state === "terminated" || instance.state === "shutting-down") return instance;
  const at = world.now().toISOString();
  const stateReason = {
    code: "Client.UserInitiatedShutdown",
    message: "Client.UserInitiatedShutdown: User initiated shutdown",
    at,
  };
  return world.store.put("instance", { ...instance, state: "shutting-down", stateReason });
}

/** Ends it: ENIs with DeleteOnTermination go, others become available. */
export function finishTermination(world: World, instance: Instance): void {
  for (const eni of enisOf(world, instance.id)) {
    if (eni.attachment?.kind === "instance" && eni.attachment.deleteOnTermination) removeEni(world, eni);
    else {
      const { attachment: _, ...rest } = eni;
      world.store.put("eni", rest);
    }
  }
  world.store.put("instance", { ...instance, state: "terminated" });
}

export const instanceOperations = (world: World): OperationsOf<Ec2Actions> => ({
  RunInstances: {
    takes: [
      "ImageId",
      "InstanceType",
      "MinCount",
      "MaxCount",
      "SubnetId",
      "SecurityGroupIds",
      "PrivateIpAddress",
      "NetworkInterfaces",
      "UserData",
      "KeyName",
      "MetadataOptions",
      "IamInstanceProfile",
      "Placement",
      "TagSpecifications",
    ],
    run(input, call) {
      const instances = runInstances(world, requestFrom(world, input));
      return {
        ReservationId: instances[0]?.reservationId,
        OwnerId: world.accountId,
        Groups: [],
        Instances: instances.map((instance) => renderInstance(world, instance)),
        RequesterId: call.principal.userId,
      };
    },
  },

  DescribeInstances: {
    takes: ["InstanceIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const given = input.InstanceIds?.length
        ? findAll(world, "instance", input.InstanceIds)
        : world.store.all("instance");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, instanceFilters(world)), input, {
        ids: input.InstanceIds,
      });
      const reservations = Map.groupBy(page, (instance) => instance.reservationId);
      return {
        Reservations: [...reservations].map(([ReservationId, instances]) => ({
          ReservationId,
          OwnerId: world.accountId,
          Groups: [],
          Instances: instances.map((instance) => renderInstance(world, instance)),
        })),
        ...next,
      };
    },
  },

  DescribeInstanceStatus: {
    takes: ["InstanceIds", "Filters", "IncludeAllInstances", "MaxResults", "NextToken"],
    run(input) {
      const given = input.InstanceIds?.length
        ? findAll(world, "instance", input.InstanceIds)
        : world.store.all("instance");
      const seen = given.filter((instance) => input.IncludeAllInstances === true || instance.state === "running");
      const { page, ...next } = pageOf(applyFilters(seen, input.Filters, instanceFilters(world)), input, {
        ids: input.InstanceIds,
      });
      return {
        InstanceStatuses: page.map((instance) => {
          const status =
            instance.state === "running" ? "ok" : instance.state === "pending" ? "initializing" : "not-applicable";
          const details = [{ Name: "reachability", Status: instance.state === "running" ? "passed" : "initializing" }];
          return {
            AvailabilityZone: instance.availabilityZone,
            InstanceId: instance.id,
            InstanceState: stateOf(instance.state),
            InstanceStatus: { Details: details, Status: status },
            SystemStatus: { Details: details, Status: status },
            Events: [],
          };
        }),
        ...next,
      };
    },
  },

  TerminateInstances: {
    takes: ["InstanceIds"],
    run({ InstanceIds = [] }) {
      const changes = findAll(world, "instance", InstanceIds).map((before) => ({
        before,
        after: terminateInstance(world, before),
      }));
      return {
        TerminatingInstances: changes.map(({ before, after }) => ({
          InstanceId: before.id,
          CurrentState: stateOf(after.state),
          PreviousState: stateOf(before.state),
        })),
      };
    },
  },

  DescribeInstanceAttribute: {
    takes: ["InstanceId", "Attribute"],
    run({ InstanceId = "", Attribute }) {
      const instance = find(world, "instance", InstanceId);
      const eni = world.store.get("eni", instance.primaryEniId);
      switch (Attribute) {
        case "instanceType":
          return { InstanceId, InstanceType: { Value: instance.instanceType } };
        case "userData":
          return { InstanceId, UserData: instance.userData === undefined ? {} : { Value: instance.userData } };
        case "sourceDestCheck":
          return { InstanceId, SourceDestCheck: { Value: eni?.sourceDestCheck } };
        case "groupSet":
          return {
            InstanceId,
            Groups: (eni?.groupIds ?? []).map((GroupId) => ({
              GroupId,
              GroupName: world.store.get("security-group", GroupId)?.name,
            })),
          };
        case "disableApiTermination":
          return { InstanceId, DisableApiTermination: { Value: false } };
        case "instanceInitiatedShutdownBehavior":
          return { InstanceId, InstanceInitiatedShutdownBehavior: { Value: "stop" } };
        default:
          throw new ApiError(
            "InvalidParameterValue",
            `Value (${Attribute ?? ""}) for parameter attribute is not supported.`,
          );
      }
    },
  },

  ModifyInstanceAttribute: {
    takes: ["InstanceId", "SourceDestCheck", "Groups"],
    run({ InstanceId = "", SourceDestCheck, Groups }) {
      const instance = find(world, "instance", InstanceId);
      const eni = find(world, "eni", instance.primaryEniId);
      world.store.put("eni", {
        ...eni,
        sourceDestCheck: SourceDestCheck?.Value ?? eni.sourceDestCheck,
        groupIds: Groups?.length ? groupsFor(world, eni.vpcId, Groups) : eni.groupIds,
      });
      return {};
    },
  },

  ModifyInstanceMetadataOptions: {
    takes: ["InstanceId", "HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags"],
    run(input) {
      const instance = find(world, "instance", input.InstanceId ?? "");
      const changed = world.store.put("instance", {
        ...instance,
        metadataOptions: { ...instance.metadataOptions, ...metadataFrom(input) },
      });
      return { InstanceId: instance.id, InstanceMetadataOptions: renderInstance(world, changed).MetadataOptions };
    },
  },
});

function requestFrom(world: World, input: RunInstancesRequest): InstanceRequest {
  const { ImageId = "", MinCount = 1, MaxCount = 1, InstanceType = "m1.small" } = input;
  if (input.ImageId === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter ImageId");
  if (!/^ami-[0-9a-f]{8,17}$/.test(ImageId))
    throw new ApiError("InvalidAMIID.Malformed", `Invalid id: "${ImageId}" (expecting "ami-...")`);
  if (MinCount < 1 || MaxCount < MinCount)
    throw new ApiError("InvalidParameterValue", `Value (${MinCount}) for parameter minCount is invalid.`);
  return {
    imageId: ImageId,
    instanceType: InstanceType,
    count: MaxCount,
    keyName: input.KeyName,
    userData: input.UserData === "" ? undefined : input.UserData,
    metadataOptions: metadataFrom(input.MetadataOptions ?? {}),
    role: roleFrom(world, input.IamInstanceProfile),
    tags: tagsFrom(input.TagSpecifications, "instance", ["instance", "volume", "network-interface"]),
    eniTags: tagsFrom(input.TagSpecifications, "network-interface", ["instance", "volume", "network-interface"]),
    network: networkFrom(world, input),
  };
}

const specMembers = [
  "NetworkInterfaceId",
  "DeviceIndex",
  "NetworkCardIndex",
  "SubnetId",
  "Groups",
  "PrivateIpAddress",
  "SecondaryPrivateIpAddressCount",
  "Ipv4PrefixCount",
  "AssociatePublicIpAddress",
  "DeleteOnTermination",
  "Description",
];

function networkFrom(world: World, input: RunInstancesRequest): NetworkRequest {
  const [spec, ...more] = input.NetworkInterfaces ?? [];
  if (more.length > 0)
    throw new ApiError("UnsupportedOperation", "More than one NetworkInterface in RunInstances is not supported.");
  if (spec !== undefined && (input.SubnetId !== undefined || (input.SecurityGroupIds?.length ?? 0) > 0))
    throw new ApiError(
      "InvalidParameterCombination",
      "Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request",
    );
  refuseOthers(spec, specMembers, "NetworkInterface.1", "UnsupportedOperation");
  if (spec?.NetworkInterfaceId !== undefined) return { eniId: spec.NetworkInterfaceId };
  const subnetId = spec?.SubnetId ?? input.SubnetId ?? subnetInZone(world, input.Placement?.AvailabilityZone);
  return {
    subnetId,
    groupIds: spec?.Groups ?? input.SecurityGroupIds ?? [],
    privateAddress: spec?.PrivateIpAddress ?? input.PrivateIpAddress,
    secondaryCount: spec?.SecondaryPrivateIpAddressCount,
    prefixCount: spec?.Ipv4PrefixCount,
    publicAddress: spec?.AssociatePublicIpAddress,
    deleteOnTermination: spec?.DeleteOnTermination,
    description: spec?.Description,
  };
}

function subnetInZone(world: World, zone: string | undefined): string {
  throw new ApiError(
    "MissingInput",
    zone === undefined
      ? "No subnets found for the default VPC: name a subnet"
      : `No default subnet for availability zone: '${zone}'.`,
  );
}

function metadataFrom(input: {
  HttpTokens?: string | undefined;
  HttpPutResponseHopLimit?: number | undefined;
  HttpEndpoint?: string | undefined;
  InstanceMetadataTags?: string | undefined;
}): Partial<MetadataOptions> {
  const hops = input.HttpPutResponseHopLimit;
  if (hops !== undefined && (hops < 1 || hops > 64))
    throw new ApiError(
      "InvalidParameterValue",
      `Value (${hops}) for parameter HttpPutResponseHopLimit is invalid. It must be between 1 and 64.`,
    );
  return {
    ...(input.HttpTokens === undefined ? {} : { httpTokens: input.HttpTokens as MetadataOptions["httpTokens"] }),
    ...(hops === undefined ? {} : { httpPutResponseHopLimit: hops }),
    ...(input.HttpEndpoint === undefined
      ? {}
      : { httpEndpoint: input.HttpEndpoint as MetadataOptions["httpEndpoint"] }),
    ...(input.InstanceMetadataTags === undefined
      ? {}
      : { instanceMetadataTags: input.InstanceMetadataTags as MetadataOptions["instanceMetadataTags"] }),
  };
}

/** There is no IAM to ask which role a profile holds, so a profile's role is the one of its own name. */
function roleFrom(
  world: World,
  given: { Arn?: string | undefined; Name?: string | undefined } | undefined,
): InstanceRole | undefined {
  if (given === undefined) return undefined;
  const name = given.Name ?? given.Arn?.split("/").at(-1) ?? "";
  if (name === "") throw new ApiError("InvalidParameterValue", "Invalid IAM Instance Profile name");
  const profileArn = given.Arn ?? `arn:aws:iam::${world.accountId}:instance-profile/${name}`;
  return { name, profileArn, profileId: profileIdOf(name) };
}

/** `AIPA…`: stable per profile name. */
export function profileIdOf(name: string): string {
  let hash = 0n;
  for (const c of name) hash = (hash * 1099511628211n + BigInt(c.codePointAt(0) ?? 0)) & 0xffffffffffffffffn;
  return `AIPA${hash.toString(36).toUpperCase().padStart(16, "0").slice(-16)}`;
}
