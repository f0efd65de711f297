/**
 * How an operator reaches a running cluster: the environment `underlay env` prints for the machine itself (host doors), and the
 * one of `underlay shell`, a place on the cluster's internet where AWS's real names resolve.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Subnet } from "@underlay/aws/generated/ec2-types";
import { UnderlayError } from "@underlay/log/underlay-error";
import { awsClients } from "./up-clients.ts";
import { writeWhole, type ClusterRecord, type Places } from "./places.ts";

export type Environment = Record<string, string>;

/** Variables as the workshop names them, with the AWS API and kubeconfig of the host doors. */
export async function hostEnvironment(places: Places, record: ClusterRecord): Promise<Environment> {
  const shim = ensureAwsShim(places);
  return {
    KUBECONFIG: places.adminKubeconfig,
    AWS_ENDPOINT_URL: `http://127.0.0.1:${record.apiPort}`,
    ...(await commonEnvironment(record)),
    ...(shim ? { PATH: `${shim}:${process.env["PATH"] ?? ""}` } : {}),
  };
}

async function commonEnvironment(record: ClusterRecord): Promise<Environment> {
  const aws = awsClients(record);
  try {
    const [vpcs, subnets] = await Promise.all([
      aws.ec2.send("DescribeVpcs", { Filters: [{ Name: "tag:env", Values: [record.plan.name] }] }),
      aws.ec2.send("DescribeSubnets", { Filters: [{ Name: "tag:env", Values: [record.plan.name] }] }),
    ]);
    const group = record.plan.nodeGroups[0];
    const named: Environment = {};
    const isPrivate = (subnet: Subnet) =>
      subnet.Tags?.some((tag) => tag.Key === "kubernetes.io/role/internal-elb") ?? false;
    const sorted = (subnets.Subnets ?? []).toSorted((a, b) =>
      (a.AvailabilityZone ?? "").localeCompare(b.AvailabilityZone ?? ""),
    );
    sorted
      .filter((subnet) => isPrivate(subnet))
      .forEach((subnet, index) => {
        named[`PRIMARY_SUBNET_${index + 1}`] = subnet.SubnetId ?? "";
        named[`SUBNET_AZ_${index + 1}`] = subnet.AvailabilityZone ?? "";
      });
    sorted
      .filter((subnet) => !isPrivate(subnet))
      .forEach((subnet, index) => {
        named[`PUBLIC_SUBNET_${index + 1}`] = subnet.SubnetId ?? "";
      });
    return {
      AWS_REGION: record.plan.region,
      AWS_DEFAULT_REGION: record.plan.region,
      AWS_ACCOUNT_ID: record.accountId,
      AWS_ACCESS_KEY_ID: record.accessKeyId,
      AWS_SECRET_ACCESS_KEY: record.secretAccessKey,
      AWS_PAGER: "",
      EKS_CLUSTER_NAME: record.plan.name,
      ...(group
        ? {
            EKS_DEFAULT_MNG_NAME: group.name,
            EKS_DEFAULT_MNG_MIN: String(group.minSize),
            EKS_DEFAULT_MNG_MAX: String(group.maxSize),
            EKS_DEFAULT_MNG_DESIRED: String(group.desiredCapacity),
          }
        : {}),
      VPC_ID: vpcs.Vpcs?.[0]?.VpcId ?? "",
      ...named,
    };
  } finally {
    aws.ec2.close();
    aws.eks.close();
  }
}

/** `export NAME='value'` lines for a POSIX shell. */
export function formatExports(environment: Environment): string {
  return Object.entries(environment)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`)
    .join("");
}

/** True for an `aws --version` answer whose CLI reads AWS_ENDPOINT_URL: 2.13 or 1.29 and later. */
export function awsReadsEndpointVariable(versionText: string): boolean {
  const match = /aws-cli\/(\d+)\.(\d+)/.exec(versionText);
  if (!match) return false;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  return major > 2 || (major === 2 ? minor >= 13 : major === 1 && minor >= 29);
}

/** A folder to put first on the PATH when the machine's `aws` is too old for AWS_ENDPOINT_URL; undefined when it is not needed. */
function ensureAwsShim(places: Places): string | undefined {
  let version: string;
  let real: string;
  try {
    version = execFileSync("aws", ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    real = execFileSync("/bin/sh", ["-c", "command -v aws"], { encoding: "utf8" }).trim();
  } catch {
    return undefined; // no aws on this machine: `doctor` says so
  }
  const folder = join(places.stateDir, "bin");
  if (awsReadsEndpointVariable(version) || resolve(real, "..") === folder)
    return resolve(real, "..") === folder ? folder : undefined;
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "aws"),
    `#!/bin/sh\n# ${version.trim()} does not read AWS_ENDPOINT_URL.\nexec ${real} \${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"\n`,
  );
  chmodSync(join(folder, "aws"), 0o755);
  return folder;
}

/** What `underlay shell` needs: a home of its own, the kubeconfig of the real endpoint, and the argv that enters the operator's place. */
export async function operatorShell(
  places: Places,
  record: ClusterRecord,
  command: readonly string[],
): Promise<{ argv: string[]; env: Environment }> {
  const home = join(places.stateDir, "operator");
  prepareHome(places, home);
  const aws = awsClients(record);
  const { cluster } = await aws.eks.send("DescribeCluster", { name: record.plan.name });
  aws.eks.close();
  aws.ec2.close();
  if (!cluster?.endpoint)
    throw new UnderlayError("NoEndpoint", "Cannot open a shell: the cluster has no endpoint yet", {
      hint: "./underlay status",
    });
  const kubeconfig = readFileSync(places.adminKubeconfig, "utf8").replace(/server: .*/, `server: ${cluster.endpoint}`);
  writeWhole(join(home, ".kube/config"), kubeconfig, 0o600);
  const enter = [
    `mount --make-rprivate /`,
    `mount --bind ${home}/etc/resolv.conf /etc/resolv.conf`,
    `mount --bind ${home}/etc/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt`,
    `cd ${home}/environment && exec "$@"`,
  ].join(" && ");
  const env: Environment = {
    ...(await commonEnvironment(record)),
    INBOUND_CIDRS: "0.0.0.0/0",
    PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
    TERM: process.env["TERM"] ?? "dumb",
    HOME: home,
    PS1: `(${record.plan.name}) \\w \\$ `,
    KUBECONFIG: join(home, ".kube/config"),
    AWS_CA_BUNDLE: places.caCert,
    BASH_ENV: join(home, ".bashrc"),
  };
  writeStartFiles(places, home, env);
  const run = command.length > 0 ? [...command] : ["bash", "-i"];
  return {
    argv: [
      "nsenter",
      `--net=/run/netns/ul-${record.clusterId}-internet`,
      "unshare",
      "--mount",
      "sh",
      "-c",
      enter,
      "sh",
      ...run,
    ],
    env,
  };
}

/**
 * What every bash reads, interactive or not, login or not: the workshop's functions. A login shell's /etc/profile sets a PATH of
 * its own, so the one of the caller is put back.
 */
function writeStartFiles(places: Places, home: string, env: Environment): void {
  const functions = readFileSync(join(places.repoDir, "packages/lab/shell/prepare-environment.bash"), "utf8");
  writeFileSync(join(home, ".bashrc"), functions);
  const { PATH = "", PS1 = "" } = env;
  writeFileSync(join(home, ".bash_profile"), `${formatExports({ PATH, PS1 })}. ~/.bashrc\n`);
}

function prepareHome(places: Places, home: string): void {
  const workshop = join(home, "environment/eks-workshop");
  mkdirSync(join(home, "etc"), { recursive: true });
  mkdirSync(workshop, { recursive: true });
  const publicDns = "192.0.2.53";
  writeFileSync(join(home, "etc/resolv.conf"), `nameserver ${publicDns}\n`);
  const system = "/etc/ssl/certs/ca-certificates.crt";
  writeFileSync(
    join(home, "etc/ca-certificates.crt"),
    `${existsSync(system) ? readFileSync(system, "utf8") : ""}\n${readFileSync(places.caCert, "utf8")}`,
  );
  for (const [folder, sources] of workshopSources(places, process.env["UNDERLAY_WORKSHOP"])) {
    if (existsSync(join(workshop, folder))) continue;
    for (const source of sources) cpSync(source, join(workshop, folder), { recursive: true });
  }
}

/** Where the exercises' files come from: the folder the user names, one beside the repository, or the repository's own examples. */
function workshopSources(places: Places, named: string | undefined): [folder: string, sources: string[]][] {
  const whole = [named, resolve(places.repoDir, "../shared/workshop")].find(
    (folder) => folder !== undefined && existsSync(join(folder, "base-application")),
  );
  if (whole !== undefined) return ["base-application", "modules"].map((folder) => [folder, [join(whole, folder)]]);
  const examples = join(places.repoDir, "examples");
  return [
    // The store, and beside it what the exercises add.
    ["base-application", [join(examples, "retail-store"), join(examples, "workshop/base-application")]],
    ["modules", [join(examples, "workshop/modules")]],
  ];
}
