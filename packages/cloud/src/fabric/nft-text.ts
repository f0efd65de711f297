/** Sets and chains as one nft transaction. Pure text. */
import { nftTable } from "./places.ts";
import type { Item } from "./items.ts";

export type Structure = Extract<Item, { kind: "set" | "chain" }>;

export const isStructure = (item: Item): item is Structure => item.kind === "set" || item.kind === "chain";

/** Makes sets and chains what they should be; running it again changes nothing. Chains keep flows: conntrack is not touched. */
export function structureText(items: readonly Structure[]): string {
  const sets = items.filter((item) => item.kind === "set");
  const chains = items.filter((item) => item.kind === "chain");
  return [
    `add table ip ${nftTable}`,
    ...sets.map((set) => `add ${set.type} ip ${nftTable} ${set.name} { ${set.definition}; }`),
    ...sets.flatMap((set) =>
      set.elements === undefined
        ? []
        : [
            `flush set ip ${nftTable} ${set.name}`,
            ...(set.elements.length > 0
              ? [`add element ip ${nftTable} ${set.name} { ${set.elements.join(", ")} }`]
              : []),
          ],
    ),
    ...chains.map(
      (chain) => `add chain ip ${nftTable} ${chain.name}${chain.hook === undefined ? "" : ` { ${chain.hook} }`}`,
    ),
    ...chains.flatMap((chain) => [
      `flush chain ip ${nftTable} ${chain.name}`,
      ...chain.rules.map((rule) => `add rule ip ${nftTable} ${chain.name} ${rule}`),
    ]),
    "",
  ].join("\n");
}

/** Removes chains and sets; nothing may refer to them but each other. */
export function removalText(items: readonly Structure[]): string {
  const sets = items.filter((item) => item.kind === "set");
  const chains = items.filter((item) => item.kind === "chain");
  return [
    ...chains.map((chain) => `flush chain ip ${nftTable} ${chain.name}`),
    ...chains.map((chain) => `delete chain ip ${nftTable} ${chain.name}`),
    ...sets.map((set) => `delete ${set.type} ip ${nftTable} ${set.name}`),
    "",
  ].join("\n");
}
