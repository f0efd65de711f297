const directions: Readonly<Record<string, string>> = {
  north: "n",
  south: "s",
  east: "e",
  west: "w",
  central: "c",
  northeast: "ne",
  northwest: "nw",
  southeast: "se",
  southwest: "sw",
};

/** `us-west-2a` → `usw2-az1`: one of the many mappings real accounts have. */
export function zoneIdOf(zone: string): string {
  const [, area = "", direction = "", number = "", letter = "a"] = /^([a-z]+)-([a-z]+)-(\d+)([a-z])$/.exec(zone) ?? [];
  return `${area}${directions[direction] ?? direction}${number}-az${letter.charCodeAt(0) - "a".charCodeAt(0) + 1}`;
}
