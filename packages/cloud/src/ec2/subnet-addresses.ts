/** Taking addresses and /28 prefixes out of a subnet's block, with EC2's errors when it does not go. */
import type { SubnetBlock, TakeResult } from "@underlay/addr/block";
import { isCidr } from "@underlay/addr/cidr";
import { isIpv4 } from "@underlay/addr/ipv4";
import { ApiError } from "../protocol/api-error.ts";

/** `count` free addresses, all or none. */
export function takeAddresses(block: SubnetBlock, count: number): string[] {
  const taken = block.takeMany(count);
  if (taken === undefined)
    throw new ApiError(
      "InsufficientFreeAddressesInSubnet",
      "The specified subnet does not have enough free addresses to satisfy the request.",
    );
  return taken;
}

/** Named addresses. */
export function takeGiven(block: SubnetBlock, addresses: readonly string[]): string[] {
  for (const address of addresses) {
    if (!isIpv4(address))
      throw new ApiError(
        "InvalidParameterValue",
        `Value (${address}) for parameter privateIpAddress is invalid. Invalid IPv4 address`,
      );
    refuse(block.take(address), address, "Address");
  }
  return [...addresses];
}

/** Named prefixes, or `count` that EC2 picks. */
export function takePrefixes(
  block: SubnetBlock,
  given: readonly string[] | undefined,
  count: number | undefined,
): string[] {
  for (const prefix of given ?? []) {
    if (!isCidr(prefix))
      throw new ApiError(
        "InvalidParameterValue",
        `Value (${prefix}) for parameter ipv4Prefix is invalid. Invalid IPv4 prefix`,
      );
    refuse(block.takeGivenPrefix(prefix), prefix, "Prefix");
  }
  const picked: string[] = [];
  while (picked.length < (count ?? 0)) {
    const prefix = block.takePrefix();
    if (prefix === undefined)
      throw new ApiError(
        "InsufficientCidrBlocks",
        "There are not enough free cidr blocks in the specified subnet to satisfy the request.",
      );
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
      throw new ApiError(
        "InvalidParameterValue",
        `Value (${what}) for parameter ipv4Prefix is invalid. An IPv4 prefix must be a /28 CIDR block.`,
      );
  }
}
