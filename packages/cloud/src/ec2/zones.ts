/** The region and its zones. */
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters } from "./filters.ts";

/** `us-west-2a` → `usw2-az1`. Letters and numbers agree here; on AWS they differ per account. */
export function zoneIdOf(world: World, zone: string): string {
  const [area = "", direction = "", number = ""] = world.region.split("-");
  const short = direction.replace(/north|south|east|west|central/g, (word) => word.charAt(0));
  return `${area}${short}${number}-az${world.zones.indexOf(zone) + 1}`;
}

/** The zone a create call names, or the first. */
export function requireZone(world: World, name: string | undefined, id?: string): string {
  const zone = id === undefined ? (name ?? world.zones[0]) : world.zones.find((one) => zoneIdOf(world, one) === id);
  if (zone === undefined || !world.zones.includes(zone))
    throw new ApiError(
      "InvalidParameterValue",
      `Value (${name ?? id ?? ""}) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: ${world.zones.join(", ")}.`,
    );
  return zone;
}

export const zoneOperations = (world: World): OperationsOf<Ec2Actions> => ({
  DescribeAvailabilityZones: {
    takes: ["Filters", "ZoneNames", "ZoneIds", "AllAvailabilityZones"],
    run({ Filters, ZoneNames = [], ZoneIds = [] }) {
      for (const name of ZoneNames)
        if (!world.zones.includes(name))
          throw new ApiError("InvalidParameterValue", `Invalid availability zone: [${name}]`);
      const zones = world.zones
        .map((name) => ({ name, id: zoneIdOf(world, name) }))
        .filter(
          ({ name, id }) =>
            (ZoneNames.length === 0 || ZoneNames.includes(name)) && (ZoneIds.length === 0 || ZoneIds.includes(id)),
        );
      const chosen = applyFilters<{ name: string; id: string; tags?: never }>(zones, Filters, {
        "zone-name": (zone) => [zone.name],
        "zone-id": (zone) => [zone.id],
        "zone-type": () => ["availability-zone"],
        "region-name": () => [world.region],
        state: () => ["available"],
        "opt-in-status": () => ["opt-in-not-required"],
        "group-name": () => [`${world.region}-zg-1`],
      });
      return {
        AvailabilityZones: chosen.map(({ name, id }) => ({
          OptInStatus: "opt-in-not-required",
          Messages: [],
          RegionName: world.region,
          ZoneName: name,
          ZoneId: id,
          GroupName: `${world.region}-zg-1`,
          NetworkBorderGroup: world.region,
          ZoneType: "availability-zone",
          State: "available",
        })),
      };
    },
  },
  DescribeRegions: {
    takes: ["RegionNames", "AllRegions", "Filters"],
    run({ RegionNames = [], Filters }) {
      for (const name of RegionNames)
        if (name !== world.region) throw new ApiError("InvalidParameterValue", `Invalid region provided: [${name}]`);
      const regions = applyFilters<{ name: string; tags?: never }>([{ name: world.region }], Filters, {
        "region-name": (region) => [region.name],
        endpoint: (region) => [`ec2.${region.name}.amazonaws.com`],
        "opt-in-status": () => ["opt-in-not-required"],
      });
      return {
        Regions: regions.map(({ name }) => ({
          RegionName: name,
          Endpoint: `ec2.${name}.amazonaws.com`,
          OptInStatus: "opt-in-not-required",
        })),
      };
    },
  },
  DescribeAccountAttributes: {
    takes: ["AttributeNames"],
    run({ AttributeNames = [] }) {
      const values: Record<string, string> = {
        "supported-platforms": "VPC",
        "default-vpc": "none",
        "vpc-max-security-groups-per-interface": "5",
        "max-elastic-ips": "5",
        "vpc-max-elastic-ips": "5",
        "max-instances": "20",
      };
      for (const name of AttributeNames)
        if (values[name] === undefined)
          throw new ApiError("InvalidParameterValue", `Value (${name}) for parameter attributeName is invalid.`);
      return {
        AccountAttributes: Object.entries(values)
          .filter(([name]) => AttributeNames.length === 0 || AttributeNames.includes(name as never))
          .map(([AttributeName, AttributeValue]) => ({ AttributeName, AttributeValues: [{ AttributeValue }] })),
      };
    },
  },
});
