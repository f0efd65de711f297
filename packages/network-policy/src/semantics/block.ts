/** Whether an address lies in a block, by comparing the leading bits. Host bits of the block do not count; families never mix. */

/** `block` is "address/length". */
export function isInBlock(address: string, block: string): boolean {
  const [base = "", length = ""] = block.split("/");
  return base.includes(":") === address.includes(":") && bits(base).startsWith(bits(address).slice(0, Number(length)));
}

export function sameAddress(a: string, b: string): boolean {
  return a.includes(":") === b.includes(":") && bits(a) === bits(b);
}

function bits(address: string): string {
  if (!address.includes(":"))
    return address
      .split(".")
      .map((octet) => binary(Number(octet), 8))
      .join("");
  const [head = "", tail] = address.split("::");
  const left = words(head);
  const right = words(tail ?? "");
  const gap = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => 0);
  return [...left, ...gap, ...right].map((word) => binary(word, 16)).join("");
}

function words(text: string): number[] {
  return text === "" ? [] : text.split(":").map((word) => Number.parseInt(word, 16));
}

const binary = (number: number, width: number): string => number.toString(2).padStart(width, "0");
