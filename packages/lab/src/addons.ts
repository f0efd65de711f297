/** The add-ons every EKS cluster starts with, applied through the Kubernetes API. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { nthAddress } from "@underlay/addr/cidr";
import { awsClients } from "./up-clients.ts";
import { kubeClient } from "./kube-access.ts";
import type { ClusterPlan } from "./cluster-file.ts";
import { applyManifest, readManifest, type Manifest } from "./manifest.ts";
import type { ClusterRecord, Places } from "./places.ts";
import { waitUntil } from "./wait.ts";

const manifestFolders = ["vpc-cni", "network-policy", "service-proxy", "cluster-dns"];

/** Applies aws-node, kube-proxy and coredns with their CRDs; CRDs first, and established before anything that may use them. */
export async function applyAddons(options: { places: Places; record: ClusterRecord; vpcId: string }): Promise<void> {
  const { places, record, vpcId } = options;
  const aws = awsClients(record);
  const { cluster } = await aws.eks.send("DescribeCluster", { name: record.plan.name });
  aws.eks.close();
  aws.ec2.close();
  const serviceCidr = cluster?.kubernetesNetworkConfig?.serviceIpv4Cidr ?? "172.20.0.0/16";
  const values = {
    REGION: record.plan.region,
    CLUSTER_NAME: record.plan.name,
    CLUSTER_ENDPOINT: cluster?.endpoint ?? "",
    CLUSTER_DNS: nthAddress(serviceCidr, 10),
    VPC_ID: vpcId,
  };
  const objects = manifestFolders.flatMap((folder) => readFolder(places.repoDir, folder, values));
  setCniEnv(objects, record.plan.cniEnv);
  setNetworkPolicy(objects, record.plan.networkPolicy);
  const client = await kubeClient(places);
  try {
    const definitions = objects.filter((object) => object.kind === "CustomResourceDefinition");
    for (const definition of definitions) await applyManifest(client, definition, "eks");
    for (const object of objects) if (!definitions.includes(object)) await applyManifest(client, object, "eks");
    await waitUntil("service account aws-node", 10_000, () =>
      client.request("GET", "/api/v1/namespaces/kube-system/serviceaccounts/aws-node", {}),
    );
  } finally {
    client.close();
  }
}

function readFolder(repoDir: string, folder: string, values: Readonly<Record<string, string>>): Manifest[] {
  const files = globSync("*.yaml", { cwd: join(repoDir, "packages", folder, "manifests") }).sort();
  return files.flatMap((file) =>
    readManifest(readFileSync(join(repoDir, "packages", folder, "manifests", file), "utf8"), values),
  );
}

type Container = { name: string; args?: string[]; env?: { name: string; value?: string }[] };
type ContainerHolder = { spec: { template: { spec: { containers: Container[] } } } };

function containerOf(objects: readonly Manifest[], name: string): Container | undefined {
  const daemonSet = objects.find((object) => object.kind === "DaemonSet" && object.metadata.name === "aws-node");
  return (daemonSet as ContainerHolder | undefined)?.spec.template.spec.containers.find((one) => one.name === name);
}

/** Sets variables on the main container of aws-node, replacing those of the same name. */
function setCniEnv(objects: readonly Manifest[], env: Readonly<Record<string, string>>): void {
  const container = containerOf(objects, "aws-node");
  if (!container) return;
  const kept = (container.env ?? []).filter(({ name }) => !(name in env));
  container.env = [...kept, ...Object.entries(env).map(([name, value]) => ({ name, value }))];
}

/** The add-on's switch: the controller's ConfigMap and the agent's flags. */
function setNetworkPolicy(objects: readonly Manifest[], { enabled, eventLogs }: ClusterPlan["networkPolicy"]): void {
  const agent = containerOf(objects, "aws-eks-nodeagent");
  const flags: Record<string, boolean> = { "enable-network-policy": enabled, "enable-policy-event-logs": eventLogs };
  if (agent) {
    const isSet = (arg: string): boolean => Object.keys(flags).some((flag) => arg.startsWith(`--${flag}=`));
    const kept = (agent.args ?? []).filter((arg) => !isSet(arg));
    agent.args = [...kept, ...Object.entries(flags).map(([flag, on]) => `--${flag}=${on}`)];
  }
  const config = objects.find((object) => object.kind === "ConfigMap" && object.metadata.name === "amazon-vpc-cni");
  const data = (config as { data?: Record<string, string> } | undefined)?.data;
  if (data) data["enable-network-policy-controller"] = String(enabled);
}
