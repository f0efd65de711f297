/**
 * A node in the embedded cloud: the real cloud process with its fabric, a VPC with one public subnet, an m5.large whose init only
 * sleeps, and the real aws-node program started in the instance's namespace, without a Kubernetes.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { createEc2Client, type Ec2Client } from "@underlay/aws/ec2-client";
import { createNetns, deleteNetns, listNetns, netnsPath } from "@underlay/kernel/netns";
import { writeSysctl } from "@underlay/kernel/sysctl";
import { createAuthority } from "@underlay/pki/authority";

const repo = fileURLToPath(new URL("../../../..", import.meta.url)).replace(/\/$/, "");
const root = { accessKeyId: "AKIAUNDERLAYTEST0001", secretAccessKey: "test-secret" };

export type Answer = { code: number; json: Record<string, unknown>; text: string };

export class CloudNode {
  readonly cid = Math.floor(Math.random() * 0x10000)
    .toString(16)
    .padStart(4, "0");
  readonly stateDir = mkdtempSync(path.join(tmpdir(), "ul-cloud-"));
  readonly files = path.join(this.stateDir, "node");
  readonly ec2: Ec2Client;
  readonly port: number;
  instanceId = "";
  subnetId = "";
  #cloud: ChildProcess | undefined;
  #ipamd: ChildProcess | undefined;
  #pods: string[] = [];

  private constructor(port: number) {
    this.port = port;
    this.ec2 = createEc2Client({
      region: "us-west-2",
      credentials: async () => root,
      endpoint: `http://127.0.0.1:${port}`,
    });
  }

  get netns(): string {
    return `ul-${this.cid}-${this.instanceId}`;
  }

  static async start(options: { instanceType?: string; subnetCidr?: string } = {}): Promise<CloudNode> {
    const node = new CloudNode(await freePort());
    try {
      await node.#startCloud();
      await node.#runInstance(options.instanceType ?? "m5.large", options.subnetCidr ?? "10.42.0.0/24");
      return node;
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  async #startCloud(): Promise<void> {
    const ca = await createAuthority("underlay test");
    mkdirSync(this.files, { recursive: true });
    const file = (name: string, text: string) => {
      const to = path.join(this.stateDir, name);
      mkdirSync(path.dirname(to), { recursive: true });
      writeFileSync(to, text);
      return to;
    };
    const settings = {
      clusterId: this.cid,
      stateDir: this.stateDir,
      repoDir: repo,
      nodeBinary: process.execPath,
      region: "us-west-2",
      accountId: "111122223333",
      apiPort: this.port,
      caCertFile: file("pki/ca.crt", ca.cert),
      caKeyFile: file("pki/ca.key", ca.key),
      ...root,
      instance: { argv: ["/bin/sh", "-c", "exec sleep 3600"] },
      controlPlane: { programs: [], kubePort: 0 },
      time: { scale: 1 },
    };
    mkdirSync(path.join(this.stateDir, "cloud"), { recursive: true });
    const log = openSync(path.join(this.stateDir, "cloud.log"), "a");
    this.#cloud = spawn(
      process.execPath,
      [path.join(repo, "packages/cloud/src/main.ts"), file("cloud/settings.json", JSON.stringify(settings))],
      { stdio: ["ignore", log, log] },
    );
    await until("the cloud answers", 30_000, async () => {
      if (this.#cloud?.exitCode !== null)
        throw new Error(`the cloud ended: ${readFileSync(path.join(this.stateDir, "cloud.log"), "utf8").slice(-2000)}`);
      return this.ec2.send("DescribeVpcs", {}).then(
        () => true,
        () => false,
      );
    });
  }

  async #runInstance(instanceType: string, CidrBlock: string): Promise<void> {
    const { ec2 } = this;
    const VpcId = (await ec2.send("CreateVpc", { CidrBlock: "10.42.0.0/16" })).Vpc?.VpcId ?? "";
    const InternetGatewayId = (await ec2.send("CreateInternetGateway", {})).InternetGateway?.InternetGatewayId ?? "";
    await ec2.send("AttachInternetGateway", { VpcId, InternetGatewayId });
    this.subnetId =
      (await ec2.send("CreateSubnet", { VpcId, CidrBlock, AvailabilityZone: "us-west-2a" })).Subnet?.SubnetId ?? "";
    const RouteTableId = (await ec2.send("CreateRouteTable", { VpcId })).RouteTable?.RouteTableId ?? "";
    await ec2.send("CreateRoute", { RouteTableId, DestinationCidrBlock: "0.0.0.0/0", GatewayId: InternetGatewayId });
    await ec2.send("AssociateRouteTable", { RouteTableId, SubnetId: this.subnetId });
    const run = await ec2.send("RunInstances", {
      ImageId: "ami-0123456789abcdef0",
      InstanceType: instanceType,
      MinCount: 1,
      MaxCount: 1,
      IamInstanceProfile: { Name: "node" },
      NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: this.subnetId, AssociatePublicIpAddress: true }],
    });
    this.instanceId = run.Instances?.[0]?.InstanceId ?? "";
    await until("the instance runs", 20_000, async () => {
      const { Reservations } = await ec2.send("DescribeInstances", { InstanceIds: [this.instanceId] });
      return (
        Reservations?.[0]?.Instances?.[0]?.State?.Name === "running" &&
        this.run(this.netns, "ip", "-o", "link").includes("eth0")
      );
    });
    // The operating system's part, which the sleeping init does not do.
    writeSysctl(this.netns, "net.ipv4.ip_forward", 1);
  }

  /** Starts aws-node in the instance; resolves when it serves. */
  async startIpamd(env: Record<string, string> = {}): Promise<void> {
    const log = openSync(path.join(this.stateDir, "aws-node.log"), "a");
    const child = spawn(
      "nsenter",
      [`--net=${netnsPath(this.netns)}`, process.execPath, path.join(repo, "packages/vpc-cni/src/main.ts")],
      {
        stdio: ["ignore", log, log],
        env: {
          PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
          AWS_ENDPOINT_URL_EC2: "http://198.51.100.10",
          AWS_VPC_K8S_CNI_LOG_FILE: path.join(this.files, "ipamd.log"),
          AWS_VPC_K8S_CNI_BACKING_STORE: path.join(this.files, "ipam.json"),
          HOST_CNI_BIN_PATH: path.join(this.files, "bin"),
          HOST_CNI_CONFDIR_PATH: path.join(this.files, "net.d"),
          UNDERLAY_PLUMBER_SOCKET: path.join(this.files, "plumber.sock"),
          UNDERLAY_TIME_SCALE: "10",
          CLUSTER_NAME: "test",
          ENABLE_IPv4: "true",
          ...env,
        },
      },
    );
    this.#ipamd = child;
    await until("ipamd serves", 30_000, async () => {
      if (child.exitCode !== null) throw new Error(`aws-node ended: ${this.log("aws-node.log")}`);
      return existsSync(path.join(this.files, "net.d", "10-aws.conflist")) && this.health();
    });
  }

  health(): boolean {
    const { status } = spawnSync(path.join(this.files, "bin", "aws-cni"), [
      "health",
      path.join(this.files, "plumber.sock"),
    ]);
    return status === 0;
  }

  async stopIpamd(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#ipamd;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  newPod(): string {
    // Not under the cluster's prefix: the fabric clears namespaces of its own prefix that it does not know.
    const name = `ul-t${this.cid}-pod${this.#pods.length}`;
    createNetns(name);
    this.#pods.push(name);
    return name;
  }

  pods(): readonly string[] {
    return this.#pods;
  }

  call(command: string, pod: string): Promise<Answer> {
    const conflist = JSON.parse(readFileSync(path.join(this.files, "net.d", "10-aws.conflist"), "utf8")) as {
      cniVersion: string;
      name: string;
      plugins: object[];
    };
    const config = JSON.stringify({ cniVersion: conflist.cniVersion, name: conflist.name, ...conflist.plugins[0] });
    return new Promise((resolve, reject) => {
      const child = spawn(path.join(this.files, "bin", "aws-cni"), {
        stdio: ["pipe", "pipe", "inherit"],
        env: {
          CNI_COMMAND: command,
          CNI_CONTAINERID: pod,
          CNI_NETNS: netnsPath(pod),
          CNI_IFNAME: "eth0",
          CNI_PATH: path.join(this.files, "bin"),
          CNI_ARGS: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${pod}`,
        },
      });
      let text = "";
      child.stdout.on("data", (part: Buffer) => (text += part.toString()));
      child.on("error", reject);
      child.on("close", (code) =>
        resolve({ code: code ?? -1, text, json: text.trim() ? (JSON.parse(text) as Record<string, unknown>) : {} }),
      );
      child.stdin.end(config);
    });
  }

  /** ADD, again while the pool grows, as the kubelet does. The pod's address. */
  async add(pod: string): Promise<string> {
    let answer = await this.call("ADD", pod);
    await until(`${pod} has an address`, 30_000, async () => {
      if (answer.code !== 0) answer = await this.call("ADD", pod);
      return answer.code === 0;
    });
    return (answer.json["ips"] as { address: string }[])[0]?.address.split("/")[0] ?? "";
  }

  run(netns: string, ...argv: readonly string[]): string {
    const { stdout, stderr, status } = spawnSync("nsenter", [`--net=${netnsPath(netns)}`, ...argv], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`${argv.join(" ")} in ${netns}: ${stderr}`);
    return stdout.replace(/[ \t]+$/gm, "").trim();
  }

  log(name: string): string {
    const file = path.join(this.stateDir, name);
    return existsSync(file) ? readFileSync(file, "utf8").slice(-20_000) : "";
  }

  /** The instance's ENIs by device number, as EC2 describes them. */
  async enis() {
    const { NetworkInterfaces } = await this.ec2.send("DescribeNetworkInterfaces", {
      Filters: [{ Name: "attachment.instance-id", Values: [this.instanceId] }],
    });
    return [...(NetworkInterfaces ?? [])].sort(
      (a, b) => (a.Attachment?.DeviceIndex ?? 0) - (b.Attachment?.DeviceIndex ?? 0),
    );
  }

  /** Addresses for pods on each ENI: "9+9". */
  async shape(): Promise<string> {
    return (await this.enis()).map((eni) => (eni.PrivateIpAddresses ?? []).length - 1).join("+");
  }

  async close(): Promise<void> {
    await this.stopIpamd();
    if (this.instanceId)
      await this.ec2.send("TerminateInstances", { InstanceIds: [this.instanceId] }).catch(() => undefined);
    if (this.instanceId)
      await until("the instance is terminated", 10_000, async () => {
        const { Reservations } = await this.ec2.send("DescribeInstances", { InstanceIds: [this.instanceId] });
        return Reservations?.[0]?.Instances?.[0]?.State?.Name === "terminated";
      }).catch(() => undefined);
    this.ec2.close();
    const cloud = this.#cloud;
    if (cloud && cloud.exitCode === null) {
      const ended = new Promise((resolve) => cloud.once("exit", resolve));
      cloud.kill("SIGTERM");
      setTimeout(() => cloud.kill("SIGKILL"), 5_000).unref();
      await ended;
    }
    for (const name of [...this.#pods, ...listNetns(`ul-${this.cid}-`)]) deleteNetns(name);
    rmSync(this.stateDir, { recursive: true, force: true });
  }
}

export async function until(what: string, timeoutMs: number, holds: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
