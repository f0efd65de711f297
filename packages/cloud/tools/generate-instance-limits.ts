/**
 * Makes src/generated/instance-limits.json out of a limits file (`{ "<type>": { enis, ipv4PerEni, networkCards, hypervisor,
 * bareMetal, trunking, branchEnis } }`). Run by hand: node packages/cloud/tools/generate-instance-limits.ts <file>
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

type Source = Record<
  string,
  {
    enis: number;
    ipv4PerEni: number;
    defaultNetworkCard: number;
    hypervisor: string;
    bareMetal: boolean;
    networkCards: { index: number; enis: number }[];
    trunking?: boolean;
    branchEnis?: number;
  }
>;

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error("usage: generate-instance-limits.ts <limits file>");
const source = JSON.parse(readFileSync(file, "utf8")) as Source;
const rows = Object.entries(source).map(([type, limits]) => {
  const cards = limits.networkCards.map((card) => card.enis);
  return JSON.stringify([type, limits.ipv4PerEni, cards, limits.defaultNetworkCard, limits.hypervisor.charAt(0) + (limits.bareMetal ? "m" : ""), limits.branchEnis ?? -1]);
});
const head = {
  source: "Amazon VPC CNI v1.23.1 and VPC resource controller limit tables (Apache-2.0), August 2026",
  columns: ["type", "IPv4 addresses per ENI", "ENIs per network card", "default card", "hypervisor initial, m for bare metal", "branch ENIs, -1 unknown"],
};
writeFileSync(
  join(import.meta.dirname, "../src/generated/instance-limits.json"),
  `${JSON.stringify(head).slice(0, -1)},\n"types":[\n${rows.join(",\n")}]}\n`,
);
