/** What the workshop's prefix and custom-networking pages ask of AWS, with the AWS CLI and the lines as printed there. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { askApiServer } from "../../src/lifecycle/kubernetes-door.ts";
import { buildVpc, keys, region, startCloud, until, type CloudProcess } from "../cloud-process.ts";

const hasCli = (process.env["PATH"] ?? "").split(":").some((folder) => existsSync(join(folder, "aws")));
const options = { skip: hasCli ? false : "no aws on the PATH" };
const execute = promisify(execFile);
const nodeRole = "arn:aws:iam::111122223333:role/eks-node";

let cloud: CloudProcess;
let network: Awaited<ReturnType<typeof buildVpc>>;

/** A line of the shell, with the environment of the workshop. */
async function sh(line: string): Promise<string> {
  const env = {
    PATH: process.env["PATH"],
    HOME: cloud.folder,
    AWS_ENDPOINT_URL: cloud.endpoint,
    AWS_DEFAULT_REGION: region,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: keys.accessKeyId,
    AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    AWS_PAGER: "",
    EKS_CLUSTER_NAME: "demo",
    VPC_ID: network.vpcId,
    SUBNETS: network.subnetIds.join(" "),
    NODE_ROLE: nodeRole,
  };
  return (await execute("bash", ["-c", line], { env })).stdout.trim();
}

const json = async (line: string): Promise<never> => JSON.parse(await sh(line)) as never;
const fails = (line: string, message: RegExp) =>
  assert.rejects(
    sh(line),
    (error: { stderr?: string }) => message.test(error.stderr ?? ""),
    `${line} fails with ${message}`,
  );
const directory = () => join(cloud.folder, "eks/demo");
const post = async (path: string, content: object): Promise<void> => {
  const { status, body } = await askApiServer(directory(), path, "POST", { type: "application/json", content });
  assert.equal(status, 201, body);
};
const patchStatus = (path: string, status: object) =>
  askApiServer(directory(), `${path}/status`, "PATCH", { type: "application/merge-patch+json", content: { status } });

before(async () => {
  const apiServer = join(import.meta.dirname, "../../../control-plane/src/apiserver/main.ts");
  const programs = [{ name: "apiserver", argv: [process.execPath, apiServer] }];
  cloud = await startCloud({ controlPlane: { programs, kubePort: await freePort() } });
  network = await buildVpc(cloud.ec2, "10.42.0.0/16");
  if (!hasCli) return;
  await sh(
    `aws eks create-cluster --name demo --role-arn arn:aws:iam::111122223333:role/eks --resources-vpc-config subnetIds=${network.subnetIds.join(",")}`,
  );
  await until(
    "the cluster",
    async () => (await sh("aws eks describe-cluster --name demo --query cluster.status --output text")) === "ACTIVE",
    30_000,
  );
});

after(async () => {
  if (hasCli) {
    const groups = (await sh("aws eks list-nodegroups --cluster-name demo --query nodegroups --output text"))
      .split(/\s+/)
      .filter(Boolean);
    for (const name of groups) await sh(`aws eks delete-nodegroup --cluster-name demo --nodegroup-name ${name}`);
    await until(
      "the cluster to go",
      async () => {
        await sh("aws eks delete-cluster --name demo").catch(() => undefined);
        return (await sh("aws eks list-clusters --query clusters --output text")) === "";
      },
      20_000,
    );
  }
  await cloud.stop();
});

test(
  "a 100.64 block joins a VPC with subnets, associations and local routes; AWS's restrictions hold",
  options,
  async () => {
    await fails(
      "aws ec2 associate-vpc-cidr-block --vpc-id $VPC_ID --cidr-block 172.16.0.0/16",
      /InvalidVpc\.Range.*restricted/,
    );
    await fails("aws ec2 associate-vpc-cidr-block --vpc-id $VPC_ID --cidr-block 10.42.0.0/20", /CidrConflict/);
    await sh("aws ec2 associate-vpc-cidr-block --vpc-id $VPC_ID --cidr-block 100.64.0.0/16");
    assert.deepEqual(
      await json(
        "aws ec2 describe-vpcs --vpc-ids $VPC_ID --output json | jq '[.Vpcs[0].CidrBlockAssociationSet[] | [.CidrBlock, .CidrBlockState.State]]'",
      ),
      [
        ["10.42.0.0/16", "associated"],
        ["100.64.0.0/16", "associated"],
      ],
    );
    const subnet = await sh(
      `aws ec2 create-subnet --vpc-id $VPC_ID --cidr-block 100.64.0.0/19 --availability-zone us-west-2a --tag-specifications 'ResourceType=subnet,Tags=[{Key=created-by,Value=eks-workshop-v2}]' --query Subnet.SubnetId --output text`,
    );
    const table = await sh("aws ec2 create-route-table --vpc-id $VPC_ID --query RouteTable.RouteTableId --output text");
    await sh(`aws ec2 associate-route-table --route-table-id ${table} --subnet-id ${subnet}`);
    assert.deepEqual(
      await json(
        `aws ec2 describe-route-tables --filters Name=association.subnet-id,Values=${subnet} --query 'RouteTables[0].Routes[].[DestinationCidrBlock,GatewayId]' --output json`,
      ),
      [
        ["10.42.0.0/16", "local"],
        ["100.64.0.0/16", "local"],
      ],
    );
    assert.deepEqual(
      await json(
        `aws ec2 describe-subnets --filters "Name=tag:created-by,Values=eks-workshop-v2" --query "Subnets[*].CidrBlock" --output json`,
      ),
      ["100.64.0.0/19"],
    );
  },
);

test("the vpc-cni add-on takes env as configuration values, and the DaemonSet follows", options, async () => {
  const env = [
    { name: "WARM_ENI_TARGET", value: "1" },
    { name: "ENABLE_PREFIX_DELEGATION", value: "false" },
  ];
  const labels = { "k8s-app": "aws-node" };
  await post("/apis/apps/v1/namespaces/kube-system/daemonsets", {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "aws-node", namespace: "kube-system" },
    spec: {
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: "aws-node", image: "cni", env }] } },
    },
  });
  const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/aws-node";
  const seen = async () => {
    const daemonSet = JSON.parse((await askApiServer(directory(), path)).body) as {
      spec: { template: { spec: { containers: { env: { name: string; value: string }[] }[] } } };
    };
    return Object.fromEntries(daemonSet.spec.template.spec.containers[0]!.env.map(({ name, value }) => [name, value]));
  };
  const update = (values: string) =>
    sh(
      `aws eks update-addon --cluster-name demo --addon-name vpc-cni --resolve-conflicts OVERWRITE --configuration-values '${values}'`,
    );
  const status = () =>
    sh("aws eks describe-addon --cluster-name demo --addon-name vpc-cni --query addon.status --output text");

  await update('{"env":{"ENABLE_PREFIX_DELEGATION":"true","WARM_PREFIX_TARGET":"2"}}');
  await until("the variables", async () => (await seen())["WARM_PREFIX_TARGET"] === "2");
  assert.deepEqual(await seen(), { WARM_ENI_TARGET: "1", ENABLE_PREFIX_DELEGATION: "true", WARM_PREFIX_TARGET: "2" });
  assert.equal(await status(), "UPDATING", "until the DaemonSet has rolled out");
  await patchStatus(path, {
    observedGeneration: 2,
    desiredNumberScheduled: 0,
    updatedNumberScheduled: 0,
    currentNumberScheduled: 0,
    numberMisscheduled: 0,
    numberReady: 0,
  });
  await until("ACTIVE", async () => (await status()) === "ACTIVE");
  await update('env:\n  ENABLE_PREFIX_DELEGATION: "true"\n');
  await until("the dropped variable", async () => (await seen())["WARM_PREFIX_TARGET"] === undefined);
  await fails(
    "aws eks update-addon --cluster-name demo --addon-name vpc-cni --configuration-values '{\"nodeAgent\":{}}'",
    /nodeAgent: is not defined/,
  );
  await fails("aws eks create-addon --cluster-name demo --addon-name vpc-cni", /ResourceInUseException/);
});

test(
  "create-nodegroup as printed: prefix delegation allows 110 pods, a launch template says otherwise",
  options,
  async () => {
    const created = await sh(
      "aws eks create-nodegroup --region $AWS_REGION --cluster-name $EKS_CLUSTER_NAME --nodegroup-name custom-networking --instance-types t3.medium --node-role $NODE_ROLE --subnets $SUBNETS --labels type=customnetworking --scaling-config minSize=1,maxSize=1,desiredSize=1 --query nodegroup.status --output text",
    );
    assert.equal(created, "CREATING");
    const configOf = async (group: string): Promise<string> => {
      const id = await sh(
        `aws ec2 describe-instances --filters Name=tag:eks:nodegroup-name,Values=${group} --query 'Reservations[0].Instances[0].InstanceId' --output text`,
      );
      const text = await sh(
        `aws ec2 describe-instance-attribute --instance-id ${id} --attribute userData --query UserData.Value --output text`,
      );
      return Buffer.from(text, "base64").toString();
    };
    assert.match(await configOf("custom-networking"), /"maxPods": 110,[\s\S]*type=customnetworking/);

    const config =
      "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  kubelet:\n    config:\n      maxPods: 434\n";
    const mime = `MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="//"\n\n--//\nContent-Type: application/node.eks.aws\n\n${config}\n--//--\n`;
    const data = JSON.stringify({ UserData: Buffer.from(mime).toString("base64") });
    const template = await sh(
      `aws ec2 create-launch-template --launch-template-name many-pods --launch-template-data '${data}' --query LaunchTemplate.LaunchTemplateId --output text`,
    );
    await fails(
      `aws ec2 create-launch-template --launch-template-name other --launch-template-data '{"ImageId":"ami-12345678"}'`,
      /LaunchTemplateData\.ImageId is not supported/,
    );
    await sh(
      `aws eks create-nodegroup --cluster-name demo --nodegroup-name many --instance-types m5.large --node-role $NODE_ROLE --subnets $SUBNETS --launch-template id=${template} --scaling-config minSize=1,maxSize=1,desiredSize=1`,
    );
    // nodeadm merges the parts in order: the template's, after EKS's own, wins.
    const parts = (await configOf("many")).split("--//EKS-NODE-CONFIG//").slice(1, -1);
    assert.deepEqual(
      parts.map((part) => [/Content-Type: (\S+)/.exec(part)?.[1], /maxPods"?: (\d+)/.exec(part)?.[1]]),
      [
        ["application/node.eks.aws", "110"],
        ["application/node.eks.aws", "434"],
      ],
    );
  },
);

test("prefixes of a node show with two independent tag filters", options, async () => {
  const eni = await sh(
    "aws ec2 describe-instances --filters Name=tag:eks:nodegroup-name,Values=custom-networking --query 'Reservations[0].Instances[0].NetworkInterfaces[0].NetworkInterfaceId' --output text",
  );
  await sh(`aws ec2 assign-private-ip-addresses --network-interface-id ${eni} --ipv4-prefix-count 1`);
  const seen: { InstanceId: string; Prefixes: { Ipv4Prefix: string }[] | null }[] = await json(
    `aws ec2 describe-instances --filters "Name=tag-key,Values=eks:cluster-name" "Name=tag-value,Values=\${EKS_CLUSTER_NAME}" --query 'Reservations[*].Instances[].{InstanceId: InstanceId, Prefixes: NetworkInterfaces[].Ipv4Prefixes[]}' --output json`,
  );
  assert.equal(seen.length, 2);
  assert.match(seen.flatMap(({ Prefixes }) => Prefixes ?? [])[0]?.Ipv4Prefix ?? "", /^10\.42\.\d+\.\d+\/28$/);
});

test(
  "an Auto Scaling group is found by the node group's tags, resizes it, and replaces what ends",
  options,
  async () => {
    const byTags = `aws autoscaling describe-auto-scaling-groups --filters "Name=tag:eks:nodegroup-name,Values=many" "Name=tag:eks:cluster-name,Values=$EKS_CLUSTER_NAME"`;
    const name = await sh(`${byTags} --query 'AutoScalingGroups[0].AutoScalingGroupName' --output text`);
    assert.match(name, /^eks-many-[0-9a-f-]{36}$/);
    assert.equal(
      name,
      await sh(
        "aws eks describe-nodegroup --cluster-name demo --nodegroup-name many --query 'nodegroup.resources.autoScalingGroups[0].name' --output text",
      ),
    );
    await fails(
      `aws autoscaling update-auto-scaling-group --auto-scaling-group-name ${name} --desired-capacity 5`,
      /ValidationError.*less than or equal to max size/,
    );
    await fails(
      `aws autoscaling update-auto-scaling-group --auto-scaling-group-name ${name} --health-check-type ELB`,
      /HealthCheckType.*not supported/,
    );
    await sh(
      `aws autoscaling update-auto-scaling-group --auto-scaling-group-name ${name} --min-size 2 --max-size 3 --desired-capacity 2`,
    );
    const members = async (): Promise<string[]> =>
      json(
        `${byTags} --query 'AutoScalingGroups[0].Instances[?LifecycleState==\`InService\`].InstanceId' --output json`,
      );
    await until("two members", async () => (await members()).length === 2);
    assert.equal(
      await sh(
        "aws eks describe-nodegroup --cluster-name demo --nodegroup-name many --query 'nodegroup.scalingConfig.desiredSize'",
      ),
      "2",
    );
    const [first = ""] = await members();
    await sh(`aws ec2 terminate-instances --instance-ids ${first}`);
    await until("a replacement", async () => {
      const now = await members();
      return now.length === 2 && !now.includes(first);
    });
    await fails(
      "aws autoscaling create-auto-scaling-group --auto-scaling-group-name x --min-size 1 --max-size 1",
      /InvalidAction/,
    );
  },
);

test("nodegroup-active ends with a Ready node; deletion cordons, evicts and takes the Node away", options, async () => {
  const instance: { id: string; dns: string } = await json(
    "aws ec2 describe-instances --filters Name=tag:eks:nodegroup-name,Values=custom-networking Name=instance-state-name,Values=running --query 'Reservations[0].Instances[0].{id: InstanceId, dns: PrivateDnsName}' --output json",
  );
  const node = `/api/v1/nodes/${instance.dns}`;
  await post("/api/v1/nodes", {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: instance.dns, labels: { "eks.amazonaws.com/nodegroup": "custom-networking" } },
    spec: { providerID: `aws:///us-west-2a/${instance.id}` },
  });
  await patchStatus(node, { conditions: [{ type: "Ready", status: "True" }] });
  await sh("aws eks wait nodegroup-active --cluster-name $EKS_CLUSTER_NAME --nodegroup-name custom-networking");

  const pod = (name: string, extra: object = {}) =>
    post("/api/v1/namespaces/default/pods", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default", labels: { app: name }, ...extra },
      spec: { nodeName: instance.dns, terminationGracePeriodSeconds: 0, containers: [{ name: "c", image: "pause" }] },
    });
  await post("/api/v1/namespaces/default/serviceaccounts", {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "default", namespace: "default" },
  }).catch(() => undefined);
  await pod("app");
  await pod("agent", {
    ownerReferences: [{ apiVersion: "apps/v1", kind: "DaemonSet", name: "d", uid: "1", controller: true }],
  });
  await pod("kept");
  await post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: "kept", namespace: "default" },
    spec: { minAvailable: 1, selector: { matchLabels: { app: "kept" } } },
  });
  // There is no controller manager here: what it and a kubelet would report is written by hand.
  await patchStatus("/api/v1/namespaces/default/pods/kept", {
    phase: "Running",
    conditions: [{ type: "Ready", status: "True" }],
  });
  const budget = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/kept";
  const counts = {
    currentHealthy: 1,
    desiredHealthy: 1,
    disruptionsAllowed: 0,
    expectedPods: 1,
    observedGeneration: 1,
  };
  await patchStatus(budget, counts);
  const there = async (path: string) => (await askApiServer(directory(), path)).status === 200;

  await sh("aws eks delete-nodegroup --cluster-name demo --nodegroup-name custom-networking");
  await until("the eviction", async () => !(await there("/api/v1/namespaces/default/pods/app")));
  assert.ok(await there("/api/v1/namespaces/default/pods/agent"), "a DaemonSet's pod stays");
  assert.ok(await there("/api/v1/namespaces/default/pods/kept"), "a budget holds its pod");
  assert.match((await askApiServer(directory(), node)).body, /"unschedulable":true/);
  assert.equal(
    await sh(
      "aws eks describe-nodegroup --cluster-name demo --nodegroup-name custom-networking --query nodegroup.status --output text",
    ),
    "DELETING",
  );
  await askApiServer(directory(), budget, "DELETE");
  await sh("aws eks wait nodegroup-deleted --cluster-name demo --nodegroup-name custom-networking");
  await until("the Node to go", async () => !(await there(node)));
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

test("network ACLs: entries by number, associations replaced, errors as EC2's", options, async () => {
  const acl = await sh("aws ec2 create-network-acl --vpc-id $VPC_ID --query NetworkAcl.NetworkAclId --output text");
  const add = (number: number, rest: string) =>
    sh(`aws ec2 create-network-acl-entry --network-acl-id ${acl} --rule-number ${number} ${rest}`);
  await add(200, "--ingress --protocol -1 --cidr-block 0.0.0.0/0 --rule-action deny");
  await add(100, "--ingress --protocol tcp --port-range From=80,To=80 --cidr-block 10.42.0.0/16 --rule-action allow");
  await assert.rejects(
    add(100, "--ingress --protocol -1 --cidr-block 0.0.0.0/0 --rule-action deny"),
    (error: { stderr?: string }) => /NetworkAclEntryAlreadyExists/.test(error.stderr ?? ""),
  );
  const query = `--query 'NetworkAcls[0].Entries[?Egress==\`false\`].[RuleNumber,RuleAction,Protocol,PortRange.To]' --output json`;
  assert.deepEqual(await json(`aws ec2 describe-network-acls --network-acl-ids ${acl} ${query}`), [
    [100, "allow", "6", 80],
    [200, "deny", "-1", null],
    [32_767, "deny", "-1", null],
  ]);
  const subnet = network.subnetIds[0] ?? "";
  const association = () =>
    sh(
      `aws ec2 describe-network-acls --filters Name=association.subnet-id,Values=${subnet} --query "NetworkAcls[0].Associations[?SubnetId=='${subnet}'].[NetworkAclAssociationId,NetworkAclId]" --output text`,
    );
  const [first = "", before = ""] = (await association()).split(/\s+/);
  await sh(`aws ec2 replace-network-acl-association --association-id ${first} --network-acl-id ${acl}`);
  const [second = "", now] = (await association()).split(/\s+/);
  assert.equal(now, acl);
  await fails(`aws ec2 delete-network-acl --network-acl-id ${acl}`, /DependencyViolation/);
  await sh(`aws ec2 replace-network-acl-association --association-id ${second} --network-acl-id ${before}`);
  await fails(
    `aws ec2 delete-network-acl-entry --network-acl-id ${acl} --egress --rule-number 100`,
    /InvalidNetworkAclEntry\.NotFound/,
  );
  await sh(`aws ec2 delete-network-acl-entry --network-acl-id ${acl} --ingress --rule-number 100`);
  await sh(`aws ec2 delete-network-acl --network-acl-id ${acl}`);
  await fails(`aws ec2 describe-network-acls --network-acl-ids ${acl}`, /InvalidNetworkAclID\.NotFound/);
  await fails(`aws ec2 delete-network-acl --network-acl-id ${before}`, /cannot delete default network ACL/);
});
