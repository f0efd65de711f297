/** Resource ids: made, checked, and looked up with the code EC2 answers for each kind. */
import { randomBytes } from "node:crypto";
import { ApiError } from "../protocol/api-error.ts";
import type { Kinds, World } from "../store/kinds.ts";

type Facts = {
  readonly prefix: string;
  readonly notFound: string;
  readonly malformed: string;
  readonly missing: (id: string) => string;
  /** The `ResourceType` of tag specifications. */
  readonly resourceType: string;
};

const doesNotExist = (noun: string) => (id: string) => `The ${noun} '${id}' does not exist`;

const facts = {
  vpc: facts_("vpc-", "InvalidVpcID", doesNotExist("vpc ID"), "vpc"),
  subnet: facts_("subnet-", "InvalidSubnetID", doesNotExist("subnet ID"), "subnet"),
  eni: facts_("eni-", "InvalidNetworkInterfaceID", doesNotExist("networkInterface ID"), "network-interface"),
  instance: facts_("i-", "InvalidInstanceID", doesNotExist("instance ID"), "instance"),
  "security-group": {
    ...facts_("sg-", "InvalidGroup", doesNotExist("security group"), "security-group"),
    malformed: "InvalidGroupId.Malformed",
  },
  "security-group-rule": facts_(
    "sgr-",
    "InvalidSecurityGroupRuleId",
    doesNotExist("security group rule ID"),
    "security-group-rule",
  ),
  "route-table": facts_("rtb-", "InvalidRouteTableID", doesNotExist("routeTable ID"), "route-table"),
  "internet-gateway": facts_(
    "igw-",
    "InvalidInternetGatewayID",
    doesNotExist("internetGateway ID"),
    "internet-gateway",
  ),
  "nat-gateway": {
    ...facts_("nat-", "InvalidNatGatewayID", (id) => `NatGateway ${id} was not found`, "natgateway"),
    notFound: "NatGatewayNotFound",
    malformed: "NatGatewayMalformed",
  },
  address: facts_("eipalloc-", "InvalidAllocationID", doesNotExist("allocation ID"), "elastic-ip"),
  "network-acl": facts_("acl-", "InvalidNetworkAclID", doesNotExist("networkAcl ID"), "network-acl"),
  "launch-template": facts_("lt-", "InvalidLaunchTemplateId", doesNotExist("launch template ID"), "launch-template"),
  "prefix-list": facts_("pl-", "InvalidPrefixListID", doesNotExist("prefix list ID"), "prefix-list"),
} satisfies { [K in keyof Kinds]?: Facts };

export type ResourceKind = keyof typeof facts;

function facts_(prefix: string, code: string, missing: (id: string) => string, resourceType: string): Facts {
  return { prefix, notFound: `${code}.NotFound`, malformed: `${code}.Malformed`, missing, resourceType };
}

export const resourceKinds = Object.keys(facts) as ResourceKind[];

export function resourceTypeOf(kind: ResourceKind): string {
  return facts[kind].resourceType;
}

/** `eni-` + 17 hex digits. */
export function newId(prefix: string): string {
  return `${prefix}0${randomBytes(8).toString("hex")}`;
}

/** The record, or EC2's Malformed or NotFound error. */
export function find<K extends ResourceKind>(world: World, kind: K, id: string): Kinds[K] {
  const { prefix, notFound, malformed, missing } = facts[kind];
  if (!isId(id, prefix)) throw new ApiError(malformed, `Invalid id: "${id}" (expecting "${prefix}...")`);
  const record = world.store.get(kind, id);
  if (record === undefined) throw new ApiError(notFound, missing(id));
  return record;
}

/** Several at once; NotFound names all that are missing, as EC2 does. */
export function findAll<K extends ResourceKind>(world: World, kind: K, ids: readonly string[]): Kinds[K][] {
  const { prefix, notFound, malformed } = facts[kind];
  for (const id of ids)
    if (!isId(id, prefix)) throw new ApiError(malformed, `Invalid id: "${id}" (expecting "${prefix}...")`);
  const missing = ids.filter((id) => world.store.get(kind, id) === undefined);
  if (missing.length > 1 && kind === "instance")
    throw new ApiError(notFound, `The instance IDs '${missing.join(", ")}' do not exist`);
  return ids.map((id) => find(world, kind, id));
}

/** The kind an id's prefix says. */
export function kindOfId(id: string): ResourceKind | undefined {
  return resourceKinds.find((kind) => isId(id, facts[kind].prefix));
}

function isId(id: string, prefix: string): boolean {
  return id.startsWith(prefix) && /^([0-9a-f]{8}|[0-9a-f]{17})$/.test(id.slice(prefix.length));
}
