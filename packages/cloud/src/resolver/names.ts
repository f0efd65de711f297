/**
 * What names mean, seen from inside a VPC and from the internet. Pure.
 *
 * Inside:  ip-a-b-c-d.<region>.compute.internal and its PTR · cluster endpoints with private access → X-ENIs ·
 *          public host names of the VPC's own addresses → their private addresses · else as outside.
 * Outside: AWS API names · cluster endpoints → their public address · ec2-… public host names · the internet's hosts.
 */
import { contains } from "@underlay/addr/cidr";
import { isIpv4 } from "@underlay/addr/ipv4";
import { apiAddress, echoAddress, publicDnsAddress } from "../fabric/places.ts";
import type { FabricState, FabricVpc } from "../fabric/seam.ts";

export type Answer =
  | { readonly found: "addresses"; readonly addresses: readonly string[]; readonly ttl: number }
  | { readonly found: "name"; readonly name: string; readonly ttl: number }
  /** The zone says there is no such name; `zone` signs the denial (SOA). */
  | { readonly found: "nothing"; readonly zone: string };

/** Hosts of the internet namespace. */
export const internetHosts: Readonly<Record<string, string>> = {
  "echo.underlay.test": echoAddress,
  "www.example.com": echoAddress,
  "www.google.com": echoAddress,
  "dns.underlay.test": publicDnsAddress,
};

/** Where the private host names of a region live. */
export const regionDomain = (region: string): string =>
  region === "us-east-1" ? "ec2.internal" : `${region}.compute.internal`;

const publicDomain = (region: string): string =>
  region === "us-east-1" ? "compute-1.amazonaws.com" : `${region}.compute.amazonaws.com`;

/** As the VPC's resolver answers. `name` is lower case, without a final dot. */
export function resolveInVpc(name: string, state: FabricState, vpc: FabricVpc): Answer {
  const domain = regionDomain(state.region);
  if (name.endsWith(`.${domain}`)) {
    const address = addressInLabel(name.slice(0, -domain.length - 1), "ip-");
    if (address !== undefined && owns(vpc, address)) return { found: "addresses", addresses: [address], ttl: 60 };
    return { found: "nothing", zone: domain };
  }
  const reversed = addressInReverse(name);
  if (reversed !== undefined && owns(vpc, reversed)) {
    return { found: "name", name: `ip-${reversed.replaceAll(".", "-")}.${domain}`, ttl: 300 };
  }
  const cluster = state.clusters.find(({ endpointName }) => endpointName.toLowerCase() === name);
  if (cluster?.endpointPrivateAccess && cluster.vpcId === vpc.vpcId) {
    return { found: "addresses", addresses: cluster.xeniAddresses, ttl: 60 };
  }
  const publicAddress = publicAddressOf(name, state);
  if (publicAddress !== undefined) {
    const own = state.enis
      .filter(({ vpcId }) => vpcId === vpc.vpcId)
      .flatMap(({ addresses }) => addresses)
      .find((candidate) => candidate.publicAddress === publicAddress);
    if (own !== undefined) return { found: "addresses", addresses: [own.address], ttl: 60 };
  }
  return resolveOutside(name, state);
}

/** As a public resolver answers. */
export function resolveOutside(name: string, state: FabricState): Answer {
  const host = internetHosts[name];
  if (host !== undefined) return { found: "addresses", addresses: [host], ttl: 300 };
  const cluster = state.clusters.find(({ endpointName }) => endpointName.toLowerCase() === name);
  if (cluster !== undefined) {
    // With private access only, even the public zone gives the X-ENIs.
    return {
      found: "addresses",
      addresses: cluster.endpointPublicAccess ? [cluster.publicAddress] : cluster.xeniAddresses,
      ttl: 60,
    };
  }
  const publicAddress = publicAddressOf(name, state);
  if (publicAddress !== undefined) return { found: "addresses", addresses: [publicAddress], ttl: 60 };
  if (isApiName(name, state.region)) return { found: "addresses", addresses: [apiAddress], ttl: 60 };
  const reversed = addressInReverse(name);
  if (reversed !== undefined && isPublicAddress(reversed, state)) {
    return { found: "name", name: `ec2-${reversed.replaceAll(".", "-")}.${publicDomain(state.region)}`, ttl: 300 };
  }
  return { found: "nothing", zone: zoneOf(name) };
}

/** `ec2.us-west-2.amazonaws.com`, `123.dkr.ecr.us-west-2.amazonaws.com`, `sts.amazonaws.com`; not names below another service's zone. */
function isApiName(name: string, region: string): boolean {
  if (!name.endsWith(".amazonaws.com")) return false;
  const labels = name.slice(0, -".amazonaws.com".length).split(".");
  if (labels.includes("compute") || labels.includes("compute-1")) return false;
  return labels.length === 1 || (labels.at(-1) === region && labels.length <= 4);
}

function publicAddressOf(name: string, state: FabricState): string | undefined {
  const domain = publicDomain(state.region);
  if (!name.endsWith(`.${domain}`)) return undefined;
  const address = addressInLabel(name.slice(0, -domain.length - 1), "ec2-");
  return address !== undefined && isPublicAddress(address, state) ? address : undefined;
}

function isPublicAddress(address: string, state: FabricState): boolean {
  return state.enis.some(({ addresses }) => addresses.some(({ publicAddress }) => publicAddress === address));
}

const owns = (vpc: FabricVpc, address: string): boolean => vpc.cidrs.some((cidr) => contains(cidr, address));

/** `ip-10-42-1-2` → `10.42.1.2`. */
function addressInLabel(label: string, prefix: string): string | undefined {
  if (!label.startsWith(prefix)) return undefined;
  const address = label.slice(prefix.length).replaceAll("-", ".");
  return isIpv4(address) ? address : undefined;
}

/** `2.1.42.10.in-addr.arpa` → `10.42.1.2`. */
function addressInReverse(name: string): string | undefined {
  if (!name.endsWith(".in-addr.arpa")) return undefined;
  const address = name.slice(0, -".in-addr.arpa".length).split(".").reverse().join(".");
  return isIpv4(address) ? address : undefined;
}

/** The zone that denies a name nobody has: its last two labels, or the root. */
function zoneOf(name: string): string {
  return name.endsWith("in-addr.arpa")
    ? "in-addr.arpa"
    : name.split(".").slice(-2).length === 2
      ? name.split(".").slice(-2).join(".")
      : "";
}
