/**
 * Trouble on demand, off by default: what the cloud does wrong when it is told to. Faults are records, so they outlive a crash;
 * how often each has struck, and its bucket's level, are counted from the start of the process.
 *   latency      the call waits               visibility   reads answer what was true `ms` ago
 *   throttle     a token bucket               imds-lag     IMDS shows ENIs and addresses `ms` late
 *   error        a code, by rate and count    attach-time  an attached ENI is "attaching", without a link, for `ms`
 *   deny         not authorized
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ServiceName } from "@underlay/aws/model";
import { compilePattern } from "../ec2/filters.ts";
import { ApiError } from "../protocol/api-error.ts";
import type { Principal } from "../protocol/authentication.ts";
import type { World } from "../store/kinds.ts";

export const faultKinds = ["latency", "throttle", "error", "deny", "visibility", "imds-lag", "attach-time"] as const;
export type FaultKind = (typeof faultKinds)[number];

export type Fault = {
  readonly id: string;
  readonly kind: FaultKind;
  /** `CreateNetworkInterface`, `Describe*`, `eks:*`; every call when absent. */
  readonly action?: string;
  /** A pattern for the caller's ARN; everybody when absent. */
  readonly principal?: string;
  readonly ms?: number;
  readonly burst?: number;
  readonly perSecond?: number;
  readonly code?: string;
  readonly message?: string;
  readonly status?: number;
  /** Share of the calls that are struck, 0 to 1; all when absent. */
  readonly rate?: number;
  /** How many calls are struck before the fault is spent; without end when absent. */
  readonly count?: number;
  /** `after`: the call has done its work and only the answer is wrong. */
  readonly when?: "before" | "after";
};

/** The code that stands for an answer that never comes: the connection is closed. */
export const connectionReset = "ConnectionReset";

export type TroubledCall = {
  readonly service: ServiceName;
  readonly action: string;
  readonly principal: Principal;
};

/** What the protocol asks around each call. */
export interface Trouble {
  /** Waits, or throws what the call is answered with instead of being performed. */
  before(call: TroubledCall): Promise<void>;
  /** Throws what is answered although the call was performed. */
  after(call: TroubledCall): void;
  /** How old a state a read of this kind sees; 0: the present one. */
  staleness(call: TroubledCall): number;
}

export class Faults implements Trouble {
  readonly #world: World;
  readonly #random: () => number;
  readonly #struck = new Map<string, number>();
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(world: World, random: () => number = Math.random) {
    this.#world = world;
    this.#random = random;
  }

  list(): (Fault & { struck: number })[] {
    return this.#all().map((fault) => ({ ...fault, struck: this.#struck.get(fault.id) ?? 0 }));
  }

  /** Throws an ApiError naming the field when the fault makes no sense. */
  set(given: Readonly<Record<string, unknown>>): Fault {
    return this.#world.store.transaction(() => {
      const fault = parseFault(given, `fault-${this.#world.store.next("fault")}`);
      return this.#world.store.put("fault", fault);
    });
  }

  /** One, or all; how many went. */
  clear(id?: string): number {
    const gone = this.#all().filter((fault) => id === undefined || fault.id === id);
    this.#world.store.transaction(() => gone.forEach((fault) => this.#world.store.remove("fault", fault.id)));
    for (const fault of gone) {
      this.#struck.delete(fault.id);
      this.#buckets.delete(fault.id);
    }
    return gone.length;
  }

  async before(call: TroubledCall): Promise<void> {
    for (const fault of this.#matching(call)) {
      if (fault.kind === "latency" && this.#strikes(fault)) await sleep(fault.ms);
      if (fault.kind === "throttle" && !this.#takeToken(fault)) {
        this.#count(fault);
        throw throttled(call);
      }
      if (fault.kind === "deny" && this.#strikes(fault)) throw denied(call);
      if (fault.kind === "error" && fault.when !== "after" && this.#strikes(fault)) throw injected(fault);
    }
  }

  after(call: TroubledCall): void {
    for (const fault of this.#matching(call))
      if (fault.kind === "error" && fault.when === "after" && this.#strikes(fault)) throw injected(fault);
  }

  staleness(call: TroubledCall): number {
    return longest(this.#matching(call), "visibility");
  }

  imdsLagMs(): number {
    return longest(this.#all(), "imds-lag");
  }

  attachMs(): number {
    return longest(this.#all(), "attach-time");
  }

  /** How far back some reader may look. */
  historyMs(): number {
    return Math.max(longest(this.#all(), "visibility"), this.imdsLagMs());
  }

  #all(): Fault[] {
    return this.#world.store.all("fault");
  }

  #matching(call: TroubledCall): Fault[] {
    const all = this.#all();
    return all.length === 0 ? all : all.filter((fault) => matches(fault, call));
  }

  #strikes(fault: Fault): boolean {
    if (fault.count !== undefined && (this.#struck.get(fault.id) ?? 0) >= fault.count) return false;
    if (fault.rate !== undefined && this.#random() >= fault.rate) return false;
    this.#count(fault);
    return true;
  }

  #count(fault: Fault): void {
    this.#struck.set(fault.id, (this.#struck.get(fault.id) ?? 0) + 1);
  }

  #takeToken({ id, burst = 1, perSecond = 1 }: Fault): boolean {
    const now = this.#world.now().getTime();
    const bucket = this.#buckets.get(id) ?? { tokens: burst, at: now };
    const tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1000) * perSecond);
    const taken = tokens >= 1;
    this.#buckets.set(id, { tokens: taken ? tokens - 1 : tokens, at: now });
    return taken;
  }
}

export function matches(fault: Pick<Fault, "action" | "principal">, call: TroubledCall): boolean {
  const pattern = fault.action ?? "*";
  const name = pattern.includes(":") ? `${call.service}:${call.action}` : call.action;
  if (!compilePattern(pattern)(name)) return false;
  return fault.principal === undefined || compilePattern(fault.principal)(call.principal.arn);
}

function longest(faults: readonly Fault[], kind: FaultKind): number {
  return Math.max(0, ...faults.filter((fault) => fault.kind === kind).map(({ ms = 0 }) => ms));
}

/** In the service's own words, so that SDKs retry as they do with AWS. */
function throttled({ service }: TroubledCall): ApiError {
  switch (service) {
    case "ec2":
      return new ApiError("RequestLimitExceeded", "Request limit exceeded.", 503);
    case "eks":
      return new ApiError("ThrottlingException", "Rate exceeded", 429);
    case "autoscaling":
    case "sts":
      return new ApiError("Throttling", "Rate exceeded", 400);
  }
}

function denied({ service, action, principal }: TroubledCall): ApiError {
  const message = `User: ${principal.arn} is not authorized to perform: ${service}:${action} because no identity-based policy allows the ${service}:${action} action`;
  switch (service) {
    case "ec2":
      return new ApiError("UnauthorizedOperation", `You are not authorized to perform this operation. ${message}`, 403);
    case "eks":
      return new ApiError("AccessDeniedException", message, 403);
    case "autoscaling":
    case "sts":
      return new ApiError("AccessDenied", message, 403);
  }
}

/** What EC2 says with the codes that callers read. */
const texts: Readonly<Record<string, string>> = {
  RequestLimitExceeded: "Request limit exceeded.",
  InsufficientFreeAddressesInSubnet: "The specified subnet does not have enough free addresses to satisfy the request.",
  InsufficientCidrBlocks: "There are not enough free cidr blocks in the specified subnet to satisfy the request.",
  UnauthorizedOperation: "You are not authorized to perform this operation.",
  PrivateIpAddressLimitExceeded: "Number of private addresses will exceed limit.",
  InternalError: "An internal error has occurred",
  Unavailable: "The service is unavailable. Please try again shortly.",
};

function injected({ code = "InternalError", message, status }: Fault): ApiError {
  return new ApiError(
    code,
    message ?? texts[code] ?? `Injected ${code}`,
    status ?? (code === "Unavailable" ? 503 : undefined),
  );
}

const needs: Readonly<Record<FaultKind, readonly (keyof Fault)[]>> = {
  latency: ["ms"],
  throttle: ["burst", "perSecond"],
  error: ["code"],
  deny: [],
  visibility: ["ms"],
  "imds-lag": ["ms"],
  "attach-time": ["ms"],
};
const shared: readonly (keyof Fault)[] = ["action", "principal", "rate", "count"];
const takes: Readonly<Record<FaultKind, readonly (keyof Fault)[]>> = {
  latency: [...shared, "ms"],
  throttle: ["action", "principal", "burst", "perSecond"],
  error: [...shared, "code", "message", "status", "when"],
  deny: shared,
  visibility: ["action", "principal", "ms"],
  "imds-lag": ["ms"],
  "attach-time": ["ms"],
};
const numbers: readonly string[] = ["ms", "burst", "perSecond", "status", "rate", "count"];

/** A fault from JSON; every field is checked, none is ignored. */
export function parseFault(given: Readonly<Record<string, unknown>>, id: string): Fault {
  const bad = (why: string) => new ApiError("InvalidFault", `Cannot set a fault: ${why}`);
  const kind = faultKinds.find((one) => one === given["kind"]);
  if (kind === undefined)
    throw bad(`kind is ${JSON.stringify(given["kind"])}, it must be one of ${faultKinds.join(", ")}`);
  const fault: Record<string, unknown> = { id, kind };
  for (const [name, value] of Object.entries(given)) {
    if (name === "kind" || value === undefined) continue;
    if (!(takes[kind] as readonly string[]).includes(name)) throw bad(`${kind} does not take ${name}`);
    if (numbers.includes(name) && (typeof value !== "number" || !(value >= 0)))
      throw bad(`${name} must be a number of at least 0`);
    if (!numbers.includes(name) && (typeof value !== "string" || value === "")) throw bad(`${name} must be text`);
    fault[name] = value;
  }
  for (const name of needs[kind]) if (fault[name] === undefined) throw bad(`${kind} needs ${name}`);
  if (typeof fault["rate"] === "number" && fault["rate"] > 1) throw bad("rate must be between 0 and 1");
  if (fault["when"] !== undefined && fault["when"] !== "before" && fault["when"] !== "after")
    throw bad("when must be before or after");
  return fault as Fault;
}
