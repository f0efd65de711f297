/** Which subnet a new ENI is made in, by tags and free addresses. Pure. */

export type SubnetView = {
  readonly subnetId: string;
  readonly availableAddresses: number;
  readonly tags: Readonly<Record<string, string>>;
};

const roleTag = "kubernetes.io/role/cni";
const clusterTag = "cni.networking.k8s.aws/cluster/";

/** Eligible subnets, most free addresses first. Untagged ones are out, except the primary ENI's own. */
export function chooseSubnets(
  subnets: readonly SubnetView[],
  primarySubnetId: string,
  clusterName: string,
): readonly string[] {
  return subnets
    .filter((subnet) => isEligible(subnet, primarySubnetId, clusterName))
    .sort((a, b) => b.availableAddresses - a.availableAddresses || a.subnetId.localeCompare(b.subnetId))
    .map((subnet) => subnet.subnetId);
}

/** An ENI in such a subnet keeps its pods and gets no new ones. */
export function isExcludedSubnet(subnet: SubnetView): boolean {
  return subnet.tags[roleTag] === "0";
}

function isEligible(subnet: SubnetView, primarySubnetId: string, clusterName: string): boolean {
  const role = subnet.tags[roleTag];
  if (role === "0") return false;
  if (role === undefined) return subnet.subnetId === primarySubnetId;
  const clusters = Object.keys(subnet.tags).filter((key) => key.startsWith(clusterTag));
  return clusterName === "" || clusters.length === 0 || clusters.includes(clusterTag + clusterName);
}
