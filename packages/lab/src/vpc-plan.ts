/** The workshop's VPC as data: which subnets a cluster's CIDR is cut into. Pure. */
import { parseCidr, subnetsOf } from "@underlay/addr/cidr";
import { UnderlayError } from "@underlay/log/underlay-error";
import type { ClusterPlan } from "./cluster-file.ts";

export type SubnetPlan = {
  readonly name: string;
  readonly cidr: string;
  readonly zone: string;
  readonly public: boolean;
};

/**
 * One public and one private subnet per zone: the CIDR is cut into the next power of two of twice the zones' number,
 * public ones first (10.42.0.0/16 and three zones: /19s at .0, .32, .64 and .96, .128, .160).
 */
export function planSubnets(plan: Pick<ClusterPlan, "name" | "vpcCidr" | "zones" | "region">): SubnetPlan[] {
  const zones = plan.zones;
  const vpc = parseCidr(plan.vpcCidr);
  const extraBits = Math.ceil(Math.log2(zones.length * 2));
  const prefixLength = vpc.prefixLength + extraBits;
  if (prefixLength > 28) {
    throw new UnderlayError(
      "VpcTooSmall",
      `Cannot cut ${plan.vpcCidr} into ${zones.length * 2} subnets: each would be a /${prefixLength}, and AWS's smallest subnet is a /28`,
      { hint: `Set vpc.cidr to a /${28 - extraBits} or larger` },
    );
  }
  const blocks = [...subnetsOf(plan.vpcCidr, prefixLength)];
  const subnets = (isPublic: boolean, offset: number): SubnetPlan[] =>
    zones.map((zone, index) => ({
      name: `${plan.name}/Subnet${isPublic ? "Public" : "Private"}${zone.replace(/-/g, "").toUpperCase()}`,
      cidr: blocks[offset + index] ?? "",
      zone,
      public: isPublic,
    }));
  return [...subnets(true, 0), ...subnets(false, zones.length)];
}
