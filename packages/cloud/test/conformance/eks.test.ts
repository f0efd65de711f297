/** EKS with foreign clients: AWS SDK v3, the AWS CLI, and a real API server behind the cluster (host door only). */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import * as sdk from "@aws-sdk/client-eks";
import { createEksClient } from "@underlay/aws/eks-client";
import { eksToken } from "@underlay/aws/eks-token";
import { buildVpc, keys, region, startCloud, until, type CloudProcess } from "../cloud-process.ts";

let cloud: CloudProcess;
let eks: sdk.EKSClient;
let network: Awaited<ReturnType<typeof buildVpc>>;
const roleArn = "arn:aws:iam::111122223333:role/eks";
const nodeRole = "arn:aws:iam::111122223333:role/eks-node";
const execute = promisify(execFile);

before(async () => {
  const apiServer = join(import.meta.dirname, "../../../control-plane/src/apiserver/main.ts");
  const programs = [{ name: "apiserver", argv: [process.execPath, apiServer] }];
  cloud = await startCloud({ controlPlane: { programs, kubePort: await freePort() } });
  eks = new sdk.EKSClient({ region, endpoint: cloud.endpoint, credentials: keys, maxAttempts: 1 });
  network = await buildVpc(cloud.ec2, "10.42.0.0/16");
});

after(async () => {
  // The control plane outlives the cloud by design, so the cluster goes first.
  const { nodegroups = [] } = await eks
    .send(new sdk.ListNodegroupsCommand({ clusterName: "demo" }))
    .catch(() => ({ nodegroups: [] }));
  for (const nodegroupName of nodegroups)
    await eks.send(new sdk.DeleteNodegroupCommand({ clusterName: "demo", nodegroupName })).catch(() => undefined);
  await until("the cluster to go", async () => {
    await eks.send(new sdk.DeleteClusterCommand({ name: "demo" })).catch(() => undefined);
    return (await eks.send(new sdk.ListClustersCommand({}))).clusters?.length === 0;
  });
  eks.destroy();
  await cloud.stop();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

async function aws(...args: string[]): Promise<string> {
  const env = {
    PATH: process.env["PATH"],
    HOME: cloud.folder,
    AWS_ENDPOINT_URL: cloud.endpoint,
    AWS_DEFAULT_REGION: region,
    AWS_ACCESS_KEY_ID: keys.accessKeyId,
    AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    AWS_PAGER: "",
  };
  return (await execute("aws", ["--output", "json", ...args], { env })).stdout;
}

const hasCli = (process.env["PATH"] ?? "").split(":").some((folder) => existsSync(join(folder, "aws")));

test("create-cluster makes X-ENIs, the cluster group and an endpoint, and becomes ACTIVE by a real API server", async () => {
  const create = {
    name: "demo",
    roleArn,
    resourcesVpcConfig: { subnetIds: network.subnetIds, endpointPrivateAccess: true },
    accessConfig: { authenticationMode: "API" as const },
  };
  const { cluster } = await eks.send(new sdk.CreateClusterCommand(create));
  assert.deepEqual([cluster?.status, cluster?.endpoint], ["CREATING", undefined]);
  await assert.rejects(eks.send(new sdk.CreateClusterCommand(create)), { name: "ResourceInUseException" });
  const active = await until(
    "the cluster to be ACTIVE",
    async () => {
      const described = (await eks.send(new sdk.DescribeClusterCommand({ name: "demo" }))).cluster;
      return described?.status === "ACTIVE" ? described : undefined;
    },
    30_000,
  );
  assert.match(active.endpoint ?? "", /^https:\/\/[0-9A-F]{32}\.gr7\.us-west-2\.eks\.amazonaws\.com$/);
  assert.match(Buffer.from(active.certificateAuthority?.data ?? "", "base64").toString(), /BEGIN CERTIFICATE/);
  assert.equal(active.kubernetesNetworkConfig?.serviceIpv4Cidr, "172.20.0.0/16");
  assert.equal(active.arn, "arn:aws:eks:us-west-2:111122223333:cluster/demo");

  const group = active.resourcesVpcConfig?.clusterSecurityGroupId ?? "";
  const { SecurityGroups } = await cloud.ec2.send("DescribeSecurityGroups", { GroupIds: [group] });
  assert.match(SecurityGroups?.[0]?.GroupName ?? "", /^eks-cluster-sg-demo-\d+$/);
  assert.deepEqual(Object.fromEntries((SecurityGroups?.[0]?.Tags ?? []).map(({ Key = "", Value }) => [Key, Value])), {
    Name: SecurityGroups?.[0]?.GroupName,
    "kubernetes.io/cluster/demo": "owned",
    "aws:eks:cluster-name": "demo",
  });
  assert.deepEqual(
    SecurityGroups?.[0]?.IpPermissions?.[0]?.UserIdGroupPairs?.map(({ GroupId }) => GroupId),
    [group],
  );
  const { NetworkInterfaces = [] } = await cloud.ec2.send("DescribeNetworkInterfaces", {
    Filters: [{ Name: "description", Values: ["Amazon EKS demo"] }],
  });
  assert.deepEqual(NetworkInterfaces.map((eni) => eni.SubnetId).sort(), [...network.subnetIds].sort());
  assert.ok(NetworkInterfaces.every((eni) => eni.RequesterManaged === true && eni.Groups?.[0]?.GroupId === group));
  await assert.rejects(
    cloud.ec2.send("DeleteNetworkInterface", { NetworkInterfaceId: NetworkInterfaces[0]?.NetworkInterfaceId }),
    { code: "OperationNotPermitted" },
  );
});

test("our own client reads what the SDK reads", async () => {
  const ours = createEksClient({ region, endpoint: cloud.endpoint, credentials: () => Promise.resolve(keys) });
  const theirs = (await eks.send(new sdk.DescribeClusterCommand({ name: "demo" }))).cluster;
  assert.deepEqual(
    (await ours.send("DescribeCluster", { name: "demo" })).cluster,
    JSON.parse(JSON.stringify(theirs), dates),
  );
  await assert.rejects(ours.send("DescribeCluster", { name: "none" }), {
    code: "ResourceNotFoundException",
    status: 404,
    message: "No cluster found for name: none.",
  });
  ours.close();
});

function dates(key: string, value: unknown): unknown {
  return key === "createdAt" ? new Date(String(value)) : value;
}

test("the creator is admin, node groups enter their role, standard entries take policies", async () => {
  const principalArn = "arn:aws:iam::111122223333:role/dev";
  const { accessEntry } = await eks.send(
    new sdk.CreateAccessEntryCommand({ clusterName: "demo", principalArn, kubernetesGroups: ["devs"] }),
  );
  assert.equal(accessEntry?.username, "arn:aws:sts::111122223333:assumed-role/dev/{{SessionName}}");
  const policyArn = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
  await eks.send(
    new sdk.AssociateAccessPolicyCommand({
      clusterName: "demo",
      principalArn,
      policyArn,
      accessScope: { type: "namespace", namespaces: ["default"] },
    }),
  );
  await assert.rejects(eks.send(new sdk.CreateAccessEntryCommand({ clusterName: "demo", principalArn })), {
    name: "ResourceInUseException",
  });
  await assert.rejects(
    eks.send(
      new sdk.CreateAccessEntryCommand({
        clusterName: "demo",
        principalArn: nodeRole,
        type: "EC2_LINUX",
        kubernetesGroups: ["x"],
      }),
    ),
    {
      name: "InvalidParameterException",
    },
  );
  const { accessEntries } = await eks.send(new sdk.ListAccessEntriesCommand({ clusterName: "demo" }));
  assert.deepEqual(accessEntries, ["arn:aws:iam::111122223333:user/underlay", principalArn]);
  await eks.send(new sdk.DeleteAccessEntryCommand({ clusterName: "demo", principalArn }));
  await assert.rejects(eks.send(new sdk.DescribeAccessEntryCommand({ clusterName: "demo", principalArn })), {
    name: "ResourceNotFoundException",
  });
});

test("add-ons are listed with the versions that run", async () => {
  assert.deepEqual((await eks.send(new sdk.ListAddonsCommand({ clusterName: "demo" }))).addons, [
    "coredns",
    "kube-proxy",
    "vpc-cni",
  ]);
  const { addon } = await eks.send(new sdk.DescribeAddonCommand({ clusterName: "demo", addonName: "vpc-cni" }));
  assert.deepEqual([addon?.addonVersion, addon?.status], ["v1.23.1-eksbuild.1", "ACTIVE"]);
});

test("a node group launches instances with a NodeConfig, stays CREATING while no node joins, and goes with its instances", async () => {
  const { nodegroup } = await eks.send(
    new sdk.CreateNodegroupCommand({
      clusterName: "demo",
      nodegroupName: "default",
      nodeRole,
      subnets: network.subnetIds,
      instanceTypes: ["m5.large"],
      scalingConfig: { minSize: 1, maxSize: 3, desiredSize: 2 },
      labels: { "workshop-default": "yes" },
      taints: [{ key: "a", value: "b", effect: "NO_SCHEDULE" }],
    }),
  );
  assert.equal(nodegroup?.status, "CREATING");
  const filters = [
    { Name: "tag-key", Values: ["eks:cluster-name"] },
    { Name: "tag-value", Values: ["demo"] },
  ];
  const { Reservations = [] } = await cloud.ec2.send("DescribeInstances", { Filters: filters });
  const instances = Reservations.flatMap((one) => one.Instances ?? []);
  assert.deepEqual(instances.map((one) => one.SubnetId).sort(), [...network.subnetIds].sort(), "one in each zone");
  const attribute = await cloud.ec2.send("DescribeInstanceAttribute", {
    InstanceId: instances[0]?.InstanceId,
    Attribute: "userData",
  });
  const config = JSON.parse(Buffer.from(attribute.UserData?.Value ?? "", "base64").toString()) as {
    kind: string;
    spec: { cluster: { name: string }; kubelet: { config: { maxPods: number }; flags: string[] } };
  };
  assert.deepEqual(
    [config.kind, config.spec.cluster.name, config.spec.kubelet.config.maxPods],
    ["NodeConfig", "demo", 29],
  );
  assert.match(
    config.spec.kubelet.flags.join(" "),
    /--node-labels=eks\.amazonaws\.com\/nodegroup=default,.*workshop-default=yes .*--register-with-taints=a=b:NoSchedule/,
  );

  const entry = await eks.send(new sdk.DescribeAccessEntryCommand({ clusterName: "demo", principalArn: nodeRole }));
  assert.deepEqual(
    [entry.accessEntry?.type, entry.accessEntry?.username],
    ["EC2_LINUX", "system:node:{{EC2PrivateDNSName}}"],
  );
  const described = await eks.send(new sdk.DescribeNodegroupCommand({ clusterName: "demo", nodegroupName: "default" }));
  assert.equal(described.nodegroup?.status, "CREATING");
  await assert.rejects(eks.send(new sdk.DeleteClusterCommand({ name: "demo" })), { name: "ResourceInUseException" });

  // The group is its own Auto Scaling group: a terminated member is replaced.
  await cloud.ec2.send("TerminateInstances", { InstanceIds: [instances[0]?.InstanceId ?? ""] });
  await until("the replacement", async () => {
    const now = await cloud.ec2.send("DescribeInstances", {
      Filters: [...filters, { Name: "instance-state-name", Values: ["pending", "running"] }],
    });
    const ids = (now.Reservations ?? []).flatMap((one) => one.Instances ?? []).map((one) => one.InstanceId);
    return ids.length === 2 && !ids.includes(instances[0]?.InstanceId);
  });
  await eks.send(new sdk.DeleteNodegroupCommand({ clusterName: "demo", nodegroupName: "default" }));
  await until(
    "the group to go",
    async () => (await eks.send(new sdk.ListNodegroupsCommand({ clusterName: "demo" }))).nodegroups?.length === 0,
  );
  const left = await cloud.ec2.send("DescribeInstances", {
    Filters: [...filters, { Name: "instance-state-name", Values: ["pending", "running", "shutting-down"] }],
  });
  assert.deepEqual(left.Reservations, []);
});

test("wrong requests are refused by name", async () => {
  const config = { subnetIds: network.subnetIds.slice(0, 1) };
  await assert.rejects(eks.send(new sdk.CreateClusterCommand({ name: "x", roleArn, resourcesVpcConfig: config })), {
    name: "InvalidParameterException",
    message: /two different AZs/,
  });
  const encrypted = {
    name: "x",
    roleArn,
    resourcesVpcConfig: { subnetIds: network.subnetIds },
    encryptionConfig: [{ resources: ["secrets"] }],
  };
  await assert.rejects(eks.send(new sdk.CreateClusterCommand(encrypted)), {
    name: "InvalidParameterException",
    message: /encryptionConfig/,
  });
});

test(
  "the AWS CLI describes, waits and writes a kubeconfig",
  { skip: hasCli ? false : "no aws on the PATH" },
  async () => {
    await aws("eks", "wait", "cluster-active", "--name", "demo");
    const kubeconfig = join(cloud.folder, "kubeconfig");
    await aws("eks", "update-kubeconfig", "--name", "demo", "--kubeconfig", kubeconfig);
    assert.ok(existsSync(kubeconfig));
    const { status } = JSON.parse(await aws("eks", "get-token", "--cluster-name", "demo")) as {
      status: { token: string };
    };
    const { Arn } = JSON.parse(await aws("sts", "get-caller-identity")) as { Arn: string };
    assert.equal(Arn, "arn:aws:iam::111122223333:user/underlay");
    // A token is a URL that STS answers when asked with the cluster's header.
    for (const token of [
      status.token,
      (await eksToken({ clusterName: "demo", region, credentials: () => Promise.resolve(keys) })).token,
    ]) {
      const url = new URL(Buffer.from(token.replace("k8s-aws-v1.", ""), "base64url").toString());
      const { status: code, text } = await askSts(url);
      assert.equal(code, 200, text);
      assert.match(text, /arn:aws:iam::111122223333:user\/underlay/);
    }
  },
);

/** Sends a presigned URL to our door, whatever host it was made for. */
async function askSts(url: URL): Promise<{ status: number; text: string }> {
  const { request } = await import("node:http");
  return new Promise((resolve, reject) => {
    const door = new URL(cloud.endpoint);
    const call = request(
      {
        host: door.hostname,
        port: door.port,
        path: `/${url.search}`,
        headers: { host: url.host, "x-k8s-aws-id": "demo" },
      },
      (answer) => {
        let text = "";
        answer.on("data", (chunk: Buffer) => (text += chunk.toString()));
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text }));
      },
    );
    call.on("error", reject);
    call.end();
  });
}
