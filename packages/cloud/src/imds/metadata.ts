/** What IMDS says about one instance, as a tree. Pure; the values are those of `state` at the moment of the request. */
import { regionDomain } from "../resolver/names.ts";
import { zoneIdOf } from "./zone-id.ts";
import type { FabricEni, FabricInstance, FabricState, RoleCredentials } from "../fabric/seam.ts";

/** A directory, or a value; a function is asked only when its path is read. */
export type Tree = { readonly [name: string]: Tree | string | (() => string | undefined) };

export type MetadataSource = {
  readonly state: FabricState;
  readonly instance: FabricInstance;
  readonly issueRoleCredentials: () => RoleCredentials | undefined;
};

/** The tree below `/latest`. */
export function metadataOf(source: MetadataSource): Tree {
  const { state, instance } = source;
  return {
    dynamic: { "instance-identity": { document: () => identityDocument(state, instance) } },
    "meta-data": metaData(source),
    ...(instance.userData === undefined
      ? {}
      : { "user-data": Buffer.from(instance.userData, "base64").toString("latin1") }),
  };
}

function metaData({ state, instance, issueRoleCredentials }: MetadataSource): Tree {
  const enis = state.enis.filter(
    ({ attachment }) => attachment?.kind === "instance" && attachment.instanceId === instance.instanceId,
  );
  const primary = enis.find(({ eniId }) => eniId === instance.primaryEniId);
  const publicAddress = primary?.addresses[0]?.publicAddress;
  return {
    "ami-id": instance.imageId,
    "ami-launch-index": String(instance.amiLaunchIndex),
    "ami-manifest-path": "(unknown)",
    hostname: instance.privateDnsName,
    ...(instance.role === undefined ? {} : { iam: iam(instance, issueRoleCredentials) }),
    "instance-action": "none",
    "instance-id": instance.instanceId,
    "instance-life-cycle": "on-demand",
    "instance-type": instance.instanceType,
    "local-hostname": instance.privateDnsName,
    "local-ipv4": instance.privateAddress,
    mac: primary?.mac ?? "",
    network: { interfaces: { macs: Object.fromEntries(enis.map((eni) => [eni.mac, interfaceOf(eni, state)])) } },
    placement: {
      "availability-zone": instance.availabilityZone,
      "availability-zone-id": zoneIdOf(instance.availabilityZone),
      region: state.region,
    },
    profile: "default-hvm",
    ...(publicAddress === undefined
      ? {}
      : { "public-hostname": publicHostname(publicAddress, state.region), "public-ipv4": publicAddress }),
    "reservation-id": instance.reservationId,
    "security-groups": lines((primary?.securityGroupIds ?? []).map((groupId) => groupName(groupId, state))),
    services: { domain: "amazonaws.com", partition: "aws" },
    system: "nitro",
    ...(instance.metadataOptions.instanceMetadataTags === "enabled" ? { tags: { instance: instance.tags } } : {}),
  };
}

function interfaceOf(eni: FabricEni, state: FabricState): Tree {
  const { attachment } = eni;
  const subnet = state.subnets.find(({ subnetId }) => subnetId === eni.subnetId);
  const cidrs = state.vpcs.find(({ vpcId }) => vpcId === eni.vpcId)?.cidrs ?? [];
  const associated = eni.addresses.filter(({ publicAddress }) => publicAddress !== undefined);
  const primary = eni.addresses[0]?.address ?? "";
  return {
    "device-number": attachment?.kind === "instance" ? String(attachment.deviceIndex) : "",
    "interface-id": eni.eniId,
    ...(associated.length === 0
      ? {}
      : {
          "ipv4-associations": Object.fromEntries(
            associated.map(({ address, publicAddress }) => [publicAddress!, address]),
          ),
        }),
    ...(eni.prefixes.length === 0 ? {} : { "ipv4-prefix": lines(eni.prefixes) }),
    "local-hostname": `ip-${primary.replaceAll(".", "-")}.${regionDomain(state.region)}`,
    "local-ipv4s": lines(eni.addresses.map(({ address }) => address)),
    mac: eni.mac,
    "network-card": attachment?.kind === "instance" ? String(attachment.networkCardIndex) : "0",
    "owner-id": state.accountId,
    ...(associated.length === 0
      ? {}
      : {
          "public-hostname": publicHostname(associated[0]!.publicAddress!, state.region),
          "public-ipv4s": lines(associated.map(({ publicAddress }) => publicAddress!)),
        }),
    "security-group-ids": lines(eni.securityGroupIds),
    "security-groups": lines(eni.securityGroupIds.map((groupId) => groupName(groupId, state))),
    "subnet-id": eni.subnetId,
    "subnet-ipv4-cidr-block": subnet?.cidr ?? "",
    "vpc-id": eni.vpcId,
    "vpc-ipv4-cidr-block": cidrs[0] ?? "",
    "vpc-ipv4-cidr-blocks": lines(cidrs),
  };
}

function iam(instance: FabricInstance, issue: () => RoleCredentials | undefined): Tree {
  const role = instance.role!;
  return {
    info: json({
      Code: "Success",
      LastUpdated: instance.launchTime.replace(/\.\d+Z$/, "Z"),
      InstanceProfileArn: role.profileArn,
      InstanceProfileId: role.profileId,
    }),
    "security-credentials": {
      [role.name]: () => {
        const credentials = issue();
        if (credentials === undefined) return undefined;
        return json({
          Code: "Success",
          LastUpdated: credentials.lastUpdated,
          Type: "AWS-HMAC",
          AccessKeyId: credentials.accessKeyId,
          SecretAccessKey: credentials.secretAccessKey,
          Token: credentials.sessionToken,
          Expiration: credentials.expiration,
        });
      },
    },
  };
}

function identityDocument(state: FabricState, instance: FabricInstance): string {
  return json({
    accountId: state.accountId,
    architecture: /^[a-z]+\d+g[a-z-]*\./.test(instance.instanceType) ? "arm64" : "x86_64",
    availabilityZone: instance.availabilityZone,
    billingProducts: null,
    devpayProductCodes: null,
    marketplaceProductCodes: null,
    imageId: instance.imageId,
    instanceId: instance.instanceId,
    instanceType: instance.instanceType,
    kernelId: null,
    pendingTime: instance.launchTime.replace(/\.\d+Z$/, "Z"),
    privateIp: instance.privateAddress,
    ramdiskId: null,
    region: state.region,
    version: "2017-09-30",
  });
}

/** The value at `path`, or the listing of the directory there; undefined when there is neither. */
export function read(tree: Tree, path: readonly string[]): string | undefined {
  let at: Tree[string] | undefined = tree;
  for (const name of path) {
    if (typeof at !== "object" || !Object.hasOwn(at, name)) return undefined;
    at = at[name];
  }
  if (typeof at === "object") {
    const directory = at;
    return lines(
      Object.keys(directory)
        .sort()
        .map((name) => (typeof directory[name] === "object" ? `${name}/` : name)),
    );
  }
  return typeof at === "function" ? at() : at;
}

const lines = (values: readonly string[]): string => values.join("\n");
const json = (value: unknown): string => JSON.stringify(value, null, 2);

function groupName(groupId: string, state: FabricState): string {
  return state.securityGroups.find((group) => group.groupId === groupId)?.groupName ?? groupId;
}

function publicHostname(address: string, region: string): string {
  const domain = region === "us-east-1" ? "compute-1.amazonaws.com" : `${region}.compute.amazonaws.com`;
  return `ec2-${address.replaceAll(".", "-")}.${domain}`;
}
