/**
 * Add-ons: the record of what runs in kube-system and how it is configured. Their manifests are applied by whoever brings the
 * cluster up; what `configurationValues` says is made true in them by `lifecycle/addon-lifecycle.ts`.
 */
import type { Addon as AddonOutput, EksActions } from "@underlay/aws/generated/eks-types";
import { parse } from "yaml";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { findCluster, pageOfNames, partArn } from "./arns.ts";
import { recordUpdate, renderUpdate } from "./updates.ts";
import { versions } from "./versions.ts";

export type Addon = {
  /** `<cluster>/<name>`. */
  readonly id: string;
  readonly clusterName: string;
  readonly name: string;
  readonly version: string;
  readonly arn: string;
  readonly status: "CREATING" | "ACTIVE" | "UPDATING";
  /** As given, for answers. */
  readonly configurationValues?: string;
  /** What it says: variables of the add-on's main container. */
  readonly env: Readonly<Record<string, string>>;
  /** Variables that an earlier configuration set and this one does not: to be taken out. */
  readonly dropped: readonly string[];
  readonly createdAt: string;
  readonly modifiedAt: string;
  readonly tags: Readonly<Record<string, string>>;
};

/** The versions whose images the cluster runs (ARCHITECTURE.md, "kube-system"). */
const known: Readonly<Record<string, { readonly version: string; readonly type: string }>> = {
  "vpc-cni": { version: "v1.23.1-eksbuild.1", type: "networking" },
  "kube-proxy": { version: "v1.33.3-eksbuild.4", type: "networking" },
  coredns: { version: "v1.12.2-eksbuild.4", type: "networking" },
};

/** The three every cluster starts with. */
export function addDefaultAddons(world: World, clusterName: string): void {
  for (const name of Object.keys(known)) putNew(world, clusterName, name, "ACTIVE");
}

/** Whether the cluster's vpc-cni is configured for /28 prefixes: node groups then allow more pods. */
export function delegatesPrefixes(world: World, clusterName: string): boolean {
  return world.store.get("addon", `${clusterName}/vpc-cni`)?.env["ENABLE_PREFIX_DELEGATION"] === "true";
}

function putNew(world: World, clusterName: string, name: string, status: Addon["status"]): Addon {
  const now = world.now().toISOString();
  return world.store.put("addon", {
    id: `${clusterName}/${name}`,
    clusterName,
    name,
    version: known[name]?.version ?? "",
    arn: partArn(world, "addon", clusterName, name),
    status,
    env: {},
    dropped: [],
    createdAt: now,
    modifiedAt: now,
    tags: {},
  });
}

export const addonOperations = (world: World): OperationsOf<EksActions> => ({
  ListAddons: {
    takes: ["clusterName", "maxResults", "nextToken"],
    run(input) {
      findCluster(world, input.clusterName ?? "");
      const names = world.store
        .all("addon")
        .filter((addon) => addon.clusterName === input.clusterName)
        .map(({ name }) => name);
      const { page, ...next } = pageOfNames(names.sort(), input);
      return { addons: page, ...next };
    },
  },

  DescribeAddon: {
    takes: ["clusterName", "addonName"],
    run: ({ clusterName = "", addonName = "" }) => ({ addon: render(findAddon(world, clusterName, addonName)) }),
  },

  CreateAddon: {
    takes: ["clusterName", "addonName", "addonVersion", "resolveConflicts", "configurationValues", "tags"],
    run({ clusterName = "", addonName = "", addonVersion, resolveConflicts, configurationValues, tags = {} }) {
      const cluster = findCluster(world, clusterName);
      if (known[addonName] === undefined)
        throw new ApiError(
          "InvalidParameterException",
          `Addon ${addonName} specified is not supported in ${cluster.version} kubernetes version`,
        );
      if (world.store.get("addon", `${clusterName}/${addonName}`) !== undefined)
        throw new ApiError("ResourceInUseException", "Addon already exists.");
      requireVersion(addonName, addonVersion);
      requireOverwrite(resolveConflicts);
      const addon = { ...putNew(world, clusterName, addonName, "CREATING"), tags: { ...tags } };
      return { addon: render(world.store.put("addon", configured(addon, configurationValues))) };
    },
  },

  UpdateAddon: {
    takes: ["clusterName", "addonName", "addonVersion", "resolveConflicts", "configurationValues"],
    run({ clusterName = "", addonName = "", addonVersion, resolveConflicts, configurationValues }) {
      const addon = findAddon(world, clusterName, addonName);
      requireVersion(addonName, addonVersion);
      requireOverwrite(resolveConflicts);
      const next = configurationValues === undefined ? addon : configured(addon, configurationValues);
      world.store.put("addon", { ...next, status: "UPDATING", modifiedAt: world.now().toISOString() });
      const params = [
        ...(addonVersion === undefined ? [] : [{ type: "AddonVersion", value: addonVersion }]),
        ...(resolveConflicts === undefined ? [] : [{ type: "ResolveConflicts", value: resolveConflicts }]),
        ...(configurationValues === undefined ? [] : [{ type: "ConfigurationValues", value: configurationValues }]),
      ];
      return {
        update: renderUpdate(recordUpdate(world, { clusterName, part: addonName, type: "AddonUpdate", params })),
      };
    },
  },

  /** What runs stays (`preserve`): taking a cluster's CNI away is not something this cloud does. */
  DeleteAddon: {
    takes: ["clusterName", "addonName", "preserve"],
    run({ clusterName = "", addonName = "", preserve }) {
      const addon = findAddon(world, clusterName, addonName);
      if (preserve !== true)
        throw new ApiError("InvalidParameterException", "DeleteAddon without preserve is not supported.");
      world.store.remove("addon", addon.id);
      return { addon: { ...render(addon), status: "DELETING" } };
    },
  },

  DescribeAddonVersions: {
    takes: ["addonName", "kubernetesVersion", "maxResults", "nextToken", "types", "publishers", "owners"],
    run({ addonName, kubernetesVersion }) {
      if (addonName !== undefined && known[addonName] === undefined) return { addons: [] };
      return {
        addons: Object.entries(known)
          .filter(([name]) => addonName === undefined || name === addonName)
          .map(([name, { version, type }]) => ({
            addonName: name,
            type,
            addonVersions: [
              {
                addonVersion: version,
                architecture: ["amd64", "arm64"],
                compatibilities: (kubernetesVersion === undefined ? versions : [kubernetesVersion]).map(
                  (clusterVersion) => ({
                    clusterVersion,
                    platformVersions: ["*"],
                    defaultVersion: true,
                  }),
                ),
                requiresConfiguration: false,
                requiresIamPermissions: false,
              },
            ],
            publisher: "eks",
            owner: "aws",
          })),
      };
    },
  },
});

function findAddon(world: World, clusterName: string, name: string): Addon {
  findCluster(world, clusterName);
  const addon = world.store.get("addon", `${clusterName}/${name}`);
  if (addon === undefined)
    throw new ApiError("ResourceNotFoundException", `No addon: ${name} found in cluster: ${clusterName}`);
  return addon;
}

function requireVersion(name: string, version: string | undefined): void {
  const only = known[name]?.version;
  if (version !== undefined && version !== only)
    throw new ApiError(
      "InvalidParameterException",
      `Addon version specified is not supported: ${version}; ${name} exists as ${only ?? "no version"}`,
    );
}

/** Fields changed by hand are always overwritten, so the other ways to settle a conflict are refused rather than pretended. */
function requireOverwrite(resolveConflicts: string | undefined): void {
  if (resolveConflicts === "PRESERVE")
    throw new ApiError("InvalidParameterException", "resolveConflicts PRESERVE is not supported: use OVERWRITE.");
}

/** The add-on with another configuration; what is not honoured is refused by name, as AWS's schema does. */
function configured(addon: Addon, configurationValues = ""): Addon {
  const env = parseConfiguration(addon.name, configurationValues);
  const { configurationValues: _, ...rest } = addon;
  return {
    ...rest,
    ...(configurationValues === "" ? {} : { configurationValues }),
    env,
    dropped: [...new Set([...addon.dropped, ...Object.keys(addon.env)])].filter((name) => !(name in env)),
  };
}

/** The `env` of vpc-cni's configuration values (JSON or YAML). */
export function parseConfiguration(addonName: string, text: string): Record<string, string> {
  const invalid = (why: string) =>
    new ApiError(
      "InvalidParameterException",
      `ConfigurationValue provided in request is not supported: Json schema validation failed with error: [${why}]`,
    );
  let given: unknown;
  try {
    given = parse(text) ?? {};
  } catch (error) {
    throw invalid((error as Error).message.split("\n")[0] ?? "");
  }
  if (typeof given !== "object" || Array.isArray(given) || given === null) throw invalid("$: object expected");
  const allowed = addonName === "vpc-cni" ? ["env"] : [];
  for (const name of Object.keys(given))
    if (!allowed.includes(name))
      throw invalid(`$.${name}: is not defined in the schema and the schema does not allow additional properties`);
  const { env = {} } = given as { env?: unknown };
  if (typeof env !== "object" || env === null || Array.isArray(env)) throw invalid("$.env: object expected");
  for (const [name, value] of Object.entries(env)) {
    if (!/^[A-Z][A-Za-z0-9_]*$/.test(name)) throw invalid(`$.env.${name}: is not a variable of aws-node`);
    if (typeof value !== "string") throw invalid(`$.env.${name}: ${typeof value} found, string expected`);
  }
  return { ...(env as Record<string, string>) };
}

function render(addon: Addon): AddonOutput {
  return {
    addonName: addon.name,
    clusterName: addon.clusterName,
    status: addon.status,
    addonVersion: addon.version,
    health: { issues: [] },
    addonArn: addon.arn,
    createdAt: new Date(addon.createdAt),
    modifiedAt: new Date(addon.modifiedAt),
    tags: addon.tags,
    ...(addon.configurationValues === undefined ? {} : { configurationValues: addon.configurationValues }),
  };
}
