/** The CEL environment of Kubernetes expressions: the standard, plus the libraries its rules use (ip, cidr, url, quantity, lists, format). */
import { Environment } from "@marcbachmann/cel-js";
import { isIP } from "node:net";
import { parseQuantity } from "@underlay/kube/quantity";
import { hasFormat, isCidr } from "../crd/formats.ts";
import { patternOf } from "../crd/validate.ts";
import type { Stored } from "../stored.ts";

class Ip {
  readonly text: string;
  constructor(text: string) {
    if (isIP(text) === 0) throw new Error(`IP Address "${text}" parse error`);
    this.text = text;
  }
}
class Cidr {
  readonly text: string;
  constructor(text: string) {
    if (!isCidr(text)) throw new Error(`network address parse error: ${text}`);
    this.text = text;
  }
}
class Url {
  readonly url: URL;
  constructor(text: string) {
    this.url = new URL(text);
  }
}
class Quantity {
  readonly value: number;
  constructor(text: string) {
    this.value = parseQuantity(text);
  }
}
class NamedFormat {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

const named: Readonly<Record<string, string>> = {
  dns1123Label: "k8s-short-name",
  dns1123Subdomain: "k8s-long-name",
  dns1035Label: "k8s-short-name",
  uuid: "uuid",
  date: "date",
  datetime: "date-time",
  uri: "uri",
  byte: "byte",
};
const labelProblem =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

let environment: Environment | undefined;

/** The shared environment; variables are whatever the caller's context holds. */
export function celEnvironment(): Environment {
  return (environment ??= build());
}

function build(): Environment {
  const env = new Environment({
    unlistedVariablesAreDyn: true,
    homogeneousAggregateLiterals: false,
    enableOptionalTypes: true,
  });
  env.registerType("IP", Ip);
  env.registerType("CIDR", Cidr);
  env.registerType("URL", Url);
  env.registerType("Quantity", Quantity);
  env.registerType("NamedFormat", NamedFormat);
  const add = (signature: string, handler: (...args: Stored[]) => unknown) => {
    // Some libraries come with the evaluator already; its own versions stay.
    try {
      env.registerFunction(signature, handler);
    } catch (error) {
      if (!/already|overload/i.test(String(error))) throw error;
    }
  };
  add("isIP(string): bool", (text: string) => isIP(text) !== 0);
  add("ip(string): IP", (text: string) => new Ip(text));
  add("IP.family(): int", (ip: Ip) => BigInt(isIP(ip.text)));
  add("isCIDR(string): bool", isCidr);
  add("cidr(string): CIDR", (text: string) => new Cidr(text));
  add("CIDR.prefixLength(): int", (cidr: Cidr) => BigInt(cidr.text.split("/")[1]!));
  add("CIDR.ip(): IP", (cidr: Cidr) => new Ip(cidr.text.split("/")[0]!));
  add("CIDR.containsIP(string): bool", (cidr: Cidr, ip: string) => contains(cidr, new Ip(ip)));
  add("CIDR.containsIP(IP): bool", contains);
  add("isURL(string): bool", (text: string) => URL.canParse(text));
  add("url(string): URL", (text: string) => new Url(text));
  add("URL.getScheme(): string", ({ url }: Url) => url.protocol.slice(0, -1));
  add("URL.getHost(): string", ({ url }: Url) => url.host);
  add("URL.getHostname(): string", ({ url }: Url) => url.hostname.replace(/^\[|\]$/g, ""));
  add("URL.getPort(): string", ({ url }: Url) => url.port);
  add("URL.getEscapedPath(): string", ({ url }: Url) => url.pathname);
  add("quantity(string): Quantity", (text: string) => new Quantity(text));
  add("isQuantity(string): bool", (text: string) => succeeds(() => parseQuantity(text)));
  add("Quantity.isGreaterThan(Quantity): bool", (a: Quantity, b: Quantity) => a.value > b.value);
  add("Quantity.isLessThan(Quantity): bool", (a: Quantity, b: Quantity) => a.value < b.value);
  add("Quantity.compareTo(Quantity): int", (a: Quantity, b: Quantity) => BigInt(Math.sign(a.value - b.value)));
  add("Quantity.sign(): int", (a: Quantity) => BigInt(Math.sign(a.value)));
  add("Quantity.asApproximateFloat(): double", (a: Quantity) => a.value);
  add("string.find(string): string", (text: string, pattern: string) => patternOf(pattern).exec(text)?.[0] ?? "");
  add("string.findAll(string): list<string>", (text: string, pattern: string) =>
    [...text.matchAll(new RegExp(patternOf(pattern).source, "gu"))].map((match) => match[0]),
  );
  add("string.replace(string, string): string", (text: string, from: string, to: string) => text.split(from).join(to));
  add("string.lowerAscii(): string", (text: string) => text.toLowerCase());
  add("string.upperAscii(): string", (text: string) => text.toUpperCase());
  add("string.trim(): string", (text: string) => text.trim());
  add("string.charAt(int): string", (text: string, at: bigint) => text.charAt(Number(at)));
  add("list.isSorted(): bool", (list: Stored[]) => list.every((item, i) => i === 0 || list[i - 1] <= item));
  add("list.sum(): dyn", (list: Stored[]) =>
    list.reduce((sum, item) => sum + item, typeof list[0] === "number" ? 0 : 0n),
  );
  add("list.min(): dyn", (list: Stored[]) => list.reduce((a, b) => (b < a ? b : a)));
  add("list.max(): dyn", (list: Stored[]) => list.reduce((a, b) => (b > a ? b : a)));
  add("list.indexOf(dyn): int", (list: Stored[], item: unknown) => BigInt(list.indexOf(item)));
  add("list.lastIndexOf(dyn): int", (list: Stored[], item: unknown) => BigInt(list.lastIndexOf(item)));
  // Set operations are `sets.contains(a, b)`: a receiver of a type that only this constant has.
  env.registerType("SetLibrary", SetLibrary);
  env.registerConstant("sets", "SetLibrary", new SetLibrary());
  add("SetLibrary.contains(list, list): bool", (_: unknown, a: Stored[], b: Stored[]) =>
    b.every((item) => a.includes(item)),
  );
  add("SetLibrary.intersects(list, list): bool", (_: unknown, a: Stored[], b: Stored[]) =>
    b.some((item) => a.includes(item)),
  );
  add(
    "SetLibrary.equivalent(list, list): bool",
    (_: unknown, a: Stored[], b: Stored[]) =>
      a.every((item) => b.includes(item)) && b.every((item) => a.includes(item)),
  );
  env.registerType("FormatLibrary", FormatLibrary);
  env.registerConstant("format", "FormatLibrary", new FormatLibrary());
  for (const name of Object.keys(named)) add(`FormatLibrary.${name}(): NamedFormat`, () => new NamedFormat(name));
  add("NamedFormat.validate(string): optional", (format: NamedFormat, text: string) => formatProblems(format, text));
  return env;
}

class SetLibrary {}
class FormatLibrary {}

function formatProblems(format: NamedFormat, text: string): unknown {
  const env = celEnvironment();
  if (hasFormat(named[format.name]!, text)) return env.evaluate("optional.none()");
  return env.evaluate("optional.of([problem])", {
    problem: format.name === "dns1123Label" ? labelProblem : `must be a valid ${format.name}`,
  });
}

function succeeds(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}

function contains(cidr: Cidr, ip: Ip): boolean {
  const [base, length] = cidr.text.split("/") as [string, string];
  if (isIP(base) !== isIP(ip.text)) return false;
  const bits = isIP(base) === 4 ? 32 : 128;
  const shift = BigInt(bits - Number(length));
  return toNumber(base) >> shift === toNumber(ip.text) >> shift;
}

function toNumber(address: string): bigint {
  if (isIP(address) === 4) return address.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  // The URL parser writes IPv6 in full groups except for the longest run of zeros.
  const [head = "", tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill("0"), ...right];
  return groups.reduce((sum, part) => (sum << 16n) | BigInt(`0x${part}`), 0n);
}
