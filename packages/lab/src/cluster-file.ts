/**
 * The cluster file: the part of eksctl's `ClusterConfig` (eksctl.io/v1alpha5) that Underlay honours.
 * A field it does not honour is refused by its path: a cluster must never silently differ from its file.
 */
import { UnderlayError } from "@underlay/log/underlay-error";
import { parse } from "yaml";

export type ContainerRuntime = "underlay" | "containerd";

export type NodeGroupPlan = {
  readonly name: string;
  readonly instanceType: string;
  readonly minSize: number;
  readonly maxSize: number;
  readonly desiredCapacity: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly privateNetworking: boolean;
  readonly maxPodsPerNode: number | undefined;
  /** What runs the group's pods: shims of our own, or Debian's containerd. */
  readonly containerRuntime: ContainerRuntime;
};

export type ClusterPlan = {
  readonly name: string;
  readonly region: string;
  readonly version: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly vpcCidr: string;
  readonly zones: readonly string[];
  readonly natGateway: "Single" | "Disable";
  readonly publicAccess: boolean;
  readonly privateAccess: boolean;
  readonly serviceCidr: string | undefined;
  readonly nodeGroups: readonly NodeGroupPlan[];
  /** Environment variables set on `aws-node`, by the `vpc-cni` add-on's configurationValues.env. */
  readonly cniEnv: Readonly<Record<string, string>>;
  /** Network policy, by the same add-on's `enableNetworkPolicy` and `nodeAgent.enablePolicyEventLogs`. */
  readonly networkPolicy: { readonly enabled: boolean; readonly eventLogs: boolean };
};

/** Plain EKS in the workshop's VPC. */
export const defaultPlan: ClusterPlan = {
  name: "eks-workshop",
  region: "us-west-2",
  version: "1.33",
  tags: {},
  vpcCidr: "10.42.0.0/16",
  zones: ["us-west-2a", "us-west-2b", "us-west-2c"],
  natGateway: "Single",
  publicAccess: true,
  privateAccess: true,
  serviceCidr: undefined,
  nodeGroups: [
    {
      name: "default",
      instanceType: "m5.large",
      minSize: 3,
      maxSize: 6,
      desiredCapacity: 3,
      labels: { "workshop-default": "yes" },
      privateNetworking: true,
      maxPodsPerNode: undefined,
      containerRuntime: "underlay",
    },
  ],
  cniEnv: {},
  networkPolicy: { enabled: false, eventLogs: false },
};

/** The plan with one runtime for every node group; without one, as it is. */
export function withRuntime(plan: ClusterPlan, runtime: ContainerRuntime | undefined): ClusterPlan {
  return runtime === undefined
    ? plan
    : { ...plan, nodeGroups: plan.nodeGroups.map((group) => ({ ...group, containerRuntime: runtime })) };
}

/** Reads a cluster file's text. Throws `BadClusterFile` naming the field path. */
export function parseClusterFile(text: string, fileName: string): ClusterPlan {
  let document: unknown;
  try {
    document = parse(text);
  } catch (err) {
    throw new UnderlayError("BadClusterFile", `Cannot read ${fileName}: it is not YAML: ${(err as Error).message}`);
  }
  const reader = new Reader(fileName, "", document);
  const apiVersion = reader.text("apiVersion", "");
  if (apiVersion !== "eksctl.io/v1alpha5")
    reader.fail("apiVersion", `is ${JSON.stringify(apiVersion)}, it must be "eksctl.io/v1alpha5"`);
  const kind = reader.text("kind", "");
  if (kind !== "ClusterConfig") reader.fail("kind", `is ${JSON.stringify(kind)}, it must be "ClusterConfig"`);

  const metadata = reader.object("metadata");
  const name = metadata.text("name", "");
  if (!/^[A-Za-z][A-Za-z0-9-]{0,99}$/.test(name))
    metadata.fail(
      "name",
      `is ${JSON.stringify(name)}, it must start with a letter and hold only letters, digits and dashes`,
    );
  const region = metadata.text("region", defaultPlan.region);
  const version = metadata.text("version", defaultPlan.version);
  const tags = metadata.strings("tags");
  metadata.end();

  const vpc = reader.object("vpc");
  const vpcCidr = vpc.text("cidr", defaultPlan.vpcCidr);
  const nat = vpc.object("nat");
  const natGateway = nat.oneOf("gateway", ["Single", "Disable"] as const, "Single");
  nat.end();
  const endpoints = vpc.object("clusterEndpoints");
  const publicAccess = endpoints.flag("publicAccess", true);
  const privateAccess = endpoints.flag("privateAccess", true);
  endpoints.end();
  vpc.end();

  const network = reader.object("kubernetesNetworkConfig");
  const serviceCidr = network.text("serviceIPv4CIDR", "") || undefined;
  network.end();

  const zones = reader.texts(
    "availabilityZones",
    ["a", "b", "c"].map((letter) => region + letter),
  );
  if (zones.length < 2) reader.fail("availabilityZones", `names ${zones.length} zone, an EKS cluster needs at least 2`);
  const nodeGroups = reader.objects("managedNodeGroups").map(readNodeGroup);
  const addons = readAddons(reader.objects("addons"));
  reader.end();
  return {
    name,
    region,
    version,
    tags,
    vpcCidr,
    zones,
    natGateway,
    publicAccess,
    privateAccess,
    serviceCidr,
    nodeGroups,
    ...addons,
  };
}

function readNodeGroup(group: Reader): NodeGroupPlan {
  const desired = group.count("desiredCapacity", 2);
  const plan: NodeGroupPlan = {
    name: group.text("name", ""),
    instanceType: group.text("instanceType", "m5.large"),
    minSize: group.count("minSize", desired),
    maxSize: group.count("maxSize", desired),
    desiredCapacity: desired,
    labels: group.strings("labels"),
    privateNetworking: group.flag("privateNetworking", false),
    maxPodsPerNode: group.count("maxPodsPerNode", 0) || undefined,
    containerRuntime: group.oneOf("containerRuntime", ["underlay", "containerd"] as const, "underlay"),
  };
  if (!plan.name) group.fail("name", "is missing");
  if (plan.minSize > desired || plan.maxSize < desired)
    group.fail("desiredCapacity", `is ${desired}, outside minSize ${plan.minSize} and maxSize ${plan.maxSize}`);
  group.end();
  return plan;
}

const knownAddons = ["vpc-cni", "kube-proxy", "coredns"];

function readAddons(addons: readonly Reader[]): Pick<ClusterPlan, "cniEnv" | "networkPolicy"> {
  let { cniEnv, networkPolicy } = defaultPlan;
  for (const addon of addons) {
    const name = addon.text("name", "");
    if (!knownAddons.includes(name))
      addon.fail("name", `is ${JSON.stringify(name)}; the add-ons that exist are ${knownAddons.join(", ")}`);
    addon.text("version", "latest");
    const values = addon.text("configurationValues", "");
    if (values) {
      if (name !== "vpc-cni") addon.fail("configurationValues", `is supported for vpc-cni only`);
      const configuration = new Reader(addon.fileName, `${addon.path}.configurationValues`, parse(values));
      cniEnv = configuration.strings("env");
      // The add-on's schema wants these as texts.
      const isOn = (from: Reader, field: string): boolean => from.oneOf(field, ["true", "false"], "false") === "true";
      const nodeAgent = configuration.object("nodeAgent");
      networkPolicy = {
        enabled: isOn(configuration, "enableNetworkPolicy"),
        eventLogs: isOn(nodeAgent, "enablePolicyEventLogs"),
      };
      nodeAgent.end();
      configuration.end();
    }
    addon.end();
  }
  return { cniEnv, networkPolicy };
}

/** Reads one mapping field by field and knows which fields were never asked for. */
class Reader {
  readonly #fields: Map<string, unknown>;
  readonly fileName: string;
  readonly path: string;

  constructor(fileName: string, path: string, value: unknown) {
    this.fileName = fileName;
    this.path = path;
    if (value === undefined || value === null) this.#fields = new Map();
    else if (typeof value === "object" && !Array.isArray(value)) this.#fields = new Map(Object.entries(value));
    else
      throw new UnderlayError("BadClusterFile", `Cannot read ${fileName}: ${path || "the document"} must be a mapping`);
  }

  fail(field: string, problem: string): never {
    throw new UnderlayError("BadClusterFile", `Cannot use ${this.fileName}: ${this.#at(field)} ${problem}`);
  }

  text(field: string, otherwise: string): string {
    const value = this.#take(field);
    if (value === undefined) return otherwise;
    if (typeof value === "string" || typeof value === "number") return String(value);
    return this.fail(field, "must be text");
  }

  flag(field: string, otherwise: boolean): boolean {
    const value = this.#take(field);
    if (value === undefined) return otherwise;
    return typeof value === "boolean" ? value : this.fail(field, "must be true or false");
  }

  count(field: string, otherwise: number): number {
    const value = this.#take(field);
    if (value === undefined) return otherwise;
    return Number.isInteger(value) && (value as number) >= 0
      ? (value as number)
      : this.fail(field, "must be a whole number");
  }

  oneOf<const T extends string>(field: string, allowed: readonly T[], otherwise: T): T {
    const value = this.text(field, otherwise);
    return (
      allowed.find((candidate) => candidate === value) ??
      this.fail(field, `is ${JSON.stringify(value)}, it must be one of ${allowed.join(", ")}`)
    );
  }

  texts(field: string, otherwise: readonly string[]): readonly string[] {
    const value = this.#take(field);
    if (value === undefined) return otherwise;
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    return this.fail(field, "must be a list of texts");
  }

  strings(field: string): Record<string, string> {
    const value = this.#take(field) ?? {};
    if (typeof value !== "object" || Array.isArray(value)) return this.fail(field, "must be a mapping of texts");
    return Object.fromEntries(Object.entries(value as object).map(([key, item]) => [key, String(item)]));
  }

  object(field: string): Reader {
    return new Reader(this.fileName, this.#at(field), this.#take(field));
  }

  objects(field: string): Reader[] {
    const value = this.#take(field) ?? [];
    if (!Array.isArray(value)) return this.fail(field, "must be a list");
    return value.map((item, index) => new Reader(this.fileName, `${this.#at(field)}[${index}]`, item));
  }

  /** Refuses every field that nothing has read. */
  end(): void {
    const [unknown] = this.#fields.keys();
    if (unknown !== undefined) this.fail(unknown, "is not supported");
  }

  #take(field: string): unknown {
    const value = this.#fields.get(field);
    this.#fields.delete(field);
    return value ?? undefined;
  }

  #at(field: string): string {
    return this.path ? `${this.path}.${field}` : field;
  }
}
