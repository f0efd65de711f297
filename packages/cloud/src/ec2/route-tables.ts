/** Route tables: the main one of each VPC, associations, routes; a route whose target is gone is a blackhole. */
import type {
  Ec2Actions,
  Route as RouteOutput,
  RouteTable as RouteTableOutput,
} from "@underlay/aws/generated/ec2-types";
import { covers, parseCidr } from "@underlay/addr/cidr";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { requireIpv4Cidr } from "./cidr-input.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, findAll, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type RouteTarget =
  | { readonly kind: "internet-gateway"; readonly id: string }
  | { readonly kind: "nat-gateway"; readonly id: string }
  | { readonly kind: "eni"; readonly id: string };

/** The `local` routes of the VPC's blocks are not stored: they follow the VPC. */
export type Route = { readonly cidr: string; readonly target: RouteTarget };

export type RouteTable = {
  readonly id: string;
  readonly vpcId: string;
  readonly main: boolean;
  /** The association id of the main table with its VPC. */
  readonly mainAssociationId?: string;
  readonly associations: readonly { readonly id: string; readonly subnetId: string }[];
  readonly routes: readonly Route[];
  readonly tags: Tags;
};

export function createMainRouteTable(world: World, vpcId: string): void {
  world.store.put("route-table", {
    id: newId("rtb-"),
    vpcId,
    main: true,
    mainAssociationId: newId("rtbassoc-"),
    associations: [],
    routes: [],
    tags: {},
  });
}

/** The table in force for a subnet: its own association, else the VPC's main table. */
export function routeTableOf(world: World, subnet: { id: string; vpcId: string }): RouteTable | undefined {
  const tables = world.store.all("route-table").filter((table) => table.vpcId === subnet.vpcId);
  return (
    tables.find((table) => table.associations.some((one) => one.subnetId === subnet.id)) ??
    tables.find((table) => table.main)
  );
}

/** Whether packets to the route's target get anywhere. */
export function isBlackhole(world: World, table: RouteTable, { target }: Route): boolean {
  switch (target.kind) {
    case "internet-gateway":
      return world.store.get("internet-gateway", target.id)?.vpcId !== table.vpcId;
    case "nat-gateway": {
      const state = world.store.get("nat-gateway", target.id)?.state;
      return state !== "available" && state !== "pending";
    }
    case "eni":
      return world.store.get("eni", target.id)?.attachment === undefined;
  }
}

export const routeTableOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateRouteTable: {
    takes: ["VpcId", "TagSpecifications"],
    run({ VpcId = "", TagSpecifications }) {
      const vpc = find(world, "vpc", VpcId);
      const tags = tagsFrom(TagSpecifications, "route-table");
      const table = world.store.put("route-table", {
        id: newId("rtb-"),
        vpcId: vpc.id,
        main: false,
        associations: [],
        routes: [],
        tags,
      });
      return { RouteTable: render(world, table) };
    },
  },

  DescribeRouteTables: {
    takes: ["RouteTableIds", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const given = input.RouteTableIds?.length
        ? findAll(world, "route-table", input.RouteTableIds)
        : world.store.all("route-table");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filtersOf(world)), input, {
        ids: input.RouteTableIds,
        most: 100,
      });
      return { RouteTables: page.map((table) => render(world, table)), ...next };
    },
  },

  DeleteRouteTable: {
    takes: ["RouteTableId"],
    run({ RouteTableId = "" }) {
      const table = find(world, "route-table", RouteTableId);
      if (table.main || table.associations.length > 0)
        throw new ApiError(
          "DependencyViolation",
          `The routeTable '${RouteTableId}' has dependencies and cannot be deleted.`,
        );
      world.store.remove("route-table", table.id);
      return {};
    },
  },

  AssociateRouteTable: {
    takes: ["RouteTableId", "SubnetId"],
    run({ RouteTableId = "", SubnetId }) {
      const table = find(world, "route-table", RouteTableId);
      if (SubnetId === undefined)
        throw new ApiError("MissingParameter", "The request must contain the parameter subnetId or gatewayId");
      const subnet = find(world, "subnet", SubnetId);
      if (subnet.vpcId !== table.vpcId)
        throw new ApiError(
          "InvalidParameterValue",
          `Route table ${table.id} and network ${subnet.id} belong to different networks`,
        );
      const already = world.store
        .all("route-table")
        .flatMap((one) => one.associations.map((association) => ({ one, association })));
      const mine = already.find(({ association }) => association.subnetId === SubnetId);
      if (mine?.one.id === table.id)
        return { AssociationId: mine.association.id, AssociationState: { State: "associated" } };
      if (mine !== undefined)
        throw new ApiError(
          "Resource.AlreadyAssociated",
          `The specified association for route table ${table.id} conflicts with an existing association`,
        );
      const association = { id: newId("rtbassoc-"), subnetId: SubnetId };
      world.store.put("route-table", { ...table, associations: [...table.associations, association] });
      return { AssociationId: association.id, AssociationState: { State: "associated" } };
    },
  },

  DisassociateRouteTable: {
    takes: ["AssociationId"],
    run({ AssociationId = "" }) {
      const table = tableOfAssociation(world, AssociationId);
      if (table.mainAssociationId === AssociationId)
        throw new ApiError(
          "InvalidParameterValue",
          `cannot disassociate the main route table association ${AssociationId}`,
        );
      world.store.put("route-table", {
        ...table,
        associations: table.associations.filter(({ id }) => id !== AssociationId),
      });
      return {};
    },
  },

  ReplaceRouteTableAssociation: {
    takes: ["AssociationId", "RouteTableId"],
    run({ AssociationId = "", RouteTableId = "" }) {
      const from = tableOfAssociation(world, AssociationId);
      const to = find(world, "route-table", RouteTableId);
      if (from.vpcId !== to.vpcId)
        throw new ApiError("InvalidParameterValue", `Route table ${to.id} and ${from.id} belong to different networks`);
      const id = newId("rtbassoc-");
      if (from.mainAssociationId === AssociationId) {
        const { mainAssociationId: _, ...rest } = from;
        world.store.put("route-table", { ...rest, main: false });
        world.store.put("route-table", { ...find(world, "route-table", to.id), main: true, mainAssociationId: id });
      } else {
        const subnetId = from.associations.find((one) => one.id === AssociationId)?.subnetId ?? "";
        world.store.put("route-table", {
          ...from,
          associations: from.associations.filter((one) => one.id !== AssociationId),
        });
        const current = find(world, "route-table", to.id);
        world.store.put("route-table", { ...current, associations: [...current.associations, { id, subnetId }] });
      }
      return { NewAssociationId: id, AssociationState: { State: "associated" } };
    },
  },

  CreateRoute: {
    takes: ["RouteTableId", "DestinationCidrBlock", "GatewayId", "NatGatewayId", "NetworkInterfaceId", "InstanceId"],
    run(input) {
      const table = find(world, "route-table", input.RouteTableId ?? "");
      const cidr = destinationOf(input.DestinationCidrBlock);
      const target = targetOf(world, table, input);
      requireNotLocal(world, table, cidr);
      const existing = table.routes.find((route) => route.cidr === cidr);
      if (existing !== undefined && sameTarget(existing.target, target)) return { Return: true };
      if (existing !== undefined)
        throw new ApiError("RouteAlreadyExists", `The route identified by ${cidr} already exists.`);
      world.store.put("route-table", { ...table, routes: [...table.routes, { cidr, target }] });
      return { Return: true };
    },
  },

  ReplaceRoute: {
    takes: ["RouteTableId", "DestinationCidrBlock", "GatewayId", "NatGatewayId", "NetworkInterfaceId", "InstanceId"],
    run(input) {
      const table = find(world, "route-table", input.RouteTableId ?? "");
      const cidr = destinationOf(input.DestinationCidrBlock);
      const target = targetOf(world, table, input);
      if (!table.routes.some((route) => route.cidr === cidr)) throw noRoute(cidr, table.id);
      world.store.put("route-table", {
        ...table,
        routes: table.routes.map((route) => (route.cidr === cidr ? { cidr, target } : route)),
      });
      return {};
    },
  },

  DeleteRoute: {
    takes: ["RouteTableId", "DestinationCidrBlock"],
    run(input) {
      const table = find(world, "route-table", input.RouteTableId ?? "");
      const cidr = destinationOf(input.DestinationCidrBlock);
      if (isLocal(world, table, cidr))
        throw new ApiError("InvalidParameterValue", `cannot remove local route ${cidr} in route table ${table.id}`);
      if (!table.routes.some((route) => route.cidr === cidr)) throw noRoute(cidr, table.id);
      world.store.put("route-table", { ...table, routes: table.routes.filter((route) => route.cidr !== cidr) });
      return {};
    },
  },
});

type RouteInput = {
  GatewayId?: string | undefined;
  NatGatewayId?: string | undefined;
  NetworkInterfaceId?: string | undefined;
  InstanceId?: string | undefined;
};

function targetOf(world: World, table: RouteTable, input: RouteInput): RouteTarget {
  const given = [input.GatewayId, input.NatGatewayId, input.NetworkInterfaceId, input.InstanceId].filter(
    (one) => one !== undefined,
  );
  if (given.length !== 1)
    throw new ApiError(
      "InvalidParameterCombination",
      "The request must contain exactly one of gatewayId, natGatewayId, networkInterfaceId or instanceId",
    );
  if (input.GatewayId !== undefined) {
    const gateway = find(world, "internet-gateway", input.GatewayId);
    if (gateway.vpcId !== table.vpcId)
      throw new ApiError(
        "InvalidParameterValue",
        `route table ${table.id} and network gateway ${gateway.id} belong to different networks`,
      );
    return { kind: "internet-gateway", id: gateway.id };
  }
  if (input.NatGatewayId !== undefined) {
    const gateway = find(world, "nat-gateway", input.NatGatewayId);
    if (gateway.vpcId !== table.vpcId)
      throw new ApiError(
        "InvalidParameterValue",
        `route table ${table.id} and NAT gateway ${gateway.id} belong to different networks`,
      );
    return { kind: "nat-gateway", id: gateway.id };
  }
  const eniId = input.NetworkInterfaceId ?? find(world, "instance", input.InstanceId ?? "").primaryEniId;
  const eni = find(world, "eni", eniId);
  if (eni.vpcId !== table.vpcId)
    throw new ApiError(
      "InvalidParameterValue",
      `route table ${table.id} and interface ${eni.id} belong to different networks`,
    );
  return { kind: "eni", id: eni.id };
}

function destinationOf(cidr: string | undefined): string {
  if (cidr === undefined)
    throw new ApiError("MissingParameter", "The request must contain the parameter destinationCidrBlock");
  return requireIpv4Cidr(cidr, { code: "InvalidParameterValue", least: 0, most: 32 });
}

function isLocal(world: World, table: RouteTable, cidr: string): boolean {
  return find(world, "vpc", table.vpcId).cidrs.some((block) => block.cidr === cidr);
}

/** A route as wide as a local one, or wider than the VPC but inside no block, may not shadow it; more specific ones may exist. */
function requireNotLocal(world: World, table: RouteTable, cidr: string): void {
  if (isLocal(world, table, cidr))
    throw new ApiError("RouteAlreadyExists", `The route identified by ${cidr} already exists.`);
  const blocks = find(world, "vpc", table.vpcId).cidrs;
  const given = parseCidr(cidr);
  if (given.prefixLength > 0 && blocks.some((block) => covers(cidr, block.cidr)))
    throw new ApiError(
      "InvalidParameterValue",
      `The destination CIDR block ${cidr} is equal to or more specific than one of this VPC's CIDR blocks. This route can target only an interface or an instance.`,
    );
}

function noRoute(cidr: string, tableId: string): ApiError {
  return new ApiError(
    "InvalidRoute.NotFound",
    `no route with destination-cidr-block ${cidr} in route table ${tableId}`,
  );
}

function sameTarget(a: RouteTarget, b: RouteTarget): boolean {
  return a.kind === b.kind && a.id === b.id;
}

function tableOfAssociation(world: World, associationId: string): RouteTable {
  const table = world.store
    .all("route-table")
    .find((one) => one.mainAssociationId === associationId || one.associations.some(({ id }) => id === associationId));
  if (table === undefined)
    throw new ApiError("InvalidAssociationID.NotFound", `The association ID '${associationId}' does not exist`);
  return table;
}

function render(world: World, table: RouteTable): RouteTableOutput {
  const associated = { State: "associated" };
  const subnets = table.associations.map(({ id, subnetId }) => ({
    Main: false,
    RouteTableAssociationId: id,
    RouteTableId: table.id,
    SubnetId: subnetId,
    AssociationState: associated,
  }));
  const main =
    table.mainAssociationId === undefined
      ? []
      : [
          {
            Main: true,
            RouteTableAssociationId: table.mainAssociationId,
            RouteTableId: table.id,
            AssociationState: associated,
          },
        ];
  return {
    Associations: [...main, ...subnets],
    PropagatingVgws: [],
    RouteTableId: table.id,
    Routes: [...localRoutes(world, table), ...table.routes.map((route) => renderRoute(world, table, route))],
    Tags: tagList(table.tags),
    VpcId: table.vpcId,
    OwnerId: world.accountId,
  };
}

function localRoutes(world: World, table: RouteTable): RouteOutput[] {
  const blocks = world.store.get("vpc", table.vpcId)?.cidrs ?? [];
  return blocks.map(({ cidr }) => ({
    DestinationCidrBlock: cidr,
    GatewayId: "local",
    Origin: "CreateRouteTable",
    State: "active",
  }));
}

function renderRoute(world: World, table: RouteTable, route: Route): RouteOutput {
  const { kind, id } = route.target;
  const attached = kind === "eni" ? world.store.get("eni", id)?.attachment : undefined;
  const instanceId = attached?.kind === "instance" ? attached.instanceId : undefined;
  return {
    DestinationCidrBlock: route.cidr,
    ...(kind === "internet-gateway"
      ? { GatewayId: id }
      : kind === "nat-gateway"
        ? { NatGatewayId: id }
        : { NetworkInterfaceId: id }),
    ...(instanceId === undefined ? {} : { InstanceId: instanceId, InstanceOwnerId: world.accountId }),
    Origin: "CreateRoute",
    State: isBlackhole(world, table, route) ? "blackhole" : "active",
  };
}

const filtersOf = (world: World): FilterTable<RouteTable> => ({
  "association.main": (table) => [
    ...(table.mainAssociationId === undefined ? [] : [true]),
    ...table.associations.map(() => false),
  ],
  "association.route-table-association-id": (table) => [
    table.mainAssociationId,
    ...table.associations.map(({ id }) => id),
  ],
  "association.route-table-id": (table) => (table.main || table.associations.length > 0 ? [table.id] : []),
  "association.subnet-id": (table) => table.associations.map(({ subnetId }) => subnetId),
  "association.gateway-id": () => [],
  "owner-id": () => [world.accountId],
  "route-table-id": (table) => [table.id],
  "route.destination-cidr-block": (table) => [
    ...localRoutes(world, table).map((one) => one.DestinationCidrBlock),
    ...table.routes.map(({ cidr }) => cidr),
  ],
  "route.gateway-id": (table) => [
    "local",
    ...table.routes.filter(({ target }) => target.kind === "internet-gateway").map(({ target }) => target.id),
  ],
  "route.nat-gateway-id": (table) =>
    table.routes.filter(({ target }) => target.kind === "nat-gateway").map(({ target }) => target.id),
  "route.instance-id": (table) => table.routes.map((route) => renderRoute(world, table, route).InstanceId),
  "route.origin": (table) => ["CreateRouteTable", ...table.routes.map(() => "CreateRoute")],
  "route.state": (table) => [
    "active",
    ...table.routes.map((route) => (isBlackhole(world, table, route) ? "blackhole" : "active")),
  ],
  "vpc-id": (table) => [table.vpcId],
});
