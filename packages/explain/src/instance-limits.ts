/** What an instance type has for pods: ENIs, addresses per ENI, prefixes, vCPUs. Pure, by table. */
import { limitsTable } from "./generated/limits-table.ts";

export type InstanceLimits = {
  /** Of the default network card. */
  readonly enis: number;
  /** IPv4 addresses per ENI, the primary included. */
  readonly addressesPerEni: number;
  /** Nitro or bare metal: ENIs take /28 prefixes. */
  readonly prefixes: boolean;
};

let byType: ReadonlyMap<string, InstanceLimits> | undefined;

/** Every type of the table, in the order of names. */
export function allInstanceLimits(): ReadonlyMap<string, InstanceLimits> {
  byType ??= new Map(
    Object.entries(limitsTable)
      .flatMap(([shape, types]) => types.split(" ").map((type) => [type, parseShape(shape)] as const))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  return byType;
}

export function findInstanceLimits(instanceType: string): InstanceLimits | undefined {
  return allInstanceLimits().get(instanceType);
}

function parseShape(shape: string): InstanceLimits {
  const [enis = 0, addressesPerEni = 0] = shape.replace("!", "").split("x").map(Number);
  return { enis, addressesPerEni, prefixes: !shape.endsWith("!") };
}

/** Types whose vCPUs do not follow from their size, where that decides on which side of 30 they are. */
const vcpuExceptions: Readonly<Record<string, number>> = {
  "a1.metal": 16,
  "hpc7a.12xlarge": 24,
  "hs1.8xlarge": 16,
  "mac-m4.metal": 10,
  "mac-m4pro.metal": 14,
  "mac1.metal": 12,
  "mac2-m1ultra.metal": 20,
  "mac2-m2.metal": 8,
  "mac2-m2pro.metal": 12,
  "mac2.metal": 8,
};

const smallSizes: Readonly<Record<string, number>> = { nano: 2, micro: 2, small: 2, medium: 2, large: 2, xlarge: 4 };

/** vCPUs by the rule of sizes (4 an `xlarge`); undefined for bare metal that is not known. Right as to "more than 30". */
export function vcpusOf(instanceType: string): number | undefined {
  const size = instanceType.split(".")[1] ?? "";
  const times = /^(?:metal-)?(\d+)xl(?:arge)?$/.exec(size)?.[1];
  return vcpuExceptions[instanceType] ?? smallSizes[size] ?? (times === undefined ? undefined : Number(times) * 4);
}
