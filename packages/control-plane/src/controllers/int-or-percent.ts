/** `3` or `"25%"` of a total. */
export function intOrPercent(
  value: number | string | undefined,
  total: number,
  round: "up" | "down",
  otherwise = 0,
): number {
  if (value === undefined) return otherwise;
  if (typeof value === "number") return value;
  if (!value.endsWith("%")) return Number(value) || 0;
  const exact = (Number(value.slice(0, -1)) * total) / 100;
  return round === "up" ? Math.ceil(exact) : Math.floor(exact);
}
