/** A real cloud process for tests: state in a folder of its own, a free port; packets only when asked for. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createAuthority } from "@underlay/pki/authority";
import { createEc2Client, type Ec2Client } from "@underlay/aws/ec2-client";

export const region = "us-west-2";
export const keys = { accessKeyId: "AKIACONFORMANCETEST0", secretAccessKey: "conformance/secret+key" };

export type CloudProcess = {
  readonly endpoint: string;
  readonly folder: string;
  readonly ec2: Ec2Client;
  /** kill -9 and start again on the same port and state. */
  crash(): Promise<void>;
  stop(): Promise<void>;
};

export type CloudOptions = {
  /** What each cluster's control plane runs; nothing by default. */
  readonly controlPlane?: { readonly programs: { name: string; argv: string[] }[]; readonly kubePort: number };
  /** With packets: the cluster's id in kernel names, and the init of instances. Needs root. */
  readonly packets?: { readonly clusterId: string; readonly init: string[] };
};

export async function startCloud({
  controlPlane = { programs: [], kubePort: 0 },
  packets,
}: CloudOptions = {}): Promise<CloudProcess> {
  const folder = mkdtempSync(join(tmpdir(), "ul-cloud-"));
  const settingsFile = join(folder, "settings.json");
  const write = (apiPort: number) =>
    writeFileSync(
      settingsFile,
      JSON.stringify({
        clusterId: packets?.clusterId ?? "t000",
        stateDir: folder,
        repoDir: resolve(import.meta.dirname, "../../.."),
        nodeBinary: process.execPath,
        region,
        accountId: "111122223333",
        apiPort,
        caCertFile: join(folder, "ca.crt"),
        caKeyFile: join(folder, "ca.key"),
        ...keys,
        controlPlane,
        ...(packets === undefined ? {} : { instance: { argv: packets.init } }),
      }),
    );
  const authority = await createAuthority("conformance");
  writeFileSync(join(folder, "ca.crt"), authority.cert);
  writeFileSync(join(folder, "ca.key"), authority.key);
  const flags = packets === undefined ? ["--no-fabric"] : [];
  write(0);
  let { child, endpoint } = await launch(settingsFile, flags);
  write(Number(new URL(endpoint).port));
  const ec2 = createEc2Client({ region, endpoint, credentials: () => Promise.resolve(keys) });
  return {
    endpoint,
    folder,
    ec2,
    async crash() {
      await ended(child, "SIGKILL");
      ({ child, endpoint } = await launch(settingsFile, flags));
    },
    async stop() {
      ec2.close();
      await ended(child, "SIGTERM");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function launch(settingsFile: string, flags: string[]): Promise<{ child: ChildProcess; endpoint: string }> {
  const main = join(import.meta.dirname, "../src/main.ts");
  const child = spawn(process.execPath, [main, settingsFile, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  const endpoint = await new Promise<string>((resolve_, reject) => {
    let text = "";
    child.stderr.on("data", (chunk: Buffer) => {
      text += chunk.toString("utf8");
      const found = /"endpoint":"([^"]+)"/.exec(text)?.[1];
      if (found !== undefined) resolve_(found);
    });
    child.on("exit", (code) => reject(new Error(`the cloud ended with ${code}: ${text}`)));
  });
  return { child, endpoint };
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve_) => {
    child.once("exit", () => resolve_());
    child.kill(signal);
  });
}

/** A VPC with an attached internet gateway and one subnet in each of two zones, by our own client. */
export async function buildVpc(
  ec2: Ec2Client,
  cidr = "10.42.0.0/16",
): Promise<{ vpcId: string; subnetIds: string[]; gatewayId: string }> {
  const vpcId = (await ec2.send("CreateVpc", { CidrBlock: cidr })).Vpc?.VpcId ?? "";
  const gatewayId = (await ec2.send("CreateInternetGateway", {})).InternetGateway?.InternetGatewayId ?? "";
  await ec2.send("AttachInternetGateway", { InternetGatewayId: gatewayId, VpcId: vpcId });
  const prefix = cidr.split(".").slice(0, 2).join(".");
  const subnetIds: string[] = [];
  for (const [index, zone] of ["a", "b"].entries()) {
    const made = await ec2.send("CreateSubnet", {
      VpcId: vpcId,
      CidrBlock: `${prefix}.${index}.0/24`,
      AvailabilityZone: `${region}${zone}`,
    });
    subnetIds.push(made.Subnet?.SubnetId ?? "");
  }
  return { vpcId, subnetIds, gatewayId };
}

/** Waits for a condition with a deadline. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false>,
  limitMs = 10_000,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms for ${what}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}
