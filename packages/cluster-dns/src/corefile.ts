/**
 * Reads a Corefile, as far as EKS's own goes: one server block for the root zone on port 53 with the plugins of the coredns add-on.
 * Anything else is refused by name: a resolver that ignores a line answers wrongly. Source: coredns.io/manual, EKS add-on v1.12.
 */

export type DnsSettings = {
  readonly port: number;
  /** Forward zones of the kubernetes plugin, e.g. `cluster.local`. */
  readonly zone: string;
  /** Reverse zones it answers for. */
  readonly reverseZones: readonly string[];
  readonly podRecords: "disabled" | "insecure";
  readonly ttlSeconds: number;
  /** Addresses, or a resolv.conf path, that other names are forwarded to. */
  readonly upstream: readonly string[];
  readonly cacheSeconds: number;
  readonly healthPort: number | undefined;
  readonly lameduckMs: number;
  readonly readyPort: number | undefined;
  readonly metricsPort: number | undefined;
  readonly logQueries: boolean;
  readonly reload: boolean;
  readonly rotate: boolean;
};

type Directive = {
  readonly name: string;
  readonly args: readonly string[];
  readonly block: readonly Directive[];
  readonly line: number;
};

export class CorefileError extends Error {}

export function parseCorefile(text: string): DnsSettings {
  const blocks = parseDirectives(text);
  const [server, ...others] = blocks;
  if (!server || others.length > 0)
    throw new CorefileError(`Cannot use the Corefile: it has ${blocks.length} server blocks, exactly one is supported`);
  const port = serverPort(server);
  let settings: DnsSettings = {
    port,
    zone: "",
    reverseZones: [],
    podRecords: "disabled",
    ttlSeconds: 5,
    upstream: [],
    cacheSeconds: 0,
    healthPort: undefined,
    lameduckMs: 0,
    readyPort: undefined,
    metricsPort: undefined,
    logQueries: false,
    reload: false,
    rotate: false,
  };
  for (const directive of server.block) settings = { ...settings, ...readPlugin(directive) };
  if (!settings.zone) throw new CorefileError("Cannot use the Corefile: it has no kubernetes plugin");
  return settings;
}

function serverPort(server: Directive): number {
  const match = /^\.?(?::(\d+))?$/.exec(server.name);
  if (!match || server.args.length > 0)
    throw unsupported(
      server,
      `server block for ${[server.name, ...server.args].join(" ")}: only the root zone is supported`,
    );
  return Number(match[1] ?? 53);
}

function readPlugin(directive: Directive): Partial<DnsSettings> {
  const { args } = directive;
  switch (directive.name) {
    case "errors":
    case "loop":
      return {};
    case "log":
      return { logQueries: true };
    case "reload":
      return { reload: true };
    case "loadbalance":
      return { rotate: true };
    case "health":
      return { healthPort: portOf(args[0], 8080), lameduckMs: lameduckOf(directive) };
    case "ready":
      return { readyPort: portOf(args[0], 8181) };
    case "prometheus":
      return { metricsPort: portOf(args[0], 9153) };
    case "cache":
      return { cacheSeconds: args[0] === undefined ? 3600 : wholeNumber(directive, args[0]) };
    case "forward":
      if (args[0] !== "." || args.length < 2)
        throw unsupported(directive, "forward needs the root zone and at least one upstream");
      return { upstream: args.slice(1) };
    case "kubernetes":
      return kubernetesPlugin(directive);
    default:
      throw unsupported(directive, `plugin ${directive.name}`);
  }
}

function kubernetesPlugin(directive: Directive): Partial<DnsSettings> {
  const zones = directive.args;
  const reverseZones = zones.filter((zone) => zone.endsWith("in-addr.arpa") || zone.endsWith("ip6.arpa"));
  const forwardZones = zones.filter((zone) => !reverseZones.includes(zone));
  if (forwardZones.length !== 1)
    throw unsupported(directive, `kubernetes with ${forwardZones.length} forward zones (exactly one)`);
  let settings: Partial<DnsSettings> = { zone: (forwardZones[0] ?? "").toLowerCase().replace(/\.$/, ""), reverseZones };
  for (const option of directive.block) {
    if (option.name === "pods" && (option.args[0] === "insecure" || option.args[0] === "disabled"))
      settings = { ...settings, podRecords: option.args[0] };
    else if (option.name === "ttl") settings = { ...settings, ttlSeconds: wholeNumber(option, option.args[0]) };
    else if (option.name !== "fallthrough")
      throw unsupported(option, `kubernetes option ${[option.name, ...option.args].join(" ")}`);
  }
  return settings;
}

function portOf(address: string | undefined, otherwise: number): number {
  return Number(/:(\d+)$/.exec(address ?? "")?.[1] ?? otherwise);
}

function lameduckOf(directive: Directive): number {
  const option = directive.block.find(({ name }) => name === "lameduck");
  const match = /^(\d+)(ms|s)$/.exec(option?.args[0] ?? "0s");
  if (!match) throw unsupported(directive, `lameduck ${option?.args[0]}`);
  return Number(match[1]) * (match[2] === "s" ? 1000 : 1);
}

function wholeNumber(directive: Directive, text: string | undefined): number {
  if (!/^\d+$/.test(text ?? "")) throw unsupported(directive, `${directive.name} ${text ?? "without a number"}`);
  return Number(text);
}

function unsupported(directive: Directive, what: string): CorefileError {
  return new CorefileError(`Cannot use the Corefile: line ${directive.line}: ${what} is not supported`);
}

function parseDirectives(text: string): Directive[] {
  const stack: { name: string; args: string[]; block: Directive[]; line: number }[] = [
    { name: "", args: [], block: [], line: 0 },
  ];
  text.split("\n").forEach((raw, index) => {
    const words = raw.replace(/#.*/, "").trim().split(/\s+/).filter(Boolean);
    if (words.length === 0) return;
    if (words[0] === "}") {
      stack.pop();
      if (stack.length === 0)
        throw new CorefileError(`Cannot read the Corefile: line ${index + 1}: "}" closes nothing`);
      return;
    }
    const opens = words.at(-1) === "{";
    const [name = "", ...args] = opens ? words.slice(0, -1) : words;
    const directive = { name, args, block: [] as Directive[], line: index + 1 };
    stack.at(-1)?.block.push(directive);
    if (opens) stack.push(directive);
  });
  if (stack.length !== 1) throw new CorefileError('Cannot read the Corefile: a "{" is never closed');
  return [...(stack[0]?.block ?? [])];
}
