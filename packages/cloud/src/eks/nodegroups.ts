/**
 * Managed node groups: how many instances of which kind, and what makes them nodes of the cluster. Instances come and go in
 * `nodegroup-lifecycle.ts`, which is also what the group's Auto Scaling group would do.
 */
import { randomUUID } from "node:crypto";
import type { EksActions, Nodegroup as NodegroupOutput, Taint } from "@underlay/aws/generated/eks-types";
import { nthAddress } from "@underlay/addr/cidr";
import { profileIdOf, runInstances, terminateInstance, type Instance } from "../ec2/instances.ts";
import { capacityOf, limitsOf, maxPods, maxPodsWithPrefixes } from "../ec2/instance-types.ts";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { findTemplate, requireVersion } from "../ec2/launch-templates.ts";
import { ensureNodeEntry } from "./access-entries.ts";
import { delegatesPrefixes } from "./addons.ts";
import { findCluster, findNodegroup, pageOfNames, partArn, requireName } from "./arns.ts";
import type { Cluster } from "./clusters.ts";
import { recordUpdate, renderUpdate } from "./updates.ts";

export type NodegroupStatus =
  | "CREATING"
  | "ACTIVE"
  | "UPDATING"
  | "DELETING"
  | "CREATE_FAILED"
  | "DELETE_FAILED"
  | "DEGRADED";

export type Nodegroup = {
  /** `<cluster>/<name>`. */
  readonly id: string;
  readonly clusterName: string;
  readonly name: string;
  readonly arn: string;
  readonly status: NodegroupStatus;
  readonly issues: readonly {
    readonly code: string;
    readonly message: string;
    readonly resourceIds: readonly string[];
  }[];
  readonly nodeRole: string;
  readonly subnetIds: readonly string[];
  readonly instanceTypes: readonly string[];
  readonly amiType: string;
  readonly capacityType: string;
  readonly diskSize: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly Taint[];
  readonly scaling: { readonly min: number; readonly max: number; readonly desired: number };
  readonly updateConfig: { readonly maxUnavailable?: number; readonly maxUnavailablePercentage?: number };
  readonly version: string;
  readonly launchTemplate?: {
    readonly id: string;
    readonly name: string;
    readonly version: string;
    /** The node's own user data, base64; copied, since a template may go before its node group. */
    readonly userData?: string;
  };
  /** `eks-<name>-<uuid>`. */
  readonly autoScalingGroup: string;
  readonly createdAt: string;
  readonly modifiedAt: string;
  readonly tags: Readonly<Record<string, string>>;
};

const nodeImage = "ami-0e4b1d5c9f2a37680";

export const nodegroupOperations = (world: World, caCertificate: () => string): OperationsOf<EksActions> => ({
  CreateNodegroup: {
    takes: [
      "clusterName",
      "nodegroupName",
      "scalingConfig",
      "diskSize",
      "subnets",
      "instanceTypes",
      "amiType",
      "nodeRole",
      "labels",
      "taints",
      "tags",
      "updateConfig",
      "capacityType",
      "version",
      "launchTemplate",
    ],
    run(input) {
      const {
        clusterName = "",
        nodegroupName: name = "",
        nodeRole = "",
        subnets = [],
        labels = {},
        taints = [],
        tags = {},
      } = input;
      const cluster = findCluster(world, clusterName);
      requireName(name, "node group", 63);
      if (cluster.status !== "ACTIVE")
        throw new ApiError("InvalidRequestException", `Cluster '${clusterName}' is not in ACTIVE status`);
      if (world.store.get("nodegroup", `${clusterName}/${name}`) !== undefined)
        throw new ApiError(
          "ResourceInUseException",
          `NodeGroup already exists with name ${name} and cluster name ${clusterName}`,
        );
      if (!/^arn:aws:iam::\d{12}:role\/.+$/.test(nodeRole))
        throw new ApiError("InvalidParameterException", `The role ARN ${nodeRole} is not valid`);
      if (subnets.length === 0) throw new ApiError("InvalidParameterException", "Subnets are required");
      for (const id of subnets) {
        const subnet = world.store.get("subnet", id);
        if (subnet === undefined || subnet.vpcId !== cluster.vpcId)
          throw new ApiError("InvalidParameterException", `The subnet ID '${id}' does not exist in the cluster's VPC`);
      }
      const instanceTypes = input.instanceTypes?.length ? input.instanceTypes : ["t3.medium"];
      for (const type of instanceTypes) requireType(type);
      if (input.version !== undefined && input.version !== cluster.version)
        throw new ApiError(
          "InvalidParameterException",
          `Node group version ${input.version} is not supported: the cluster's is ${cluster.version}`,
        );
      const now = world.now().toISOString();
      const group = world.store.put("nodegroup", {
        id: `${clusterName}/${name}`,
        clusterName,
        name,
        arn: partArn(world, "nodegroup", clusterName, name),
        status: "CREATING",
        issues: [],
        nodeRole,
        subnetIds: subnets,
        instanceTypes,
        amiType: input.amiType ?? "AL2023_x86_64_STANDARD",
        capacityType: input.capacityType ?? "ON_DEMAND",
        diskSize: input.diskSize ?? 20,
        labels: { ...labels },
        taints,
        scaling: scalingFrom(input.scalingConfig, { min: 1, max: 2, desired: 2 }),
        updateConfig: updateConfigFrom(input.updateConfig),
        version: cluster.version,
        ...launchTemplateFrom(world, input.launchTemplate),
        autoScalingGroup: `eks-${name}-${randomUUID()}`,
        createdAt: now,
        modifiedAt: now,
        tags: { ...tags },
      });
      ensureNodeEntry(world, clusterName, nodeRole);
      launchMissing(world, group, caCertificate());
      return { nodegroup: render(world, group) };
    },
  },

  DescribeNodegroup: {
    takes: ["clusterName", "nodegroupName"],
    run: ({ clusterName = "", nodegroupName = "" }) => ({
      nodegroup: render(world, findNodegroup(world, clusterName, nodegroupName)),
    }),
  },

  ListNodegroups: {
    takes: ["clusterName", "maxResults", "nextToken"],
    run(input) {
      findCluster(world, input.clusterName ?? "");
      const names = world.store
        .all("nodegroup")
        .filter((group) => group.clusterName === input.clusterName)
        .map(({ name }) => name);
      const { page, ...next } = pageOfNames(names, input);
      return { nodegroups: page, ...next };
    },
  },

  DeleteNodegroup: {
    takes: ["clusterName", "nodegroupName"],
    run({ clusterName = "", nodegroupName = "" }) {
      const group = findNodegroup(world, clusterName, nodegroupName);
      const deleting = world.store.put("nodegroup", {
        ...group,
        status: "DELETING",
        modifiedAt: world.now().toISOString(),
      });
      return { nodegroup: render(world, deleting) };
    },
  },

  UpdateNodegroupConfig: {
    takes: ["clusterName", "nodegroupName", "labels", "taints", "scalingConfig", "updateConfig"],
    run(input) {
      const group = findNodegroup(world, input.clusterName ?? "", input.nodegroupName ?? "");
      if (group.status === "CREATING" || group.status === "DELETING")
        throw new ApiError(
          "ResourceInUseException",
          `Nodegroup cannot be updated as it is currently not in Active State`,
        );
      const { addOrUpdateLabels = {}, removeLabels = [] } = input.labels ?? {};
      if (Object.keys(addOrUpdateLabels).length > 0 || removeLabels.length > 0 || input.taints !== undefined)
        throw new ApiError(
          "InvalidParameterException",
          "Changing labels or taints of a node group is not supported: make another node group.",
        );
      const scaling = scalingFrom(input.scalingConfig, group.scaling);
      const changed = world.store.put("nodegroup", {
        ...group,
        scaling,
        updateConfig: input.updateConfig === undefined ? group.updateConfig : updateConfigFrom(input.updateConfig),
        status: "UPDATING",
        modifiedAt: world.now().toISOString(),
      });
      fitToDesired(world, changed, caCertificate());
      const params = [
        { type: "MinSize", value: String(scaling.min) },
        { type: "MaxSize", value: String(scaling.max) },
        { type: "DesiredSize", value: String(scaling.desired) },
      ];
      return {
        update: renderUpdate(
          recordUpdate(world, { clusterName: group.clusterName, part: group.name, type: "ConfigUpdate", params }),
        ),
      };
    },
  },
});

/** The group's instances that are not ending. */
export function instancesOf(world: World, group: Nodegroup): Instance[] {
  return world.store
    .all("instance")
    .filter(
      (instance) =>
        (instance.state === "pending" || instance.state === "running") &&
        instance.tags["eks:nodegroup-name"] === group.name &&
        instance.tags["eks:cluster-name"] === group.clusterName,
    );
}

/** Starts or ends instances until there are as many as desired. Inside a transaction. */
export function fitToDesired(world: World, group: Nodegroup, caData: string): void {
  launchMissing(world, group, caData);
  // The youngest go first; the zones stay even because launches are spread over them.
  const extra = instancesOf(world, group).slice(group.scaling.desired);
  for (const instance of extra) terminateInstance(world, instance);
}

function launchMissing(world: World, group: Nodegroup, caData: string): void {
  const cluster = findCluster(world, group.clusterName);
  for (let have = instancesOf(world, group).length; have < group.scaling.desired; have += 1)
    launchOne(world, group, cluster, caData);
}

function launchOne(world: World, group: Nodegroup, cluster: Cluster, caData: string): void {
  const here = instancesOf(world, group);
  const countIn = (subnetId: string) => here.filter((instance) => instance.subnetId === subnetId).length;
  const [subnetId = ""] = [...group.subnetIds].sort((a, b) => countIn(a) - countIn(b));
  const instanceType = group.instanceTypes[0] ?? "t3.medium";
  const roleName = group.nodeRole.split("/").at(-1) ?? "";
  const profile = `eks-${group.autoScalingGroup.slice(-36)}`;
  runInstances(world, {
    imageId: nodeImage,
    instanceType,
    count: 1,
    userData: userDataOf(nodeConfig(world, group, cluster, instanceType, caData), group.launchTemplate?.userData),
    metadataOptions: { httpTokens: "required", httpPutResponseHopLimit: 2 },
    role: {
      name: roleName,
      profileArn: `arn:aws:iam::${world.accountId}:instance-profile/${profile}`,
      profileId: profileIdOf(profile),
    },
    tags: {
      Name: `${cluster.id}-${group.name}-Node`,
      ...nodegroupTags(group),
      "aws:eks:cluster-name": cluster.id,
      "aws:autoscaling:groupName": group.autoScalingGroup,
    },
    eniTags: {
      "cluster.k8s.amazonaws.com/name": cluster.id,
      "eks:cluster-name": cluster.id,
      "eks:nodegroup-name": group.name,
    },
    network: { subnetId, groupIds: [cluster.clusterSecurityGroupId] },
  });
}

/** The tags of the Auto Scaling group, which its instances carry too. */
export function nodegroupTags({ clusterName, name }: Nodegroup): Record<string, string> {
  return {
    "eks:cluster-name": clusterName,
    "eks:nodegroup-name": name,
    [`kubernetes.io/cluster/${clusterName}`]: "owned",
    [`k8s.io/cluster-autoscaler/${clusterName}`]: "owned",
    "k8s.io/cluster-autoscaler/enabled": "true",
  };
}

const taintEffects: Readonly<Record<string, string>> = {
  NO_SCHEDULE: "NoSchedule",
  NO_EXECUTE: "NoExecute",
  PREFER_NO_SCHEDULE: "PreferNoSchedule",
};

/** What the node reads from its user data (JSON, which is YAML too). */
function nodeConfig(world: World, group: Nodegroup, cluster: Cluster, instanceType: string, caData: string): string {
  const labels = {
    "eks.amazonaws.com/nodegroup": group.name,
    "eks.amazonaws.com/nodegroup-image": nodeImage,
    "eks.amazonaws.com/capacityType": group.capacityType,
    ...group.labels,
  };
  const labelText = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  const taintText = group.taints.map(
    ({ key = "", value = "", effect = "" }) => `${key}=${value}:${taintEffects[effect] ?? effect}`,
  );
  return JSON.stringify(
    {
      apiVersion: "node.eks.aws/v1alpha1",
      kind: "NodeConfig",
      spec: {
        cluster: {
          name: cluster.id,
          apiServerEndpoint: `https://${cluster.endpointName}`,
          certificateAuthority: caData,
          cidr: cluster.serviceCidr,
        },
        kubelet: {
          config: {
            maxPods: managedMaxPods(instanceType, delegatesPrefixes(world, group.clusterName)),
            clusterDNS: [nthAddress(cluster.serviceCidr, 10)],
          },
          flags: [
            `--node-labels=${labelText.join(",")}`,
            ...(taintText.length === 0 ? [] : [`--register-with-taints=${taintText.join(",")}`]),
          ],
        },
      },
    },
    null,
    2,
  );
}

/**
 * EKS's own part first, the launch template's after it: a node merges them in this order, so a template may change what EKS
 * says (`maxPods`). Both as parts of a MIME message, which is what EKS asks of a template's user data.
 */
export function userDataOf(config: string, template: string | undefined): string {
  if (template === undefined) return Buffer.from(config).toString("base64");
  const given = Buffer.from(template, "base64").toString("utf8");
  const boundary = "//EKS-NODE-CONFIG//";
  const part = (content: string) => `--${boundary}\r\nContent-Type: application/node.eks.aws\r\n\r\n${content}\r\n`;
  const theirs = nodeConfigParts(given).map(part).join("");
  const message = `MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="${boundary}"\r\n\r\n${part(config)}${theirs}--${boundary}--\r\n`;
  return Buffer.from(message).toString("base64");
}

/** The NodeConfigs in a template's user data; shell scripts and cloud-init have nothing here that would run them. */
function nodeConfigParts(text: string): string[] {
  const boundary = /boundary="?([^"\s;]+)"?/i.exec(text)?.[1];
  if (boundary === undefined) return [text.trim()];
  return text
    .split(`--${boundary}`)
    .slice(1)
    .filter((part) => !part.startsWith("--"))
    .map((part) => {
      const [, head = "", body = ""] = /^([\s\S]*?)\r?\n\r?\n([\s\S]*)$/.exec(part) ?? [];
      if (!/content-type:\s*application\/node\.eks\.aws/i.test(head)) throw otherUserData();
      return body.trim();
    });
}

const otherUserData = () =>
  new ApiError(
    "InvalidRequestException",
    "User data other than NodeConfig (application/node.eks.aws) in a launch template is not supported.",
  );

type TemplateInput = { name?: string | undefined; version?: string | undefined; id?: string | undefined } | undefined;

function launchTemplateFrom(world: World, given: TemplateInput): Pick<Nodegroup, "launchTemplate"> {
  if (given === undefined) return {};
  const template = findTemplate(world, { LaunchTemplateId: given.id, LaunchTemplateName: given.name });
  requireVersion(template, given.version ?? "$Default");
  if (template.userData !== undefined) {
    const text = Buffer.from(template.userData, "base64").toString("utf8");
    for (const part of nodeConfigParts(text)) if (!/kind"?:\s*"?NodeConfig/.test(part)) throw otherUserData();
  }
  const { id, name, userData } = template;
  return { launchTemplate: { id, name, version: "1", ...(userData === undefined ? {} : { userData }) } };
}

/**
 * The ENI formula (with prefixes when the cluster's vpc-cni add-on is configured for them, as EKS works it out), with the cap
 * managed node groups apply: 110 up to 30 vCPUs, 250 above.
 */
export function managedMaxPods(instanceType: string, prefixes = false): number {
  const room = prefixes ? maxPodsWithPrefixes(instanceType) : maxPods(instanceType);
  return Math.min(room, (capacityOf(instanceType)?.cpus ?? 2) <= 30 ? 110 : 250);
}

function requireType(type: string): void {
  try {
    limitsOf(type);
  } catch {
    throw new ApiError("InvalidParameterException", `The requested instance types [${type}] are invalid`);
  }
}

type ScalingInput =
  | { minSize?: number | undefined; maxSize?: number | undefined; desiredSize?: number | undefined }
  | undefined;

function scalingFrom(given: ScalingInput, before: Nodegroup["scaling"]): Nodegroup["scaling"] {
  const scaling = {
    min: given?.minSize ?? before.min,
    max: given?.maxSize ?? before.max,
    desired: given?.desiredSize ?? before.desired,
  };
  const { min, max, desired } = scaling;
  if (min < 0 || max < 1)
    throw new ApiError(
      "InvalidParameterException",
      "Minimum capacity must not be negative and maximum capacity must be at least 1",
    );
  if (desired < min)
    throw new ApiError(
      "InvalidParameterException",
      `Minimum capacity ${min} can't be greater than desired size ${desired}`,
    );
  if (desired > max)
    throw new ApiError(
      "InvalidParameterException",
      `desired capacity ${desired} can't be greater than max size ${max}`,
    );
  return scaling;
}

function updateConfigFrom(
  given: { maxUnavailable?: number | undefined; maxUnavailablePercentage?: number | undefined } | undefined,
): Nodegroup["updateConfig"] {
  if (given?.maxUnavailablePercentage !== undefined)
    return { maxUnavailablePercentage: given.maxUnavailablePercentage };
  return { maxUnavailable: given?.maxUnavailable ?? 1 };
}

function render(world: World, group: Nodegroup): NodegroupOutput {
  return {
    nodegroupName: group.name,
    nodegroupArn: group.arn,
    clusterName: group.clusterName,
    version: group.version,
    releaseVersion: `${group.version}.0-20260801`,
    createdAt: new Date(group.createdAt),
    modifiedAt: new Date(group.modifiedAt),
    status: group.status,
    capacityType: group.capacityType,
    scalingConfig: { minSize: group.scaling.min, maxSize: group.scaling.max, desiredSize: group.scaling.desired },
    instanceTypes: group.instanceTypes,
    subnets: group.subnetIds,
    amiType: group.amiType,
    ...(group.launchTemplate === undefined
      ? {}
      : {
          launchTemplate: {
            name: group.launchTemplate.name,
            version: group.launchTemplate.version,
            id: group.launchTemplate.id,
          },
        }),
    nodeRole: group.nodeRole,
    labels: group.labels,
    taints: group.taints,
    resources: { autoScalingGroups: [{ name: group.autoScalingGroup }] },
    diskSize: group.diskSize,
    health: { issues: group.issues },
    updateConfig: group.updateConfig,
    tags: group.tags,
  };
}
