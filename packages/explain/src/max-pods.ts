/**
 * How many pods a node can run: by instance type and addressing mode, with the sum written out.
 *
 *   secondary IP       ENIs × (addresses per ENI − 1) + 2
 *   prefixes           ENIs × (addresses per ENI − 1) × 16 + 2
 *   custom networking  one ENI less: the primary gives pods nothing
 *
 * The 2 are the pods on the host's network, aws-node and kube-proxy. The cap is Amazon's recommendation, which managed node
 * groups apply: 110 up to 30 vCPUs, 250 above.
 */
import { findInstanceLimits, vcpusOf } from "./instance-limits.ts";

export type AddressingMode = {
  readonly prefix?: boolean;
  readonly custom?: boolean;
  readonly cap?: boolean;
};

export type MaxPods = { readonly pods: number; readonly because: string };

const hostNetworkPods = 2;

/** undefined: no such instance type is known. */
export function findMaxPods(instanceType: string, mode: AddressingMode = {}): MaxPods | undefined {
  const limits = findInstanceLimits(instanceType);
  if (!limits) return undefined;
  const enis = limits.enis - (mode.custom ? 1 : 0);
  const slots = limits.addressesPerEni - 1;
  const inPrefixes = mode.prefix === true && limits.prefixes;
  const room = enis * slots * (inPrefixes ? 16 : 1) + hostNetworkPods;
  const sum = [
    `${count(enis, "ENI")}${mode.custom ? " (the primary is left out)" : ""} × ${slots} ${inPrefixes ? "prefixes × 16" : "addresses"} + 2 pods on the host's network = ${room}`,
    ...(mode.prefix && !limits.prefixes ? ["this type has no prefixes (neither Nitro nor bare metal)"] : []),
  ];
  if (!mode.cap) return { pods: room, because: sum.join("; ") };
  const vcpus = vcpusOf(instanceType);
  const cap = vcpus !== undefined && vcpus <= 30 ? 110 : 250;
  sum.push(
    `capped at ${cap} (${vcpus === undefined ? "vCPUs unknown, taken for more than 30" : count(vcpus, "vCPU")})`,
  );
  return { pods: Math.min(room, cap), because: sum.join("; ") };
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
