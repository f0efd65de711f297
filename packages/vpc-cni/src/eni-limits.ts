/** How many ENIs and addresses an instance type has: by table, a type that is not in it by one DescribeInstanceTypes. */
import type { Ec2Client } from "@underlay/aws/ec2-client";
import { eniLimitsByType, xenTypes } from "./generated/eni-limits.ts";

export type EniLimits = {
  readonly maxEnis: number;
  /** IPv4 addresses per ENI, the primary included. */
  readonly addressesPerEni: number;
  /** Nitro or bare metal: ENIs can have /28 prefixes. */
  readonly prefixes: boolean;
};

/** From the table, else from EC2. */
export async function readEniLimits(instanceType: string, ec2: Ec2Client): Promise<EniLimits> {
  const known = findEniLimits(instanceType);
  if (known) return known;
  const { InstanceTypes } = await ec2.send("DescribeInstanceTypes", { InstanceTypes: [instanceType] });
  const network = InstanceTypes?.[0]?.NetworkInfo;
  const maxEnis = network?.MaximumNetworkInterfaces;
  const addressesPerEni = network?.Ipv4AddressesPerInterface;
  if (!maxEnis || !addressesPerEni) {
    throw new Error(`Cannot size the address pool: EC2 gives no interface limits for instance type ${instanceType}`);
  }
  const cards = network.NetworkCards;
  const card = cards?.find((one) => one.NetworkCardIndex === (network.DefaultNetworkCardIndex ?? 0));
  const prefixes = InstanceTypes?.[0]?.Hypervisor === "nitro" || InstanceTypes?.[0]?.BareMetal === true;
  return { maxEnis: card?.MaximumNetworkInterfaces ?? maxEnis, addressesPerEni, prefixes };
}

/** From the table alone. */
export function findEniLimits(instanceType: string): EniLimits | undefined {
  const row = Object.entries(eniLimitsByType).find(([, types]) => types.split(" ").includes(instanceType));
  if (!row) return undefined;
  const [maxEnis = 0, addressesPerEni = 0] = row[0].split("x").map(Number);
  return { maxEnis, addressesPerEni, prefixes: !xenTypes.split(" ").includes(instanceType) };
}

/** Pods a node of these limits can run: one address each, and two pods on the host's network. */
export function maxPodsOf(
  limits: Pick<EniLimits, "maxEnis" | "addressesPerEni">,
  mode: { readonly prefixes?: boolean; readonly customNetworking?: boolean } = {},
): number {
  const enis = limits.maxEnis - (mode.customNetworking ? 1 : 0);
  return enis * (limits.addressesPerEni - 1) * (mode.prefixes ? 16 : 1) + 2;
}
