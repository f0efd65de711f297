/** Custom networking as a user meets it: a node without its ENIConfig waits and says why, then its pods live in 100.64/16. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { contains } from "@underlay/addr/cidr";
import {
  conditionOf,
  eventually,
  instanceIdOf,
  runOk,
  TestCluster,
  type NodeList,
  type PodList,
} from "../support/cluster.ts";

let cluster: TestCluster;
let oldAddress: string | undefined;
const folder = mkdtempSync(join(tmpdir(), "underlay-file-"));
const group = "custom-networking";

before(async () => {
  cluster = await TestCluster.up({
    file(name) {
      const file = join(folder, "cluster.yaml");
      writeFileSync(
        file,
        JSON.stringify({
          apiVersion: "eksctl.io/v1alpha5",
          kind: "ClusterConfig",
          metadata: { name, region: "us-west-2" },
          managedNodeGroups: [
            { name: "default", instanceType: "m5.large", desiredCapacity: 2, minSize: 1, privateNetworking: true },
          ],
        }),
      );
      return file;
    },
  });
  await apply(flow("old", "default", ["serve", "7000"]));
  oldAddress = await addressOf("old");
});
after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

type Subnet = { SubnetId: string; AvailabilityZone: string; VpcId: string };
let primarySubnets: readonly Subnet[] = [];
const secondarySubnets = new Map<string, string>();

test("a node without its ENIConfig stays NotReady and says why", async () => {
  await addSecondaryBlock();
  await cluster.kubectlOk(
    "set",
    "env",
    "-n",
    "kube-system",
    "daemonset/aws-node",
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG=true",
    "ENI_CONFIG_LABEL_DEF=topology.kubernetes.io/zone",
  );
  const { nodegroup } = await cluster.aws<{ nodegroup: { nodeRole: string } }>(
    "eks",
    "describe-nodegroup",
    "--cluster-name",
    cluster.name,
    "--nodegroup-name",
    "default",
  );
  await cluster.aws(
    "eks",
    "create-nodegroup",
    "--cluster-name",
    cluster.name,
    "--nodegroup-name",
    group,
    "--instance-types",
    "t3.medium",
    "--node-role",
    nodegroup.nodeRole,
    "--subnets",
    ...primarySubnets.map(({ SubnetId }) => SubnetId),
    "--scaling-config",
    "minSize=1,maxSize=1,desiredSize=1",
  );
  const node = await eventually("the new node", newNode);
  const zone = node.metadata.labels["topology.kubernetes.io/zone"];
  const said = await eventually("the event that says why", async () => {
    const { items } = await cluster.kubectlJson<{ items: { reason: string; message: string }[] }>(
      "get",
      "events",
      "-n",
      "kube-system",
    );
    return items.find(
      ({ reason, message }) => reason === "CustomNetworkingNotReady" && message.includes(node.metadata.name),
    )?.message;
  });
  assert.match(said, new RegExp(`ENIConfig "${zone}" does not exist \\(label topology\\.kubernetes\\.io/zone\\)`));
  assert.notEqual(conditionOf((await newNode()) ?? node, "Ready"), "True");
});

test("with its ENIConfig the node turns Ready, and pods get addresses of its subnet, none of the primary ENI", async () => {
  for (const [zone, subnet] of secondarySubnets) {
    await apply({
      apiVersion: "crd.k8s.amazonaws.com/v1alpha1",
      kind: "ENIConfig",
      metadata: { name: zone },
      spec: { subnet },
    });
  }
  const node = await eventually("the new node to be Ready", async () => {
    const seen = await newNode();
    return seen && conditionOf(seen, "Ready") === "True" ? seen : undefined;
  });
  await apply(flow("new", group, ["read", oldAddress ?? "", "7000"]));
  const address = await addressOf("new");
  assert.ok(contains("100.64.0.0/16", address), `${address} is in 100.64.0.0/16`);
  const { NetworkInterfaces } = await cluster.aws<{
    NetworkInterfaces: {
      Attachment: { DeviceIndex: number };
      PrivateIpAddresses: object[];
      SubnetId: string;
      Groups: { GroupId: string }[];
    }[];
  }>("ec2", "describe-network-interfaces", "--filters", `Name=attachment.instance-id,Values=${instanceIdOf(node)}`);
  const primary = NetworkInterfaces.find(({ Attachment }) => Attachment.DeviceIndex === 0);
  assert.equal(primary?.PrivateIpAddresses.length, 1, "the primary ENI has its own address alone");
  const others = NetworkInterfaces.filter((eni) => eni !== primary);
  assert.ok(others.length >= 1);
  for (const eni of others) {
    assert.equal(eni.SubnetId, secondarySubnets.get(node.metadata.labels["topology.kubernetes.io/zone"] ?? ""));
    assert.deepEqual(eni.Groups, primary?.Groups, "an ENIConfig without groups takes the primary's");
  }
});

test("pods of 100.64 and 10.42 talk, and the older pod keeps its address", async () => {
  await eventually("the connection to live", async () =>
    /^\d\d+ without a gap/m.test(await cluster.kubectlOk("logs", "new", "--tail=1")) ? true : undefined,
  );
  assert.equal(await addressOf("old"), oldAddress);
  assert.ok(contains("10.42.0.0/16", oldAddress ?? ""));
});

async function addSecondaryBlock(): Promise<void> {
  const { Subnets } = await cluster.aws<{ Subnets: Subnet[] }>(
    "ec2",
    "describe-subnets",
    "--filters",
    "Name=tag:Name,Values=*Private*",
  );
  primarySubnets = Subnets;
  assert.equal(primarySubnets.length, 3);
  const VpcId = primarySubnets[0]?.VpcId ?? "";
  await cluster.aws("ec2", "associate-vpc-cidr-block", "--vpc-id", VpcId, "--cidr-block", "100.64.0.0/16");
  for (const [index, { AvailabilityZone, SubnetId }] of primarySubnets.entries()) {
    const { Subnet } = await cluster.aws<{ Subnet: Subnet }>(
      "ec2",
      "create-subnet",
      "--vpc-id",
      VpcId,
      "--availability-zone",
      AvailabilityZone,
      "--cidr-block",
      `100.64.${index * 32}.0/19`,
    );
    const { RouteTables } = await cluster.aws<{ RouteTables: { RouteTableId: string }[] }>(
      "ec2",
      "describe-route-tables",
      "--filters",
      `Name=association.subnet-id,Values=${SubnetId}`,
    );
    const table = RouteTables[0]?.RouteTableId ?? "";
    await cluster.aws("ec2", "associate-route-table", "--route-table-id", table, "--subnet-id", Subnet.SubnetId);
    secondarySubnets.set(AvailabilityZone, Subnet.SubnetId);
  }
}

async function newNode(): Promise<NodeList["items"][number] | undefined> {
  const { items } = await cluster.kubectlJson<NodeList>("get", "nodes", "-l", `eks.amazonaws.com/nodegroup=${group}`);
  return items[0];
}

async function addressOf(pod: string): Promise<string> {
  return eventually(`pod ${pod} to run`, async () => {
    const seen = await cluster.kubectlJson<PodList["items"][number]>("get", "pod", pod);
    return seen.status.phase === "Running" ? seen.status.podIP : undefined;
  });
}

function flow(name: string, nodeGroup: string, args: readonly string[]): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      nodeSelector: { "eks.amazonaws.com/nodegroup": nodeGroup },
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 1,
      containers: [{ name: "flow", image: "underlay.test/flow", args }],
    },
  };
}

async function apply(object: object): Promise<void> {
  await runOk("kubectl", ["apply", "-f", "-"], { env: cluster.env, input: JSON.stringify(object) });
}
