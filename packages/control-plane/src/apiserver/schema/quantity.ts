/** Canonical text of resource quantities: `0.5` → `500m`, `1000m` → `1`, `1024Mi` → `1Gi`. Exact (BigInt, nano units). */

const decimal: [string, bigint][] = [
  ["n", 1n],
  ["u", 1_000n],
  ["m", 1_000_000n],
  ["", 10n ** 9n],
  ["k", 10n ** 12n],
  ["M", 10n ** 15n],
  ["G", 10n ** 18n],
  ["T", 10n ** 21n],
  ["P", 10n ** 24n],
  ["E", 10n ** 27n],
];
const binary: [string, bigint][] = [
  ["Ki", 10],
  ["Mi", 20],
  ["Gi", 30],
  ["Ti", 40],
  ["Pi", 50],
  ["Ei", 60],
].map(([suffix, bits]) => [suffix as string, 1n << BigInt(bits as number)]);
const scales = new Map<string, bigint>([
  ...decimal,
  ...binary.map(([suffix, scale]): [string, bigint] => [suffix, scale * 10n ** 9n]),
]);

/** Canonical form, or undefined when the text is not a quantity. */
export function canonicalQuantity(text: string): string | undefined {
  const parts = /^([+-]?)(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?$/.exec(text.trim());
  if (parts === null) return undefined;
  const [, sign, digits, suffix = ""] = parts;
  const exponent = /^[eE][+-]?\d+$/.test(suffix) ? Number(suffix.slice(1)) : undefined;
  if (exponent !== undefined && Math.abs(exponent) > 30) return undefined;
  const [whole = "", fraction = ""] = digits!.split(".");
  const unscaled = BigInt(whole + fraction || "0");
  const scale = exponent === undefined ? scales.get(suffix)! : 10n ** 9n;
  let numerator = unscaled * scale;
  let denominator = 10n ** BigInt(fraction.length);
  if (exponent !== undefined) {
    if (exponent >= 0) numerator *= 10n ** BigInt(exponent);
    else denominator *= 10n ** BigInt(-exponent);
  }
  // Smaller than nano is rounded up (away from zero), as upstream does.
  const nano = (numerator + denominator - 1n) / denominator;
  if (nano === 0n) return "0";
  const prefix = sign === "-" ? "-" : "";
  if (suffix.endsWith("i") && nano % 10n ** 9n === 0n) return prefix + binaryText(nano / 10n ** 9n);
  return prefix + (exponent !== undefined ? exponentText(nano) : decimalText(nano));
}

function binaryText(value: bigint): string {
  for (const [suffix, scale] of binary.toReversed()) {
    if (value % scale === 0n) return `${value / scale}${suffix}`;
  }
  return String(value);
}

function decimalText(nano: bigint): string {
  for (const [suffix, scale] of decimal.toReversed()) {
    if (nano % scale === 0n) return `${nano / scale}${suffix}`;
  }
  return `${nano}n`;
}

function exponentText(nano: bigint): string {
  for (let power = 27; power >= -9; power -= 3) {
    const scale = 10n ** BigInt(power + 9);
    if (nano % scale === 0n) return power === 0 ? String(nano / scale) : `${nano / scale}e${power}`;
  }
  return `${nano}n`;
}
