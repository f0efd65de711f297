/** Attaching ENIs to instances, detaching them, and their attributes. */
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { readyAfter } from "./attaching.ts";
import { find, newId } from "./ids.ts";
import { limitsOf } from "./instance-types.ts";
import type { Instance } from "./instances.ts";
import { groupsOf, renderEni } from "./network-interface-view.ts";
import { groupsFor, requireOwn, trackingFrom, type Eni } from "./network-interfaces.ts";

/** The ENIs attached to an instance, by device index. */
export function enisOf(world: World, instanceId: string): Eni[] {
  return world.store
    .all("eni")
    .filter(({ attachment }) => attachment?.kind === "instance" && attachment.instanceId === instanceId)
    .sort((a, b) => deviceIndexOf(a) - deviceIndexOf(b));
}

export function deviceIndexOf({ attachment }: Eni): number {
  return attachment?.kind === "instance" ? attachment.deviceIndex : 0;
}

/** Attaches, after every check EC2 makes. */
export function attachEni(
  world: World,
  eni: Eni,
  instance: Instance,
  at: { deviceIndex: number; networkCardIndex: number; deleteOnTermination: boolean; readyAt?: string },
): Eni {
  const limits = limitsOf(instance.instanceType);
  const mine = enisOf(world, instance.id);
  const cardLimit = limits.cards[at.networkCardIndex];
  if (cardLimit === undefined)
    throw new ApiError(
      "InvalidParameterValue",
      `Network card index ${at.networkCardIndex} exceeds the limit for ${instance.instanceType}`,
    );
  const sameCard = mine.filter(
    ({ attachment }) => attachment?.kind === "instance" && attachment.networkCardIndex === at.networkCardIndex,
  );
  if (sameCard.some((one) => deviceIndexOf(one) === at.deviceIndex))
    throw new ApiError(
      "InvalidParameterValue",
      `Instance '${instance.id}' already has an interface attached at device index '${at.deviceIndex}'.`,
    );
  if (sameCard.length + 1 > cardLimit)
    throw new ApiError(
      "AttachmentLimitExceeded",
      `Interface count ${mine.length + 1} exceeds the limit for ${instance.instanceType}`,
    );
  if (eni.addresses.length + eni.prefixes.length > limits.ipv4PerEni)
    throw new ApiError("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes");
  const attachTime = world.now().toISOString();
  return world.store.put("eni", {
    ...eni,
    attachment: { kind: "instance", id: newId("eni-attach-"), instanceId: instance.id, attachTime, ...at },
  });
}

export const networkInterfaceAttachmentOperations = (world: World): OperationsOf<Ec2Actions> => ({
  AttachNetworkInterface: {
    takes: ["NetworkInterfaceId", "InstanceId", "DeviceIndex", "NetworkCardIndex"],
    run({ NetworkInterfaceId = "", InstanceId = "", DeviceIndex = 0, NetworkCardIndex = 0 }) {
      const eni = find(world, "eni", NetworkInterfaceId);
      const instance = find(world, "instance", InstanceId);
      if (eni.attachment !== undefined)
        throw new ApiError("InvalidNetworkInterface.InUse", `Interface: [${eni.id}] in use.`);
      requireOwn(eni);
      if (instance.state !== "running" && instance.state !== "pending")
        throw new ApiError("IncorrectState", `Instance '${instance.id}' is not 'running' or 'stopped'`);
      if (eni.availabilityZone !== instance.availabilityZone)
        throw new ApiError(
          "InvalidParameterCombination",
          "You may not attach a network interface to an instance if they are not in the same availability zone",
        );
      if (eni.vpcId !== instance.vpcId)
        throw new ApiError(
          "InvalidParameterCombination",
          "The network interface and the instance are in different VPCs",
        );
      const attached = attachEni(world, eni, instance, {
        deviceIndex: DeviceIndex,
        networkCardIndex: NetworkCardIndex,
        deleteOnTermination: false,
        ...readyAfter(world),
      });
      return { AttachmentId: attached.attachment?.id, NetworkCardIndex };
    },
  },

  DetachNetworkInterface: {
    takes: ["AttachmentId", "Force"],
    run({ AttachmentId = "" }) {
      const eni = world.store.all("eni").find((one) => one.attachment?.id === AttachmentId);
      if (eni === undefined)
        throw new ApiError("InvalidAttachmentID.NotFound", `The attachment ID '${AttachmentId}' does not exist`);
      requireOwn(eni);
      if (deviceIndexOf(eni) === 0 && eni.attachment?.kind === "instance")
        throw new ApiError("OperationNotPermitted", `The network interface at device index 0 cannot be detached.`);
      const { attachment: _, ...rest } = eni;
      world.store.put("eni", rest);
      return {};
    },
  },

  ModifyNetworkInterfaceAttribute: {
    takes: [
      "NetworkInterfaceId",
      "Description",
      "SourceDestCheck",
      "Groups",
      "Attachment",
      "ConnectionTrackingSpecification",
    ],
    run(input) {
      const eni = find(world, "eni", input.NetworkInterfaceId ?? "");
      requireOwn(eni);
      let changed = eni;
      if (input.Description !== undefined) changed = { ...changed, description: input.Description.Value ?? "" };
      if (input.SourceDestCheck !== undefined)
        changed = { ...changed, sourceDestCheck: input.SourceDestCheck.Value ?? true };
      if (input.Groups !== undefined && input.Groups.length > 0)
        changed = { ...changed, groupIds: groupsFor(world, eni.vpcId, input.Groups) };
      if (input.ConnectionTrackingSpecification !== undefined)
        changed = { ...changed, connectionTracking: trackingFrom(input.ConnectionTrackingSpecification) };
      if (input.Attachment !== undefined) {
        const { AttachmentId, DeleteOnTermination } = input.Attachment;
        if (eni.attachment === undefined || eni.attachment.kind !== "instance" || eni.attachment.id !== AttachmentId)
          throw new ApiError(
            "InvalidAttachmentID.NotFound",
            `The attachment ID '${AttachmentId ?? ""}' does not exist`,
          );
        const deleteOnTermination = DeleteOnTermination ?? eni.attachment.deleteOnTermination;
        changed = { ...changed, attachment: { ...eni.attachment, deleteOnTermination } };
      }
      world.store.put("eni", changed);
      return {};
    },
  },

  ResetNetworkInterfaceAttribute: {
    takes: ["NetworkInterfaceId", "SourceDestCheck"],
    run({ NetworkInterfaceId = "" }) {
      const eni = find(world, "eni", NetworkInterfaceId);
      requireOwn(eni);
      world.store.put("eni", { ...eni, sourceDestCheck: true });
      return {};
    },
  },

  DescribeNetworkInterfaceAttribute: {
    takes: ["NetworkInterfaceId", "Attribute"],
    run({ NetworkInterfaceId = "", Attribute }) {
      const eni = find(world, "eni", NetworkInterfaceId);
      switch (Attribute) {
        case "description":
          return { NetworkInterfaceId, Description: { Value: eni.description } };
        case "groupSet":
          return { NetworkInterfaceId, Groups: groupsOf(world, eni) };
        case "sourceDestCheck":
          return { NetworkInterfaceId, SourceDestCheck: { Value: eni.sourceDestCheck } };
        case "attachment":
          return { NetworkInterfaceId, Attachment: renderEni(world, eni).Attachment };
        default:
          throw new ApiError("InvalidParameterValue", `Value (${Attribute ?? ""}) for parameter attribute is invalid.`);
      }
    },
  },
});
