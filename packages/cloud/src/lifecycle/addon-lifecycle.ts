/**
 * Makes an add-on's configuration true in its cluster, as EKS does with its own access: variables of aws-node are patched, and
 * the add-on is ACTIVE again once the DaemonSet has rolled out.
 */
import type { Log } from "@underlay/log/log";
import type { Addon } from "../eks/addons.ts";
import type { Settings } from "../settings.ts";
import type { World } from "../store/kinds.ts";
import { directoryOf } from "./cluster-lifecycle.ts";
import { askApiServer } from "./kubernetes-door.ts";
import { startLoop, type ReconcileLoop } from "./reconcile-loop.ts";

const pollMs = 250;
const daemonSet = "/apis/apps/v1/namespaces/kube-system/daemonsets/aws-node";

export function startAddonLifecycle(options: { world: World; settings: Settings; log: Log }): ReconcileLoop {
  const { world, settings, log } = options;
  /** Addons whose patch the API server took, by the modification it belongs to. */
  const applied = new Map<string, string>();
  return startLoop({ name: "add-ons", log, pass });

  async function pass(): Promise<number | undefined> {
    let waiting = false;
    for (const addon of world.store.all("addon")) {
      if (addon.status === "ACTIVE") continue;
      if (world.store.get("cluster", addon.clusterName)?.status !== "ACTIVE") continue;
      if (await isInForce(addon)) finish(addon);
      else waiting = true;
    }
    return waiting ? pollMs : undefined;
  }

  async function isInForce(addon: Addon): Promise<boolean> {
    if (addon.name !== "vpc-cni" || (Object.keys(addon.env).length === 0 && addon.dropped.length === 0)) return true;
    const directory = directoryOf(settings, addon.clusterName);
    if (applied.get(addon.id) !== addon.modifiedAt) {
      const answer = await askApiServer(directory, `${daemonSet}?fieldManager=eks`, "PATCH", {
        type: "application/strategic-merge-patch+json",
        content: envPatch(addon),
      }).catch(() => undefined);
      if (answer?.status !== 200) return false;
      applied.set(addon.id, addon.modifiedAt);
      log.info("configured an add-on", { addon: addon.id, env: addon.env });
    }
    const answer = await askApiServer(directory, daemonSet).catch(() => undefined);
    return answer?.status === 200 && hasRolledOut(JSON.parse(answer.body) as DaemonSet);
  }

  function finish(addon: Addon): void {
    applied.delete(addon.id);
    world.store.transaction(() => {
      const current = world.store.get("addon", addon.id);
      if (current?.modifiedAt !== addon.modifiedAt) return;
      world.store.put("addon", { ...current, status: "ACTIVE", dropped: [] });
    });
  }
}

type DaemonSet = {
  metadata: { generation?: number };
  status?: {
    observedGeneration?: number;
    desiredNumberScheduled?: number;
    updatedNumberScheduled?: number;
    numberAvailable?: number;
  };
};

/** As `kubectl rollout status` decides. */
function hasRolledOut({ metadata, status = {} }: DaemonSet): boolean {
  const wanted = status.desiredNumberScheduled ?? 0;
  return (
    (status.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
    (status.updatedNumberScheduled ?? 0) >= wanted &&
    (status.numberAvailable ?? 0) >= wanted
  );
}

export function envPatch({ env, dropped }: Pick<Addon, "env" | "dropped">): object {
  const variables = [
    ...Object.entries(env).map(([name, value]) => ({ name, value })),
    ...dropped.map((name) => ({ name, $patch: "delete" })),
  ];
  return { spec: { template: { spec: { containers: [{ name: "aws-node", env: variables }] } } } };
}
