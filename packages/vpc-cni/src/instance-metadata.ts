/** What the instance metadata service says about this node. It trails EC2 by seconds: where they differ, EC2 is right. */
import type { ImdsClient } from "@underlay/aws/imds-client";

export type Instance = {
  readonly instanceId: string;
  readonly instanceType: string;
  readonly region: string;
  readonly availabilityZone: string;
  readonly primaryMac: string;
  readonly primaryAddress: string;
  readonly vpcId: string;
  readonly subnetId: string;
};

/** One attached ENI as the metadata service lists it. */
export type AttachedEni = {
  readonly eniId: string;
  readonly mac: string;
  readonly deviceNumber: number;
  readonly networkCard: number;
  readonly subnetId: string;
  readonly subnetCidr: string;
  readonly primaryAddress: string;
  /** Secondary private addresses (`/32`) and delegated prefixes (`/28`). */
  readonly cidrs: readonly string[];
};

const macs = "meta-data/network/interfaces/macs";

export async function readInstance(imds: ImdsClient): Promise<Instance> {
  const [instanceId, instanceType, availabilityZone, primaryMac, primaryAddress, identity] = await Promise.all([
    need(imds, "meta-data/instance-id"),
    need(imds, "meta-data/instance-type"),
    need(imds, "meta-data/placement/availability-zone"),
    need(imds, "meta-data/mac"),
    need(imds, "meta-data/local-ipv4"),
    imds.identityDocument(),
  ]);
  const [vpcId, subnetId] = await Promise.all([
    need(imds, `${macs}/${primaryMac}/vpc-id`),
    need(imds, `${macs}/${primaryMac}/subnet-id`),
  ]);
  return {
    instanceId,
    instanceType,
    region: identity.region,
    availabilityZone,
    primaryMac,
    primaryAddress,
    vpcId,
    subnetId,
  };
}

/** Attached ENIs of network card 0, by device number. An ENI that vanishes while it is read is left out. */
export async function readAttachedEnis(imds: ImdsClient): Promise<readonly AttachedEni[]> {
  const listed = (await imds.list(`${macs}/`)).map((line) => line.replace(/\/$/, ""));
  const enis = await Promise.all(listed.map((mac) => findAttachedEni(imds, mac)));
  return enis
    .flatMap((eni) => eni ?? [])
    .filter((eni) => eni.networkCard === 0)
    .sort((a, b) => a.deviceNumber - b.deviceNumber);
}

/** The VPC's IPv4 blocks, in a fixed order. */
export async function readVpcCidrs(imds: ImdsClient, mac: string): Promise<readonly string[]> {
  return (await imds.list(`${macs}/${mac}/vpc-ipv4-cidr-blocks`)).sort();
}

export async function readSecurityGroups(imds: ImdsClient, mac: string): Promise<readonly string[]> {
  return (await imds.list(`${macs}/${mac}/security-group-ids`)).sort();
}

async function findAttachedEni(imds: ImdsClient, mac: string): Promise<AttachedEni | undefined> {
  const get = (key: string) => imds.get(`${macs}/${mac}/${key}`);
  const [eniId, device, card, subnetId, subnetCidr, addresses, prefixes] = await Promise.all([
    get("interface-id"),
    get("device-number"),
    get("network-card"),
    get("subnet-id"),
    get("subnet-ipv4-cidr-block"),
    imds.list(`${macs}/${mac}/local-ipv4s`),
    imds.list(`${macs}/${mac}/ipv4-prefix`),
  ]);
  const [primaryAddress, ...secondary] = addresses;
  if (!eniId || device === undefined || !subnetId || !subnetCidr || !primaryAddress) return undefined;
  return {
    eniId: eniId.trim(),
    mac: mac.toLowerCase(),
    deviceNumber: Number(device),
    networkCard: card === undefined ? 0 : Number(card),
    subnetId: subnetId.trim(),
    subnetCidr: subnetCidr.trim(),
    primaryAddress,
    cidrs: [...secondary.map((address) => `${address}/32`), ...prefixes.map((prefix) => prefix.trim())],
  };
}

async function need(imds: ImdsClient, path: string): Promise<string> {
  const value = await imds.get(path);
  if (value === undefined) throw new Error(`Cannot read instance metadata ${path}: there is none`);
  return value.trim();
}
