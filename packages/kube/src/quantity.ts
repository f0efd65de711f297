/** Resource quantities: `100m`, `1.5Gi`, `2e3`. Numbers are exact up to 2^53. */

const decimal: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
};
const binary: Record<string, number> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60 };

/** The number a quantity stands for. Throws when it is not one. */
export function parseQuantity(quantity: string | number): number {
  if (typeof quantity === "number") return quantity;
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([KMGTPE]i|[numkMGTPE]))?$/.exec(quantity.trim());
  if (!match) throw new Error(`Cannot parse the quantity "${quantity}"`);
  const [, digits = "", exponent, suffix = ""] = match;
  if (exponent !== undefined) return Number(`${digits}e${exponent}`);
  const factor = binary[suffix] ?? decimal[suffix] ?? 1;
  // Dividing is exact where multiplying by 1e-3 is not (0.1 + …).
  return factor < 1 ? Number(digits) / Math.round(1 / factor) : Number(digits) * factor;
}

/** Whole units, rounded up (bytes, counts). */
export function quantityValue(quantity: string | number): number {
  return Math.ceil(parseQuantity(quantity));
}

/** Thousandths, rounded up (CPU). */
export function quantityMilli(quantity: string | number): number {
  return Math.ceil(Number((parseQuantity(quantity) * 1000).toFixed(6)));
}

/** The canonical text: the largest suffix that leaves a whole number. */
export function formatQuantity(value: number, format: "DecimalSI" | "BinarySI" = "DecimalSI"): string {
  if (value === 0) return "0";
  if (format === "BinarySI" && Number.isInteger(value)) {
    for (const suffix of ["Ei", "Pi", "Ti", "Gi", "Mi", "Ki"]) {
      const factor = binary[suffix]!;
      if (value % factor === 0) return `${value / factor}${suffix}`;
    }
    return String(value);
  }
  for (const suffix of ["E", "P", "T", "G", "M", "k"]) {
    const factor = decimal[suffix]!;
    if (value % factor === 0) return `${value / factor}${suffix}`;
  }
  if (Number.isInteger(value)) return String(value);
  return `${Math.ceil(Number((value * 1000).toFixed(6)))}m`;
}
