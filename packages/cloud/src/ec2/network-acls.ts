/**
 * Network ACLs: numbered, stateless, one per subnet. Every VPC has a default one that allows everything and holds the subnets
 * no other holds. Also DHCP options, of which there is one set.
 */
import type {
  CreateNetworkAclEntryRequest,
  Ec2Actions,
  NetworkAcl as NetworkAclOutput,
} from "@underlay/aws/generated/ec2-types";
import type { OperationsOf } from "../protocol/service.ts";
import { ApiError } from "../protocol/api-error.ts";
import type { World } from "../store/kinds.ts";
import { requireIpv4Cidr } from "./cidr-input.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { tagList, tagsFrom } from "./tags.ts";
import { dhcpOptionsId } from "./dhcp-options.ts";

export type AclEntry = {
  readonly number: number;
  readonly egress: boolean;
  /** `-1` or a protocol number. */
  readonly protocol: string;
  readonly action: "allow" | "deny";
  readonly cidr: string;
  /** TCP and UDP. */
  readonly ports?: { readonly from: number; readonly to: number };
  /** -1 for all. */
  readonly icmp?: { readonly type: number; readonly code: number };
};

export type NetworkAcl = {
  readonly id: string;
  readonly vpcId: string;
  readonly isDefault: boolean;
  /** By direction and number. */
  readonly entries: readonly AclEntry[];
  /** Of an ACL that is not the default: the subnets it was given. */
  readonly associations: readonly { readonly id: string; readonly subnetId: string }[];
  readonly tags: Tags;
};

type DhcpOptions = { readonly id: string; readonly tags?: never };

const lastRule = 32_767;
const mostEntries = 20;

export function createDefaultAcl(world: World, vpcId: string): void {
  const everything = { number: 100, protocol: "-1", action: "allow", cidr: "0.0.0.0/0" } as const;
  world.store.put("network-acl", {
    id: newId("acl-"),
    vpcId,
    isDefault: true,
    entries: [
      { ...everything, egress: false },
      { ...everything, egress: true },
    ],
    associations: [],
    tags: {},
  });
}

/** The ACL in force for a subnet. */
export function aclOf(world: World, subnet: { id: string; vpcId: string }): NetworkAcl | undefined {
  const acls = world.store.all("network-acl").filter((acl) => acl.vpcId === subnet.vpcId);
  return (
    acls.find((acl) => acl.associations.some(({ subnetId }) => subnetId === subnet.id)) ??
    acls.find((acl) => acl.isDefault)
  );
}

/** A deleted subnet's association goes with it. */
export function forgetSubnet(world: World, subnetId: string): void {
  for (const acl of world.store.all("network-acl"))
    if (acl.associations.some((one) => one.subnetId === subnetId))
      world.store.put("network-acl", {
        ...acl,
        associations: acl.associations.filter((one) => one.subnetId !== subnetId),
      });
}

export const networkAclOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateNetworkAcl: {
    takes: ["VpcId", "TagSpecifications"],
    run({ VpcId = "", TagSpecifications }) {
      const acl = world.store.put("network-acl", {
        id: newId("acl-"),
        vpcId: find(world, "vpc", VpcId).id,
        isDefault: false,
        entries: [],
        associations: [],
        tags: tagsFrom(TagSpecifications, "network-acl"),
      });
      return { NetworkAcl: render(world, acl) };
    },
  },

  DeleteNetworkAcl: {
    takes: ["NetworkAclId"],
    run({ NetworkAclId = "" }) {
      const acl = find(world, "network-acl", NetworkAclId);
      if (acl.isDefault)
        throw new ApiError("InvalidParameterValue", `cannot delete default network ACL ${NetworkAclId}`);
      if (acl.associations.length > 0)
        throw new ApiError(
          "DependencyViolation",
          `The networkAcl '${NetworkAclId}' has dependencies and cannot be deleted.`,
        );
      world.store.remove("network-acl", acl.id);
      return {};
    },
  },

  CreateNetworkAclEntry: {
    takes: ["NetworkAclId", "RuleNumber", "Protocol", "RuleAction", "Egress", "CidrBlock", "IcmpTypeCode", "PortRange"],
    run(input) {
      const acl = find(world, "network-acl", input.NetworkAclId ?? "");
      const entry = entryFrom(input);
      if (acl.entries.some((one) => isSame(one, entry)))
        throw new ApiError(
          "NetworkAclEntryAlreadyExists",
          `The network acl entry identified by ${entry.number} already exists.`,
        );
      if (acl.entries.filter(({ egress }) => egress === entry.egress).length >= mostEntries)
        throw new ApiError(
          "NetworkAclEntryLimitExceeded",
          `The network acl '${acl.id}' has reached its limit of ${mostEntries} entries`,
        );
      putEntries(world, acl, [...acl.entries, entry]);
      return {};
    },
  },

  ReplaceNetworkAclEntry: {
    takes: ["NetworkAclId", "RuleNumber", "Protocol", "RuleAction", "Egress", "CidrBlock", "IcmpTypeCode", "PortRange"],
    run(input) {
      const acl = find(world, "network-acl", input.NetworkAclId ?? "");
      const entry = entryFrom(input);
      requireEntry(acl, entry);
      putEntries(world, acl, [...acl.entries.filter((one) => !isSame(one, entry)), entry]);
      return {};
    },
  },

  DeleteNetworkAclEntry: {
    takes: ["NetworkAclId", "RuleNumber", "Egress"],
    run({ NetworkAclId = "", RuleNumber = 0, Egress = false }) {
      const acl = find(world, "network-acl", NetworkAclId);
      const named = { number: RuleNumber, egress: Egress };
      requireEntry(acl, named);
      putEntries(
        world,
        acl,
        acl.entries.filter((one) => !isSame(one, named)),
      );
      return {};
    },
  },

  ReplaceNetworkAclAssociation: {
    takes: ["AssociationId", "NetworkAclId"],
    run({ AssociationId = "", NetworkAclId = "" }) {
      const next = find(world, "network-acl", NetworkAclId);
      const subnet = world.store
        .all("subnet")
        .find((one) => associationId(aclOf(world, one), one.id) === AssociationId);
      if (subnet === undefined)
        throw new ApiError("InvalidAssociationID.NotFound", `The association ID '${AssociationId}' does not exist`);
      if (subnet.vpcId !== next.vpcId)
        throw new ApiError(
          "InvalidParameterValue",
          `Network ACL ${next.id} and subnet ${subnet.id} belong to different networks`,
        );
      forgetSubnet(world, subnet.id);
      if (next.isDefault) return { NewAssociationId: associationId(next, subnet.id) };
      const association = { id: newId("aclassoc-"), subnetId: subnet.id };
      const current = find(world, "network-acl", next.id);
      world.store.put("network-acl", { ...current, associations: [...current.associations, association] });
      return { NewAssociationId: association.id };
    },
  },

  DescribeNetworkAcls: {
    takes: ["NetworkAclIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const ids = input.NetworkAclIds ?? [];
      const given = ids.length > 0 ? findAll(world, "network-acl", ids) : world.store.all("network-acl");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, { ids });
      return { NetworkAcls: page.map((acl) => render(world, acl)), ...next };
    },
  },

  DescribeDhcpOptions: {
    takes: ["DhcpOptionsIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const missing = input.DhcpOptionsIds?.find((id) => id !== dhcpOptionsId);
      if (missing !== undefined)
        throw new ApiError("InvalidDhcpOptionsID.NotFound", `The dhcpOption ID '${missing}' does not exist`);
      const domain = world.region === "us-east-1" ? "ec2.internal" : `${world.region}.compute.internal`;
      const chosen = applyFilters<DhcpOptions>([{ id: dhcpOptionsId }], input.Filters, {
        "dhcp-options-id": (options) => [options.id],
        key: () => ["domain-name", "domain-name-servers"],
        value: () => [domain, "AmazonProvidedDNS"],
        "owner-id": () => [world.accountId],
      });
      return {
        DhcpOptions: chosen.map(({ id }) => ({
          DhcpOptionsId: id,
          OwnerId: world.accountId,
          Tags: [],
          DhcpConfigurations: [
            { Key: "domain-name", Values: [{ Value: domain }] },
            { Key: "domain-name-servers", Values: [{ Value: "AmazonProvidedDNS" }] },
          ],
        })),
      };
    },
  },
});

function entryFrom(input: CreateNetworkAclEntryRequest): AclEntry {
  const invalid = (name: string, value: unknown) =>
    new ApiError("InvalidParameterValue", `Value (${String(value)}) for parameter ${name} is invalid.`);
  const { RuleNumber: number = 0, RuleAction: action, Egress: egress = false } = input;
  if (number < 1 || number >= lastRule) throw invalid("ruleNumber", number);
  if (action !== "allow" && action !== "deny") throw invalid("ruleAction", action);
  if (input.CidrBlock === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter cidrBlock or ipv6CidrBlock");
  const cidr = requireIpv4Cidr(input.CidrBlock, { code: "InvalidParameterValue", least: 0, most: 32 });
  const given = input.Protocol ?? "";
  const protocol = { tcp: "6", udp: "17", icmp: "1", all: "-1" }[given.toLowerCase()] ?? given;
  if (protocol !== "-1" && !(/^\d{1,3}$/.test(protocol) && Number(protocol) <= 255)) throw invalid("protocol", given);
  const entry = { number, egress, protocol, action, cidr } as const;
  if (protocol === "6" || protocol === "17") {
    const { From: from = -1, To: to = -1 } = input.PortRange ?? {};
    if (from < 0 || to > 65_535 || from > to) throw invalid("portRange", `${from}-${to}`);
    return { ...entry, ports: { from, to } };
  }
  if (protocol !== "1") return entry;
  if (input.IcmpTypeCode === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter icmpTypeCode");
  return { ...entry, icmp: { type: input.IcmpTypeCode.Type ?? -1, code: input.IcmpTypeCode.Code ?? -1 } };
}

type EntryName = Pick<AclEntry, "number" | "egress">;

const isSame = (a: EntryName, b: EntryName): boolean => a.number === b.number && a.egress === b.egress;

function requireEntry(acl: NetworkAcl, named: EntryName): void {
  if (!acl.entries.some((one) => isSame(one, named)))
    throw new ApiError(
      "InvalidNetworkAclEntry.NotFound",
      `The network acl entry identified by ${named.number} does not exist in network acl ${acl.id}`,
    );
}

function putEntries(world: World, acl: NetworkAcl, entries: readonly AclEntry[]): void {
  const sorted = entries.toSorted((a, b) => Number(a.egress) - Number(b.egress) || a.number - b.number);
  world.store.put("network-acl", { ...acl, entries: sorted });
}

/** The default ACL holds the subnets no other does, under ids that follow from theirs. */
function associationId(acl: NetworkAcl | undefined, subnetId: string): string {
  const own = acl?.associations.find((one) => one.subnetId === subnetId);
  return own?.id ?? subnetId.replace("subnet-", "aclassoc-");
}

function subnetsOf(world: World, acl: NetworkAcl): string[] {
  return world.store
    .all("subnet")
    .filter((subnet) => subnet.vpcId === acl.vpcId && aclOf(world, subnet)?.id === acl.id)
    .map(({ id }) => id);
}

function render(world: World, acl: NetworkAcl): NetworkAclOutput {
  const entries = [false, true].flatMap((Egress) => [
    ...acl.entries
      .filter(({ egress }) => egress === Egress)
      .map(({ cidr, protocol, action, number, ports, icmp }) => ({
        CidrBlock: cidr,
        Egress,
        Protocol: protocol,
        RuleAction: action,
        RuleNumber: number,
        ...(ports === undefined ? {} : { PortRange: { From: ports.from, To: ports.to } }),
        ...(icmp === undefined ? {} : { IcmpTypeCode: { Type: icmp.type, Code: icmp.code } }),
      })),
    { CidrBlock: "0.0.0.0/0", Egress, Protocol: "-1", RuleAction: "deny", RuleNumber: lastRule },
  ]);
  return {
    Associations: subnetsOf(world, acl).map((SubnetId) => ({
      NetworkAclAssociationId: associationId(acl, SubnetId),
      NetworkAclId: acl.id,
      SubnetId,
    })),
    Entries: entries,
    IsDefault: acl.isDefault,
    NetworkAclId: acl.id,
    Tags: tagList(acl.tags),
    VpcId: acl.vpcId,
    OwnerId: world.accountId,
  };
}

const filtersOf = (world: World): FilterTable<NetworkAcl> => ({
  "association.network-acl-id": (acl) => (subnetsOf(world, acl).length === 0 ? [] : [acl.id]),
  "association.subnet-id": (acl) => subnetsOf(world, acl),
  "association.association-id": (acl) => subnetsOf(world, acl).map((id) => associationId(acl, id)),
  default: (acl) => [acl.isDefault],
  "entry.cidr": (acl) => acl.entries.map(({ cidr }) => cidr),
  "entry.egress": (acl) => acl.entries.map(({ egress }) => egress),
  "entry.protocol": (acl) => acl.entries.map(({ protocol }) => protocol),
  "entry.rule-action": (acl) => acl.entries.map(({ action }) => action),
  "entry.rule-number": (acl) => acl.entries.map(({ number }) => number),
  "network-acl-id": (acl) => [acl.id],
  "owner-id": () => [world.accountId],
  "vpc-id": (acl) => [acl.vpcId],
});
