/** Add-ons: the record of what runs in kube-system. Their manifests are applied by whoever brings the cluster up. */
import type { Addon as AddonOutput, EksActions } from "@underlay/aws/generated/eks-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { findCluster, pageOfNames, partArn } from "./arns.ts";
import { versions } from "./versions.ts";

export type Addon = {
  /** `<cluster>/<name>`. */
  readonly id: string;
  readonly clusterName: string;
  readonly name: string;
  readonly version: string;
  readonly arn: string;
  readonly createdAt: string;
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
  for (const name of Object.keys(known)) {
    world.store.put("addon", {
      id: `${clusterName}/${name}`,
      clusterName,
      name,
      version: known[name]?.version ?? "",
      arn: partArn(world, "addon", clusterName, name),
      createdAt: world.now().toISOString(),
      tags: {},
    });
  }
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
    run({ clusterName = "", addonName = "" }) {
      findCluster(world, clusterName);
      const addon = world.store.get("addon", `${clusterName}/${addonName}`);
      if (addon === undefined)
        throw new ApiError("ResourceNotFoundException", `No addon: ${addonName} found in cluster: ${clusterName}`);
      return { addon: render(addon) };
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

function render(addon: Addon): AddonOutput {
  return {
    addonName: addon.name,
    clusterName: addon.clusterName,
    status: "ACTIVE",
    addonVersion: addon.version,
    health: { issues: [] },
    addonArn: addon.arn,
    createdAt: new Date(addon.createdAt),
    modifiedAt: new Date(addon.createdAt),
    tags: addon.tags,
  };
}
