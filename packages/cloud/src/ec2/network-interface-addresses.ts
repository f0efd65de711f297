/** Secondary addresses and /28 prefixes of ENIs: taken from the subnet, limited by the instance type, given back at once. */
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { disassociate } from "./addresses.ts";
import { find } from "./ids.ts";
import { limitsOf } from "./instance-types.ts";
import { requireOwn, type Eni } from "./network-interfaces.ts";
import { takeAddresses, takeGiven, takePrefixes } from "./subnet-addresses.ts";
import { blockOf } from "./subnets.ts";

/** Addresses and prefixes take one slot each; the type of the instance says how many there are. */
export function requireSlots(world: World, eni: Eni, added: number): void {
  if (eni.attachment?.kind !== "instance") return;
  const instance = find(world, "instance", eni.attachment.instanceId);
  if (eni.addresses.length + eni.prefixes.length + added > limitsOf(instance.instanceType).ipv4PerEni)
    throw new ApiError("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.");
}

export const networkInterfaceAddressOperations = (world: World): OperationsOf<Ec2Actions> => ({
  AssignPrivateIpAddresses: {
    takes: [
      "NetworkInterfaceId",
      "PrivateIpAddresses",
      "SecondaryPrivateIpAddressCount",
      "Ipv4Prefixes",
      "Ipv4PrefixCount",
      "AllowReassignment",
    ],
    run(input) {
      const eni = find(world, "eni", input.NetworkInterfaceId ?? "");
      requireOwn(eni);
      const { PrivateIpAddresses: given = [], Ipv4Prefixes: prefixes = [] } = input;
      const count = input.SecondaryPrivateIpAddressCount ?? 0;
      const prefixCount = input.Ipv4PrefixCount ?? 0;
      const ways = [given.length, prefixes.length, count, prefixCount].filter((one) => one > 0).length;
      if (ways === 0)
        throw new ApiError(
          "MissingParameter",
          "The request must contain the parameter privateIpAddresses or secondaryPrivateIpAddressCount",
        );
      if (ways > 1)
        throw new ApiError(
          "InvalidParameterCombination",
          "Only one of secondary private IP addresses, secondaryPrivateIpAddressCount, ipv4Prefixes and ipv4PrefixCount can be given.",
        );
      requireSlots(world, eni, given.length + prefixes.length + count + prefixCount);
      const wanted = given.filter((address) => !eni.addresses.some((one) => one.address === address));
      if (input.AllowReassignment === true) takeFromOthers(world, eni, wanted);
      const block = blockOf(world, find(world, "subnet", eni.subnetId));
      const addresses = [...takeGiven(block, wanted), ...takeAddresses(block, count)];
      const blocks = takePrefixes(block, prefixes, prefixCount);
      const current = find(world, "eni", eni.id);
      world.store.put("eni", {
        ...current,
        addresses: [...current.addresses, ...addresses.map((address) => ({ address }))],
        prefixes: [...current.prefixes, ...blocks],
      });
      return {
        NetworkInterfaceId: eni.id,
        AssignedPrivateIpAddresses: addresses.map((PrivateIpAddress) => ({ PrivateIpAddress })),
        AssignedIpv4Prefixes: blocks.map((Ipv4Prefix) => ({ Ipv4Prefix })),
      };
    },
  },

  UnassignPrivateIpAddresses: {
    takes: ["NetworkInterfaceId", "PrivateIpAddresses", "Ipv4Prefixes"],
    run({ NetworkInterfaceId = "", PrivateIpAddresses: addresses = [], Ipv4Prefixes: prefixes = [] }) {
      const eni = find(world, "eni", NetworkInterfaceId);
      requireOwn(eni);
      if (addresses.length + prefixes.length === 0)
        throw new ApiError("MissingParameter", "The request must contain the parameter privateIpAddresses");
      const primary = eni.addresses[0]?.address;
      for (const address of addresses) {
        if (address === primary)
          throw new ApiError(
            "InvalidParameterValue",
            `The primary private IP address ${address} cannot be unassigned from interface ${eni.id}`,
          );
        if (!eni.addresses.some((one) => one.address === address))
          throw new ApiError("InvalidParameterValue", `Some of [${address}] are not assigned to interface ${eni.id}`);
      }
      for (const prefix of prefixes)
        if (!eni.prefixes.includes(prefix))
          throw new ApiError("InvalidParameterValue", `Some of [${prefix}] are not assigned to interface ${eni.id}`);
      endMappings(world, eni, addresses);
      const current = find(world, "eni", eni.id);
      world.store.put("eni", {
        ...current,
        addresses: current.addresses.filter(({ address }) => !addresses.includes(address)),
        prefixes: current.prefixes.filter((prefix) => !prefixes.includes(prefix)),
      });
      return {};
    },
  },
});

function takeFromOthers(world: World, eni: Eni, addresses: readonly string[]): void {
  for (const other of world.store.all("eni")) {
    if (other.id === eni.id || other.subnetId !== eni.subnetId) continue;
    const moving = other.addresses.slice(1).filter(({ address }) => addresses.includes(address));
    if (moving.length === 0) continue;
    const names = moving.map(({ address }) => address);
    endMappings(world, other, names);
    const current = find(world, "eni", other.id);
    world.store.put("eni", {
      ...current,
      addresses: current.addresses.filter(({ address }) => !names.includes(address)),
    });
  }
}

function endMappings(world: World, eni: Eni, addresses: readonly string[]): void {
  for (const { address, allocationId } of eni.addresses) {
    const elastic =
      allocationId !== undefined && addresses.includes(address) ? world.store.get("address", allocationId) : undefined;
    if (elastic !== undefined) disassociate(world, elastic);
  }
}
