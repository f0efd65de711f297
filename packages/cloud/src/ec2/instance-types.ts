/** Instance types: how many ENIs and addresses each takes. One table answers DescribeInstanceTypes and checks every attach. */
import type { Ec2Actions, InstanceTypeInfo } from "@underlay/aws/generated/ec2-types";
import { instanceLimits } from "../generated/instance-limits.ts";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable } from "./filters.ts";
import { pageOf } from "./pages.ts";

export type InstanceLimits = {
  readonly id: string;
  readonly ipv4PerEni: number;
  /** ENIs on each network card. */
  readonly cards: readonly number[];
  readonly defaultCard: number;
  readonly hypervisor: "nitro" | "xen" | "unknown";
  readonly bareMetal: boolean;
  readonly branchEnis: number;
};

type Row = [
  type: string,
  ipv4PerEni: number,
  cards: number[],
  defaultCard: number,
  platform: string,
  branchEnis: number,
];

let rows: Map<string, Row> | undefined;

function table(): Map<string, Row> {
  rows ??= new Map((JSON.parse(instanceLimits) as { types: Row[] }).types.map((row) => [row[0], row]));
  return rows;
}

/** The limits of a type, or EC2's error for one that does not exist. */
export function limitsOf(type: string): InstanceLimits {
  const row = table().get(type);
  if (row === undefined)
    throw new ApiError("InvalidInstanceType", `The following supplied instance types do not exist: [${type}]`);
  return fromRow(row);
}

/** Pods that fit when every slot holds a /28. */
export function maxPodsWithPrefixes(type: string): number {
  const { cards, defaultCard, ipv4PerEni } = limitsOf(type);
  return (cards[defaultCard] ?? 0) * (ipv4PerEni - 1) * 16 + 2;
}

/** Pods that fit with one address each, as the Amazon VPC CNI counts: ENIs × (addresses − 1) + 2. */
export function maxPods(type: string): number {
  const { cards, defaultCard, ipv4PerEni } = limitsOf(type);
  return (cards[defaultCard] ?? 0) * (ipv4PerEni - 1) + 2;
}

function fromRow([id, ipv4PerEni, cards, defaultCard, platform, branchEnis]: Row): InstanceLimits {
  const hypervisor = platform.startsWith("n") ? "nitro" : platform.startsWith("x") ? "xen" : "unknown";
  return { id, ipv4PerEni, cards, defaultCard, hypervisor, bareMetal: platform.endsWith("m"), branchEnis };
}

const sizes: Readonly<Record<string, number>> = { medium: 1, large: 2, xlarge: 4 };
const memoryPerCpu: Readonly<Record<string, number>> = { c: 2, m: 4, r: 8 };
const burstable: Readonly<Record<string, [cpus: number, gib: number]>> = {
  nano: [2, 0.5],
  micro: [2, 1],
  small: [2, 2],
  medium: [2, 4],
  large: [2, 8],
  xlarge: [4, 16],
  "2xlarge": [8, 32],
};

/** vCPUs and memory of the general families (t, m, c, r), whose sizes follow a rule; undefined for others. */
export function capacityOf(type: string): { cpus: number; memoryMiB: number } | undefined {
  const [family = "", size = ""] = type.split(".");
  if (/^t[234][ag]?$/.test(family)) {
    const row = burstable[size];
    return row === undefined ? undefined : { cpus: row[0], memoryMiB: row[1] * 1024 };
  }
  const perCpu = /^[mcr]\d[a-z]*$/.test(family) ? memoryPerCpu[family.charAt(0)] : undefined;
  const cpus = sizes[size] ?? (/^\d+xlarge$/.test(size) ? Number.parseInt(size, 10) * 4 : undefined);
  if (perCpu === undefined || cpus === undefined) return undefined;
  return { cpus, memoryMiB: cpus * perCpu * 1024 };
}

export const instanceTypeOperations = (world: World): OperationsOf<Ec2Actions> => ({
  DescribeInstanceTypes: {
    takes: ["InstanceTypes", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const missing = (input.InstanceTypes ?? []).filter((type) => !table().has(type));
      if (missing.length > 0)
        throw new ApiError(
          "InvalidInstanceType",
          `The following supplied instance types do not exist: [${missing.join(", ")}]`,
        );
      const given = input.InstanceTypes?.length
        ? input.InstanceTypes.map(limitsOf)
        : [...table().values()].map(fromRow);
      const { page, ...next } = pageOf(
        applyFilters<InstanceLimits & { tags?: never }>(given, input.Filters, filters),
        { MaxResults: input.InstanceTypes?.length ? undefined : 100, ...input },
        { ids: input.InstanceTypes, most: 100 },
      );
      return { InstanceTypes: page.map(render), ...next };
    },
  },
  DescribeInstanceTypeOfferings: {
    takes: ["LocationType", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const locations = input.LocationType === "availability-zone" ? world.zones : [world.region];
      const all = [...table().keys()].flatMap((type) =>
        locations.map((location) => ({ id: `${type}/${location}`, type, location })),
      );
      const chosen = applyFilters<{ id: string; type: string; location: string; tags?: never }>(all, input.Filters, {
        "instance-type": ({ type }) => [type],
        location: ({ location }) => [location],
      });
      const { page, ...next } = pageOf(chosen, { MaxResults: 1000, ...input });
      return {
        InstanceTypeOfferings: page.map(({ type, location }) => ({
          InstanceType: type,
          LocationType: input.LocationType ?? "region",
          Location: location,
        })),
        ...next,
      };
    },
  },
});

function architectureOf(type: string): string {
  // Graviton families carry a g after the generation (m6g, c7gn); the first one was a1.
  return /^(a1|[a-z]+\d+g[a-z]*)\./.test(type) ? "arm64" : "x86_64";
}

function render(limits: InstanceLimits): InstanceTypeInfo {
  const capacity = capacityOf(limits.id);
  return {
    InstanceType: limits.id,
    CurrentGeneration: true,
    SupportedUsageClasses: ["on-demand", "spot"],
    BareMetal: limits.bareMetal,
    ...(limits.hypervisor === "unknown" ? {} : { Hypervisor: limits.hypervisor }),
    ProcessorInfo: { SupportedArchitectures: [architectureOf(limits.id)] },
    ...(capacity === undefined
      ? {}
      : { VCpuInfo: { DefaultVCpus: capacity.cpus }, MemoryInfo: { SizeInMiB: capacity.memoryMiB } }),
    NetworkInfo: {
      MaximumNetworkInterfaces: limits.cards[limits.defaultCard] ?? 0,
      MaximumNetworkCards: limits.cards.length,
      DefaultNetworkCardIndex: limits.defaultCard,
      NetworkCards: limits.cards.map((enis, index) => ({ NetworkCardIndex: index, MaximumNetworkInterfaces: enis })),
      Ipv4AddressesPerInterface: limits.ipv4PerEni,
      Ipv6AddressesPerInterface: limits.ipv4PerEni,
      Ipv6Supported: true,
      EnaSupport: limits.hypervisor === "xen" ? "supported" : "required",
      EfaSupported: false,
    },
  };
}

const filters: FilterTable<InstanceLimits> = {
  "bare-metal": (type) => [type.bareMetal],
  "current-generation": () => [true],
  hypervisor: (type) => [type.hypervisor],
  "instance-type": (type) => [type.id],
  "network-info.maximum-network-interfaces": (type) => [type.cards[type.defaultCard]],
  "network-info.ipv4-addresses-per-interface": (type) => [type.ipv4PerEni],
  "processor-info.supported-architecture": (type) => [architectureOf(type.id)],
  "vcpu-info.default-vcpus": (type) => [capacityOf(type.id)?.cpus],
};
