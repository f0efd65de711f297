/**
 * Names, addresses, marks and table numbers of the data plane: the one list that plan, listeners and tests share.
 * The public half of it is ARCHITECTURE.md "Names and places".
 */
import { createHash } from "node:crypto";

export const vpcMtu = 9001;
export const internetMtu = 1500;

export const endpointRange = "198.51.100.0/24";
export const apiAddress = "198.51.100.10";
export const echoAddress = "192.0.2.10";
export const publicDnsAddress = "192.0.2.53";
export const operatorAddress = "192.0.2.100";
export const elasticRange = "203.0.113.0/24";

export const imdsAddress = "169.254.169.254";
export const resolverAddress = "169.254.169.253";
export const timeAddress = "169.254.169.123";

/** Link-local ends of every wire to the internet namespace; the same on each, as they never leave their link. */
export const wireNear = "169.254.1.1";
export const wireFar = "169.254.1.2";
/** MACs of those ends. */
export const wireNearMac = "02:75:6c:00:00:01";
export const wireFarMac = "02:75:6c:00:00:02";

/** The nft table of every namespace the fabric owns: `table ip fabric`. */
export const nftTable = "fabric";

/** Rule priorities in a router: owned addresses, then the subnet's route table by mark, then nothing. */
export const ownedPriority = 100;
export const subnetPriority = 1000;
export const nothingPriority = 32000;

/** Connection mark: the reply belongs to an IMDS token request (its TTL is the instance's hop limit). */
export const tokenReplyMark = 0x2;

export const routerNetns = (cid: string, vpcId: string): string => `ul-${cid}-${vpcId}`;
export const internetNetns = (cid: string): string => `ul-${cid}-internet`;
export const instanceNetns = (cid: string, instanceId: string): string => `ul-${cid}-${instanceId}`;
export const natNetns = (cid: string, natGatewayId: string): string => `ul-${cid}-${natGatewayId}`;
export const clusterNetns = (cid: string, clusterName: string): string => `ul-${cid}-eks-${clusterName}`;

/** The router's end of an ENI. */
export const eniLink = (number: number): string => `eni${number}`;
/** The router's end of the wire to the internet. */
export const igwLink = "igw";
/** The control plane's end of its wire to the internet. */
export const awsLink = "aws0";

/** A name of at most 15 characters for the far end, in the internet namespace, of what `id` names. */
export function wireLink(kind: "vpc" | "eks", id: string): string {
  return `${kind}-${createHash("sha256").update(id).digest("hex").slice(0, 10)}`;
}

/** The mark of packets that came from a subnet, and the routing table that mark picks. */
export const subnetMark = (number: number): number => (number << 16) >>> 0;
export const subnetMask = 0xffff0000;
export const subnetTable = (number: number): number => 1000 + number;

/** The MAC every ENI of a subnet sees as its router. */
export function routerMac(subnetNumber: number): string {
  const hex = subnetNumber.toString(16).padStart(6, "0");
  return `02:75:6d:${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}`;
}

/** An AWS id as an nftables identifier: `sg-0ab` → `sg_0ab`. */
export const nftName = (id: string): string => id.replace(/[^A-Za-z0-9]/g, "_");
