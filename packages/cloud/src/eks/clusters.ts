/**
 * Clusters: record, cross-account ENIs, cluster security group, endpoint name. The control plane's programs are kept by
 * `cluster-lifecycle.ts`, which also moves the status along.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Cluster as ClusterOutput, EksActions, VpcConfigRequest } from "@underlay/aws/generated/eks-types";
import { canonicalCidr, isCidr, nthAddress, overlaps, parseCidr } from "@underlay/addr/cidr";
import { createEni, groupsFor, removeEni } from "../ec2/network-interfaces.ts";
import { createGroup, rulesOf } from "../ec2/security-groups.ts";
import { find, newId } from "../ec2/ids.ts";
import { freeCount, type Subnet } from "../ec2/subnets.ts";
import { ApiError } from "../protocol/api-error.ts";
import type { Principal } from "../protocol/authentication.ts";
import { refuseOthers } from "../protocol/nested.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { addCreatorEntry } from "./access-entries.ts";
import { addDefaultAddons } from "./addons.ts";
import { clusterArn, findCluster, pageOfNames, requireName } from "./arns.ts";
import { recordUpdate, renderUpdate } from "./updates.ts";
import { defaultVersion, versions } from "./versions.ts";

export type ClusterStatus = "CREATING" | "ACTIVE" | "DELETING" | "FAILED" | "UPDATING";

export type Cluster = {
  /** Its name. */
  readonly id: string;
  readonly status: ClusterStatus;
  readonly version: string;
  readonly roleArn: string;
  readonly createdAt: string;
  readonly vpcId: string;
  readonly subnetIds: readonly string[];
  readonly securityGroupIds: readonly string[];
  readonly clusterSecurityGroupId: string;
  readonly eniIds: readonly string[];
  readonly publicAddress: string;
  /** `<32 hex>.gr7.<region>.eks.amazonaws.com`. */
  readonly endpointName: string;
  readonly endpointPublicAccess: boolean;
  readonly endpointPrivateAccess: boolean;
  readonly publicAccessCidrs: readonly string[];
  readonly serviceCidr: string;
  /** Port of the host door. */
  readonly kubePort: number;
  readonly authenticationMode: string;
  readonly tags: Readonly<Record<string, string>>;
};

export type EksSettings = { readonly caCertFile: string; readonly kubePort: number };

const vpcConfigMembers = [
  "subnetIds",
  "securityGroupIds",
  "endpointPublicAccess",
  "endpointPrivateAccess",
  "publicAccessCidrs",
];
const endpointPool = "198.51.100.32/27";
const leastFreeAddresses = 6;
const clusterTag = "aws:eks:cluster-name";

export const clusterOperations = (world: World, settings: EksSettings): OperationsOf<EksActions> => ({
  CreateCluster: {
    takes: [
      "name",
      "version",
      "roleArn",
      "resourcesVpcConfig",
      "kubernetesNetworkConfig",
      "accessConfig",
      "tags",
      "upgradePolicy",
      "bootstrapSelfManagedAddons",
    ],
    run(input, { principal }) {
      const { name = "", roleArn = "", resourcesVpcConfig = {}, tags = {} } = input;
      requireName(name, "cluster");
      if (world.store.get("cluster", name) !== undefined)
        throw new ApiError("ResourceInUseException", `Cluster already exists with name: ${name}`);
      if (!/^arn:aws:iam::\d{12}:role\/.+$/.test(roleArn))
        throw new ApiError("InvalidParameterException", `Role with arn: ${roleArn} is not valid`);
      const version = input.version ?? defaultVersion;
      if (!versions.includes(version))
        throw new ApiError(
          "InvalidParameterException",
          `unsupported Kubernetes version ${version}; supported are ${versions.join(", ")}`,
        );
      const refuse = (value: object | undefined, takes: string[], path: string) =>
        refuseOthers(value, takes, path, "InvalidParameterException");
      refuse(resourcesVpcConfig, vpcConfigMembers, "resourcesVpcConfig");
      refuse(input.kubernetesNetworkConfig, ["serviceIpv4Cidr", "ipFamily"], "kubernetesNetworkConfig");
      refuse(input.accessConfig, ["authenticationMode", "bootstrapClusterCreatorAdminPermissions"], "accessConfig");
      const subnets = requireSubnets(world, resourcesVpcConfig);
      const vpc = find(world, "vpc", subnets[0]?.vpcId ?? "");
      const serviceCidr = serviceCidrFor(
        vpc.cidrs.map(({ cidr }) => cidr),
        input.kubernetesNetworkConfig?.serviceIpv4Cidr,
      );
      if (input.kubernetesNetworkConfig?.ipFamily === "ipv6")
        throw new ApiError("InvalidParameterException", "ipFamily ipv6 is not supported.");

      const group = createClusterGroup(world, name, vpc.id);
      const securityGroupIds = resourcesVpcConfig.securityGroupIds ?? [];
      const groupIds = groupsFor(world, vpc.id, [group, ...securityGroupIds]);
      const eniIds = spread(subnets).map(
        (subnet, deviceIndex) =>
          createEni(world, {
            subnetId: subnet.id,
            description: `Amazon EKS ${name}`,
            groupIds,
            requester: "amazon-eks",
            tags: { "cluster.k8s.amazonaws.com/name": name, "eks:eni:owner": "eks-control-plane" },
            attachment: {
              kind: "cluster",
              clusterName: name,
              deviceIndex,
              id: newId("eni-attach-"),
              attachTime: world.now().toISOString(),
            },
          }).id,
      );
      const cluster = world.store.put("cluster", {
        id: name,
        status: "CREATING",
        version,
        roleArn,
        createdAt: world.now().toISOString(),
        vpcId: vpc.id,
        subnetIds: subnets.map(({ id }) => id),
        securityGroupIds,
        clusterSecurityGroupId: group,
        eniIds,
        publicAddress: takeEndpointAddress(world),
        endpointName: `${randomBytes(16).toString("hex").toUpperCase()}.gr7.${world.region}.eks.amazonaws.com`,
        ...accessFrom(resourcesVpcConfig, {
          endpointPublicAccess: true,
          endpointPrivateAccess: false,
          publicAccessCidrs: ["0.0.0.0/0"],
        }),
        serviceCidr,
        kubePort: takeKubePort(world, settings.kubePort),
        authenticationMode: input.accessConfig?.authenticationMode ?? "CONFIG_MAP",
        tags: { ...tags },
      });
      if (input.accessConfig?.bootstrapClusterCreatorAdminPermissions !== false)
        addCreatorEntry(world, name, iamArn(principal));
      if (input.bootstrapSelfManagedAddons !== false) addDefaultAddons(world, name);
      return { cluster: render(world, cluster, settings) };
    },
  },

  DescribeCluster: {
    takes: ["name"],
    run: ({ name = "" }) => ({ cluster: render(world, findCluster(world, name), settings) }),
  },

  ListClusters: {
    takes: ["maxResults", "nextToken", "include"],
    run(input) {
      const { page, ...next } = pageOfNames(
        world.store.all("cluster").map(({ id }) => id),
        input,
      );
      return { clusters: page, ...next };
    },
  },

  DeleteCluster: {
    takes: ["name"],
    run({ name = "" }) {
      const cluster = findCluster(world, name);
      if (world.store.all("nodegroup").some((group) => group.clusterName === name))
        throw new ApiError("ResourceInUseException", "Cluster has nodegroups attached");
      const deleting = world.store.put("cluster", { ...cluster, status: "DELETING" });
      return { cluster: render(world, deleting, settings) };
    },
  },

  UpdateClusterConfig: {
    takes: ["name", "resourcesVpcConfig", "accessConfig"],
    run({ name = "", resourcesVpcConfig, accessConfig }) {
      const cluster = findCluster(world, name);
      if (resourcesVpcConfig?.subnetIds !== undefined || resourcesVpcConfig?.securityGroupIds !== undefined)
        throw new ApiError("InvalidParameterException", "Changing subnetIds or securityGroupIds is not supported.");
      const access = accessFrom(resourcesVpcConfig ?? {}, cluster);
      const authenticationMode = accessConfig?.authenticationMode ?? cluster.authenticationMode;
      if (cluster.authenticationMode === "API" && authenticationMode !== "API")
        throw new ApiError(
          "InvalidRequestException",
          `Unsupported authentication mode update from API to ${authenticationMode}`,
        );
      world.store.put("cluster", { ...cluster, ...access, authenticationMode });
      restoreSelfRule(world, cluster);
      const params = [
        { type: "EndpointPublicAccess", value: String(access.endpointPublicAccess) },
        { type: "EndpointPrivateAccess", value: String(access.endpointPrivateAccess) },
        { type: "PublicAccessCidrs", value: JSON.stringify(access.publicAccessCidrs) },
      ];
      return { update: renderUpdate(recordUpdate(world, { clusterName: name, type: "EndpointAccessUpdate", params })) };
    },
  },

  DescribeClusterVersions: {
    takes: [
      "clusterType",
      "maxResults",
      "nextToken",
      "defaultOnly",
      "includeAll",
      "clusterVersions",
      "status",
      "versionStatus",
    ],
    run({ defaultOnly, clusterVersions = [] }) {
      const chosen = versions.filter(
        (version) =>
          (defaultOnly !== true || version === defaultVersion) &&
          (clusterVersions.length === 0 || clusterVersions.includes(version)),
      );
      return {
        clusterVersions: chosen.map((clusterVersion) => ({
          clusterVersion,
          clusterType: "eks",
          defaultPlatformVersion: "eks.1",
          defaultVersion: clusterVersion === defaultVersion,
          status: "STANDARD_SUPPORT",
          versionStatus: "STANDARD_SUPPORT",
        })),
      };
    },
  },
});

/** Takes away what the cluster held; called when its programs have ended. */
export function finishClusterDeletion(world: World, cluster: Cluster): void {
  for (const id of cluster.eniIds) {
    const eni = world.store.get("eni", id);
    if (eni !== undefined) removeEni(world, eni);
  }
  for (const kind of ["addon", "access-entry", "update"] as const)
    for (const one of world.store.all(kind)) if (one.clusterName === cluster.id) world.store.remove(kind, one.id);
  const group = cluster.clusterSecurityGroupId;
  if (!world.store.all("eni").some((eni) => eni.groupIds.includes(group))) {
    for (const rule of world.store.all("security-group-rule"))
      if (rule.groupId === group || ("groupId" in rule.peer && rule.peer.groupId === group))
        world.store.remove("security-group-rule", rule.id);
    world.store.remove("security-group", group);
  }
  world.store.remove("cluster", cluster.id);
}

export function setClusterStatus(world: World, name: string, status: ClusterStatus): void {
  const cluster = world.store.get("cluster", name);
  if (cluster !== undefined && cluster.status !== status) world.store.put("cluster", { ...cluster, status });
}

/** The IAM principal behind a caller: the role of a session, else the caller itself. */
export function iamArn({ arn }: Principal): string {
  return arn.replace(/^arn:aws:sts::(\d+):assumed-role\/([^/]+)\/.*$/, "arn:aws:iam::$1:role/$2");
}

function requireSubnets(world: World, config: VpcConfigRequest): Subnet[] {
  const ids = config.subnetIds ?? [];
  if (ids.length === 0) throw new ApiError("InvalidParameterException", "Subnets are required");
  const subnets = ids.map((id) => {
    const subnet = world.store.get("subnet", id);
    if (subnet === undefined) throw new ApiError("InvalidParameterException", `The subnet ID '${id}' does not exist`);
    return subnet;
  });
  if (new Set(subnets.map(({ vpcId }) => vpcId)).size > 1)
    throw new ApiError("InvalidParameterException", "Subnets specified must be in the same VPC");
  if (new Set(subnets.map(({ availabilityZone }) => availabilityZone)).size < 2)
    throw new ApiError("InvalidParameterException", "Subnets specified must be in at least two different AZs");
  const full = subnets.find((subnet) => freeCount(world, subnet) < leastFreeAddresses);
  if (full !== undefined)
    throw new ApiError(
      "InvalidParameterException",
      `Subnet ${full.id} does not have enough free addresses: at least ${leastFreeAddresses} are needed for the control plane`,
    );
  return subnets;
}

/** The subnets the X-ENIs go to: two zones, private subnets first when tags tell them apart is not EKS's rule; order is. */
function spread(subnets: readonly Subnet[]): Subnet[] {
  const zones = new Map<string, Subnet>();
  // The last of a zone: callers list public subnets before private ones, and the control plane is better off in the latter.
  for (const subnet of subnets) zones.set(subnet.availabilityZone, subnet);
  return [...zones.values()].slice(0, 2);
}

/** 172.20.0.0/16 when the VPC lies in 10.0.0.0/8 (the workshop's does), else 10.100.0.0/16. */
export function serviceCidrFor(vpcCidrs: readonly string[], given: string | undefined): string {
  if (given === undefined)
    return vpcCidrs.some((cidr) => overlaps(cidr, "10.0.0.0/8")) ? "172.20.0.0/16" : "10.100.0.0/16";
  const bad = (why: string) =>
    new ApiError("InvalidParameterException", `The specified service CIDR ${given} is invalid: ${why}`);
  if (!isCidr(given)) throw bad("it is not a CIDR block");
  const cidr = parseCidr(given);
  if (cidr.prefixLength < 12 || cidr.prefixLength > 24) throw bad("it must be between /12 and /24");
  if (!["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].some((range) => overlaps(range, given)))
    throw bad("it must be within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16");
  if (vpcCidrs.some((block) => overlaps(block, given))) throw bad("it overlaps the VPC");
  return canonicalCidr(given);
}

type Access = Pick<Cluster, "endpointPublicAccess" | "endpointPrivateAccess" | "publicAccessCidrs">;

function accessFrom(config: VpcConfigRequest, before: Access): Access {
  const access = {
    endpointPublicAccess: config.endpointPublicAccess ?? before.endpointPublicAccess,
    endpointPrivateAccess: config.endpointPrivateAccess ?? before.endpointPrivateAccess,
    publicAccessCidrs: config.publicAccessCidrs ?? before.publicAccessCidrs,
  };
  if (!access.endpointPublicAccess && !access.endpointPrivateAccess)
    throw new ApiError("InvalidParameterException", "Private and public endpoint access cannot be false");
  for (const cidr of access.publicAccessCidrs)
    if (!isCidr(cidr))
      throw new ApiError("InvalidParameterException", `The following CIDRs are invalid in publicAccessCidrs: ${cidr}`);
  return access;
}

function createClusterGroup(world: World, cluster: string, vpcId: string): string {
  const name = `eks-cluster-sg-${cluster}-${Math.floor(1e9 + Math.random() * 1e9)}`;
  const group = createGroup(world, {
    name,
    description:
      "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as any managed workloads.",
    vpcId,
    tags: { Name: name, [`kubernetes.io/cluster/${cluster}`]: "owned", [clusterTag]: cluster },
  });
  addSelfRule(world, group.id);
  return group.id;
}

function addSelfRule(world: World, groupId: string): void {
  world.store.put("security-group-rule", {
    id: newId("sgr-"),
    groupId,
    isEgress: false,
    protocol: "-1",
    fromPort: -1,
    toPort: -1,
    peer: { groupId },
    tags: {},
  });
}

/** EKS puts a deleted self rule back at every update of the cluster. */
function restoreSelfRule(world: World, { clusterSecurityGroupId: groupId }: Cluster): void {
  const has = rulesOf(world, groupId).some(
    (rule) => !rule.isEgress && rule.protocol === "-1" && "groupId" in rule.peer && rule.peer.groupId === groupId,
  );
  if (!has && world.store.get("security-group", groupId) !== undefined) addSelfRule(world, groupId);
}

function takeEndpointAddress(world: World): string {
  const taken = new Set(world.store.all("cluster").map(({ publicAddress }) => publicAddress));
  for (let n = 1; n < 31; n += 1) {
    const address = nthAddress(endpointPool, n);
    if (!taken.has(address)) return address;
  }
  throw new ApiError("ResourceLimitExceededException", "Cluster limit exceeded for account: 30");
}

function takeKubePort(world: World, first: number): number {
  const taken = new Set(world.store.all("cluster").map(({ kubePort }) => kubePort));
  let port = first;
  while (taken.has(port)) port += 1;
  return port;
}

function render(world: World, cluster: Cluster, settings: EksSettings): ClusterOutput {
  const named = cluster.endpointName.split(".")[0] ?? "";
  const ready = cluster.status !== "CREATING";
  return {
    name: cluster.id,
    arn: clusterArn(world, cluster.id),
    createdAt: new Date(cluster.createdAt),
    version: cluster.version,
    ...(ready ? { endpoint: `https://${cluster.endpointName}` } : {}),
    roleArn: cluster.roleArn,
    resourcesVpcConfig: {
      subnetIds: cluster.subnetIds,
      securityGroupIds: cluster.securityGroupIds,
      clusterSecurityGroupId: cluster.clusterSecurityGroupId,
      vpcId: cluster.vpcId,
      endpointPublicAccess: cluster.endpointPublicAccess,
      endpointPrivateAccess: cluster.endpointPrivateAccess,
      publicAccessCidrs: cluster.publicAccessCidrs,
    },
    kubernetesNetworkConfig: { serviceIpv4Cidr: cluster.serviceCidr, ipFamily: "ipv4" },
    logging: {
      clusterLogging: [{ types: ["api", "audit", "authenticator", "controllerManager", "scheduler"], enabled: false }],
    },
    identity: { oidc: { issuer: oidcIssuer(world, named) } },
    status: cluster.status,
    certificateAuthority: ready ? { data: readFileSync(settings.caCertFile).toString("base64") } : {},
    platformVersion: "eks.1",
    tags: cluster.tags,
    health: { issues: [] },
    accessConfig: { authenticationMode: cluster.authenticationMode },
    upgradePolicy: { supportType: "STANDARD" },
    deletionProtection: false,
  };
}

/** `https://oidc.eks.<region>.amazonaws.com/id/<32 hex>`. */
export function oidcIssuer(world: World, id: string): string {
  return `https://oidc.eks.${world.region}.amazonaws.com/id/${id}`;
}
