/**
 * Brings a cluster up: state and certificates, the cloud, the VPC, the control plane, kube-system, the nodes. Every step looks
 * before it acts, so the same function starts a cluster, finishes a half-made one and finds a running one complete.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { isAwsError } from "@underlay/aws/aws-error";
import { listNetns } from "@underlay/kernel/netns";
import { findAdopted, spawnDetached } from "@underlay/kernel/processes";
import { UnderlayError } from "@underlay/log/underlay-error";
import { createAuthority } from "@underlay/pki/authority";
import { applyAddons } from "./addons.ts";
import type { ClusterPlan } from "./cluster-file.ts";
import { readinessOf } from "./kube-access.ts";
import { placesOf, readRecord, writeWhole, type ClusterRecord, type Places } from "./places.ts";
import { claimPort } from "./ports.ts";
import { keptByCloud, supervisorProcess } from "./programs.ts";
import { awsClients } from "./up-clients.ts";
import { buildNetwork, type BuiltNetwork } from "./vpc-build.ts";
import { planSubnets } from "./vpc-plan.ts";
import { waitUntil } from "./wait.ts";

export type Progress = (step: string, detail?: string) => void;

export type UpResult = {
  readonly alreadyUp: boolean;
  readonly tookMs: number;
  readonly record: ClusterRecord;
  readonly places: Places;
};

const clusterRole = "eks-cluster-role";
const nodeRole = "eks-node-role";

export async function up(root: string, plan: ClusterPlan, progress: Progress): Promise<UpResult> {
  const began = Date.now();
  planSubnets(plan); // a file that cannot work is refused before anything is made
  const places = placesOf(root, plan.name);
  const existing = readRecord(places);
  const record = existing ?? (await createRecord(places, plan));
  refuseOtherPlan(existing, plan);
  const wasRunning = findAdopted(supervisorProcess(places, root).pidFile) !== undefined;

  progress("cloud", `AWS API on http://127.0.0.1:${record.apiPort}`);
  writeCloudSettings(places, record);
  ensureSupervisor(places, root);
  const aws = awsClients(record);
  try {
    await waitUntil(
      "the cloud to answer",
      20_000,
      async () => (await aws.ec2.send("DescribeAvailabilityZones", {})).AvailabilityZones,
    );
    if (wasRunning && (await isComplete(aws.eks, places, plan)))
      return { alreadyUp: true, tookMs: Date.now() - began, record, places };

    progress("network", `VPC ${plan.vpcCidr}, ${plan.zones.length} zones`);
    const network = await buildNetwork(aws.ec2, plan);
    progress("control plane", `Kubernetes ${plan.version}`);
    await ensureCluster(aws.eks, record, plan, network);
    progress("add-ons", "aws-node, kube-proxy, coredns");
    await applyAddons({ places, record, vpcId: network.vpcId });
    await configureCni(aws.eks, plan);
    for (const group of plan.nodeGroups) {
      const template = await ensureLaunchTemplate(aws.ec2, plan, group);
      progress("nodes", `${group.desiredCapacity} × ${group.instanceType} (${group.name})`);
      await ensureNodeGroup(aws.eks, record, plan, group, network, template);
    }
    progress("waiting", "nodes Ready, coredns Ready");
    await waitUntilReady(places, plan);
  } finally {
    aws.ec2.close();
    aws.eks.close();
  }
  return { alreadyUp: false, tookMs: Date.now() - began, record, places };
}

async function createRecord(places: Places, plan: ClusterPlan): Promise<ClusterRecord> {
  mkdirSync(places.stateDir, { recursive: true });
  const record: ClusterRecord = {
    clusterId: chooseClusterId(),
    accountId: "111122223333",
    apiPort: await claimPort(4566, places.stateDir),
    kubePort: await claimPort(6443, places.stateDir),
    accessKeyId: `AKIA${randomBytes(10).toString("hex").toUpperCase().slice(0, 16)}`,
    secretAccessKey: randomBytes(30).toString("base64url"),
    plan,
  };
  const authority = await createAuthority(`underlay ${plan.name}`);
  writeWhole(places.caKey, authority.key, 0o600);
  writeWhole(places.caCert, authority.cert);
  mkdirSync(places.logs, { recursive: true });
  mkdirSync(places.pids, { recursive: true });
  writeWhole(places.record, `${JSON.stringify(record, null, 2)}\n`, 0o600);
  return record;
}

/** Four hex digits no namespace of this machine carries yet. */
function chooseClusterId(): string {
  for (;;) {
    const id = randomBytes(2).toString("hex");
    if (listNetns(`ul-${id}-`).length === 0) return id;
  }
}

function refuseOtherPlan(existing: ClusterRecord | undefined, plan: ClusterPlan): void {
  if (!existing || JSON.stringify(existing.plan) === JSON.stringify(plan)) return;
  throw new UnderlayError(
    "ClusterDiffers",
    `Cannot change cluster ${plan.name}: it was made from a different cluster file`,
    {
      hint: "Take it down first (./underlay down), or give the new one another metadata.name",
    },
  );
}

function writeCloudSettings(places: Places, record: ClusterRecord): void {
  const kept = keptByCloud(places);
  const settings = {
    clusterId: record.clusterId,
    stateDir: places.stateDir,
    repoDir: places.repoDir,
    nodeBinary: places.nodeBinary,
    region: record.plan.region,
    accountId: record.accountId,
    apiPort: record.apiPort,
    caCertFile: places.caCert,
    caKeyFile: places.caKey,
    accessKeyId: record.accessKeyId,
    secretAccessKey: record.secretAccessKey,
    instance: { argv: kept.instanceArgv },
    controlPlane: { programs: kept.controlPlane, kubePort: record.kubePort },
    time: { scale: 1 },
  };
  writeWhole(places.cloudSettings, `${JSON.stringify(settings, null, 2)}\n`, 0o600);
}

function ensureSupervisor(places: Places, root: string): void {
  const spec = supervisorProcess(places, root);
  if (!findAdopted(spec.pidFile)) spawnDetached(spec);
}

type Eks = ReturnType<typeof awsClients>["eks"];

async function ensureCluster(eks: Eks, record: ClusterRecord, plan: ClusterPlan, network: BuiltNetwork): Promise<void> {
  try {
    await eks.send("CreateCluster", {
      name: plan.name,
      version: plan.version,
      roleArn: `arn:aws:iam::${record.accountId}:role/${clusterRole}`,
      resourcesVpcConfig: {
        subnetIds: network.subnets.map(({ subnetId }) => subnetId),
        endpointPublicAccess: plan.publicAccess,
        endpointPrivateAccess: plan.privateAccess,
      },
      ...(plan.serviceCidr ? { kubernetesNetworkConfig: { serviceIpv4Cidr: plan.serviceCidr } } : {}),
      accessConfig: { authenticationMode: "API", bootstrapClusterCreatorAdminPermissions: true },
      tags: { "created-by": "eks-workshop-v2", env: plan.name, ...plan.tags },
    });
  } catch (err) {
    if (!isAwsError(err, "ResourceInUseException")) throw err;
  }
  await waitUntil("the control plane to become ACTIVE", 60_000, async () => {
    const { cluster } = await eks.send("DescribeCluster", { name: plan.name });
    if (cluster?.status === "FAILED")
      throw new UnderlayError("ClusterFailed", `Cannot bring the control plane up: EKS reports FAILED`);
    return cluster?.status === "ACTIVE" ? cluster : undefined;
  });
}

/** The vpc-cni add-on's configuration: EKS works out a node's max pods from it, so it is said before nodes come. */
async function configureCni(eks: Eks, plan: ClusterPlan): Promise<void> {
  if (Object.keys(plan.cniEnv).length === 0) return;
  await eks.send("UpdateAddon", {
    clusterName: plan.name,
    addonName: "vpc-cni",
    resolveConflicts: "OVERWRITE",
    configurationValues: JSON.stringify({ env: plan.cniEnv }),
  });
}

/** `maxPodsPerNode` as eksctl brings it to a managed node group: a launch template whose user data is a NodeConfig. Its name. */
async function ensureLaunchTemplate(
  ec2: ReturnType<typeof awsClients>["ec2"],
  plan: ClusterPlan,
  group: ClusterPlan["nodeGroups"][number],
): Promise<string | undefined> {
  if (group.maxPodsPerNode === undefined) return undefined;
  const name = `eksctl-${plan.name}-nodegroup-${group.name}`;
  const config = {
    apiVersion: "node.eks.aws/v1alpha1",
    kind: "NodeConfig",
    spec: { kubelet: { config: { maxPods: group.maxPodsPerNode } } },
  };
  const message = [
    'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="//"\r\n',
    `--//\r\nContent-Type: application/node.eks.aws\r\n\r\n${JSON.stringify(config)}`,
    "--//--\r\n",
  ].join("\r\n");
  try {
    await ec2.send("CreateLaunchTemplate", {
      LaunchTemplateName: name,
      LaunchTemplateData: { UserData: Buffer.from(message).toString("base64") },
    });
  } catch (err) {
    if (!isAwsError(err, "InvalidLaunchTemplateName.AlreadyExistsException")) throw err;
  }
  return name;
}

/** The kubelet reads it from its node labels (ARCHITECTURE.md, "user data"). */
const runtimeLabel = "node.underlay.dev/container-runtime";

async function ensureNodeGroup(
  eks: Eks,
  record: ClusterRecord,
  plan: ClusterPlan,
  group: ClusterPlan["nodeGroups"][number],
  network: BuiltNetwork,
  template: string | undefined,
): Promise<void> {
  try {
    await eks.send("CreateNodegroup", {
      clusterName: plan.name,
      nodegroupName: group.name,
      subnets: network.subnets
        .filter((subnet) => subnet.public !== group.privateNetworking)
        .map(({ subnetId }) => subnetId),
      instanceTypes: [group.instanceType],
      nodeRole: `arn:aws:iam::${record.accountId}:role/${nodeRole}`,
      scalingConfig: { minSize: group.minSize, maxSize: group.maxSize, desiredSize: group.desiredCapacity },
      labels: { ...group.labels, ...(group.containerRuntime === "containerd" ? { [runtimeLabel]: "containerd" } : {}) },
      ...(template ? { launchTemplate: { name: template } } : {}),
    });
  } catch (err) {
    if (!isAwsError(err, "ResourceInUseException")) throw err;
  }
}

async function isComplete(eks: Eks, places: Places, plan: ClusterPlan): Promise<boolean> {
  try {
    const { cluster } = await eks.send("DescribeCluster", { name: plan.name });
    if (cluster?.status !== "ACTIVE" || !existsSync(places.adminKubeconfig)) return false;
    return (await whatIsNotReady(places, plan)) === undefined;
  } catch {
    return false;
  }
}

async function waitUntilReady(places: Places, plan: ClusterPlan): Promise<void> {
  let missing: string | undefined = "the first look";
  try {
    await waitUntil(
      "the cluster to become Ready",
      120_000,
      async () => {
        missing = await whatIsNotReady(places, plan);
        return missing === undefined ? true : undefined;
      },
      200,
    );
  } catch (err) {
    throw new UnderlayError("NotReady", `Cannot bring the cluster up: ${missing ?? "it is not Ready"} after 120 s`, {
      cause: err,
      hint: `Look at: kubectl --kubeconfig ${places.adminKubeconfig} get pods -A; logs in ${places.logs}`,
    });
  }
}

/** The first thing that keeps the cluster from being complete, in words; undefined when nothing does. */
export async function whatIsNotReady(places: Places, plan: ClusterPlan): Promise<string | undefined> {
  const seen = await readinessOf(places);
  const wanted = plan.nodeGroups.reduce((sum, group) => sum + group.desiredCapacity, 0);
  if (seen.readyNodes < wanted) return `${seen.readyNodes} of ${wanted} nodes are Ready`;
  if (wanted > 0 && seen.coredns.ready < seen.coredns.wanted)
    return `${seen.coredns.ready} of ${seen.coredns.wanted} coredns pods are Ready`;
  return undefined;
}
