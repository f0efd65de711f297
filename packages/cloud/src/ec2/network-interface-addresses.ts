/** Secondary addresses and /28 prefixes of ENIs: taken from the subnet, limited by the instance type, given back at once. */
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { isIpv4 } from "@underlay/addr/ipv4";
import type { SubnetBlock, TakeResult } from "@underlay/addr/block";
import { isCidr } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { disassociate } from "./addresses.ts";
import { find } from "./ids.ts";
import { limitsOf } from "./instance-types.ts";
import { requireOwn, type Eni } from "./network-interfaces.ts";
import { blockOf } from "./subnets.ts";

/** `count` free addresses, all or none. */
export function takeAddresses(block: SubnetBlock, count: number): string[] {
  const taken = block.takeMany(count);
  if (taken === undefined)
    throw new ApiError("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.");
  return taken;
}

/** Named addresses. */
export function takeGiven(block: SubnetBlock, addresses: readonly string[]): string[] {
  for (const address of addresses) {
    if (!isIpv4(address)) throw new ApiError("InvalidParameterValue", `Value (${address}) for parameter privateIpAddress is invalid. Invalid IPv4 address`);
    refuse(block.take(address), address, "Address");
  }
  return [...addresses];
}

/** Named prefixes, or `count` that EC2 picks. */
export function takePrefixes(block: SubnetBlock, given: readonly string[] | undefined, count: number | undefined): string[] {
  for (const prefix of given ?? []) {
    if (!isCidr(prefix)) throw new ApiError("InvalidParameterValue", `Value (${prefix}) for parameter ipv4Prefix is invalid. Invalid IPv4 prefix`);
    refuse(block.takeGivenPrefix(prefix), prefix, "Prefix");
  }
  const picked: string[] = [];
  while (picked.length < (count ?? 0)) {
    const prefix = block.takePrefix();
    if (prefix === undefined)
      throw new ApiError("InsufficientCidrBlocks", "There are not enough free cidr blocks in the specified subnet to satisfy the request.");
    picked.push(prefix);
  }
  return [...(given ?? []), ...picked];
}

function refuse(result: TakeResult, what: string, noun: string): void {
  if (result.ok) return;
  switch (result.why) {
    case "taken":
      throw new ApiError("InvalidIPAddress.InUse", `${noun} is in use.`);
    case "reserved":
      throw new ApiError("InvalidParameterValue", `${noun} ${what} is in subnet's reserved address range`);
    case "outside":
      throw new ApiError("InvalidParameterValue", `${noun} does not fall within the subnet's address range`);
    case "unaligned":
      throw new ApiError("InvalidParameterValue", `Value (${what}) for parameter ipv4Prefix is invalid. An IPv4 prefix must be a /28 CIDR block.`);
  }
}

/** Addresses and prefixes take one slot each; the type of the instance says how many there are. */
export function requireSlots(world: World, eni: Eni, added: number): void {
  if (eni.attachment?.kind !== "instance") return;
  const instance = find(world, "instance", eni.attachment.instanceId);
  if (eni.addresses.length + eni.prefixes.length + added > limitsOf(instance.instanceType).ipv4PerEni)
    throw new ApiError("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.");
}

export const networkInterfaceAddressOperations = (world: World): OperationsOf<Ec2Actions> => ({
  AssignPrivateIpAddresses: {
    takes: ["NetworkInterfaceId", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount", "Ipv4Prefixes", "Ipv4PrefixCount", "AllowReassignment"],
    run(input) {
      const eni = find(world, "eni", input.NetworkInterfaceId ?? "");
      requireOwn(eni);
      const { PrivateIpAddresses: given = [], Ipv4Prefixes: prefixes = [] } = input;
      const count = input.SecondaryPrivateIpAddressCount ?? 0;
      const prefixCount = input.Ipv4PrefixCount ?? 0;
      const ways = [given.length, prefixes.length, count, prefixCount].filter((one) => one > 0).length;
      if (ways === 0) throw new ApiError("MissingParameter", "The request must contain the parameter privateIpAddresses or secondaryPrivateIpAddressCount");
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
      if (addresses.length + prefixes.length === 0) throw new ApiError("MissingParameter", "The request must contain the parameter privateIpAddresses");
      const primary = eni.addresses[0]?.address;
      for (const address of addresses) {
        if (address === primary) throw new ApiError("InvalidParameterValue", `The primary private IP address ${address} cannot be unassigned from interface ${eni.id}`);
        if (!eni.addresses.some((one) => one.address === address))
          throw new ApiError("InvalidParameterValue", `Some of [${address}] are not assigned to interface ${eni.id}`);
      }
      for (const prefix of prefixes)
        if (!eni.prefixes.includes(prefix)) throw new ApiError("InvalidParameterValue", `Some of [${prefix}] are not assigned to interface ${eni.id}`);
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
    world.store.put("eni", { ...current, addresses: current.addresses.filter(({ address }) => !names.includes(address)) });
  }
}

function endMappings(world: World, eni: Eni, addresses: readonly string[]): void {
  for (const { address, allocationId } of eni.addresses) {
    const elastic = allocationId !== undefined && addresses.includes(address) ? world.store.get("address", allocationId) : undefined;
    if (elastic !== undefined) disassociate(world, elastic);
  }
}
