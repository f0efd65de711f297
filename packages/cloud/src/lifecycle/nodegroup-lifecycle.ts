/**
 * Moves node groups along, and is their Auto Scaling group: what is missing is launched, a terminated member is replaced.
 * ACTIVE means that as many nodes as desired are Ready, asked of the API server. Also what the cloud controller manager does
 * beside EKS: the Node of a terminated instance is deleted.
 */
import type { Log } from "@underlay/log/log";
import { caData } from "../eks/eks.ts";
import { fitToDesired, instancesOf, type Nodegroup, type NodegroupStatus } from "../eks/nodegroups.ts";
import { terminateInstance, type Instance } from "../ec2/instances.ts";
import type { Settings } from "../settings.ts";
import type { World } from "../store/kinds.ts";
import { directoryOf } from "./cluster-lifecycle.ts";
import { drainNode } from "./drain.ts";
import { askApiServer } from "./kubernetes-door.ts";
import { startLoop, type ReconcileLoop } from "./reconcile-loop.ts";

const pollMs = 250;
/** As EKS: what a node still runs after that is ended with it. */
const drainWithinMs = 15 * 60_000;
/** As EKS: a group whose nodes have not joined by then has failed. */
const joinWithinMs = 15 * 60_000;

type Node = {
  metadata: { labels?: Record<string, string> };
  spec: { providerID?: string };
  status?: { conditions?: { type: string; status: string }[] };
};

export function startNodegroupLifecycle(options: { world: World; settings: Settings; log: Log }): ReconcileLoop {
  const { world, settings, log } = options;
  /** Terminated instances whose Node is known to be gone. */
  const buried = new Set<string>();
  return startLoop({ name: "nodegroups", log, pass });

  async function pass(): Promise<number | undefined> {
    let waiting = await removeDeadNodes();
    for (const group of world.store.all("nodegroup")) {
      const cluster = world.store.get("cluster", group.clusterName);
      if (group.status === "DELETING") {
        await drainMembers(group);
        if (hasInstances(group)) waiting = true;
        else world.store.transaction(() => world.store.remove("nodegroup", group.id));
        continue;
      }
      if (cluster?.status !== "ACTIVE" || group.status === "CREATE_FAILED") continue;
      if (instancesOf(world, group).length !== group.scaling.desired)
        world.store.transaction(() => fitToDesired(world, group, caData({ ...settings, kubePort: 0 })));
      if (group.status === "CREATING" || group.status === "UPDATING") waiting = (await follow(group)) || waiting;
    }
    return waiting ? pollMs : undefined;
  }

  /** True while the group still waits for its nodes. */
  async function follow(group: Nodegroup): Promise<boolean> {
    const ready = await readyInstances(group);
    const members = instancesOf(world, group);
    if (members.length === group.scaling.desired && members.every(({ id }) => ready.has(id))) {
      setStatus(group, "ACTIVE");
      log.info("node group is active", { nodegroup: group.id, nodes: members.length });
      return false;
    }
    if (group.status === "CREATING" && world.now().getTime() - Date.parse(group.createdAt) > joinWithinMs) {
      const late = members.filter(({ id }) => !ready.has(id)).map(({ id }) => id);
      setStatus(group, "CREATE_FAILED", [
        { code: "NodeCreationFailure", message: "Instances failed to join the kubernetes cluster", resourceIds: late },
      ]);
      return false;
    }
    return true;
  }

  function setStatus(group: Nodegroup, status: NodegroupStatus, issues: Nodegroup["issues"] = []): void {
    world.store.transaction(() => {
      const current = world.store.get("nodegroup", group.id);
      if (current === undefined || current.status !== group.status) return;
      world.store.put("nodegroup", { ...current, status, issues, modifiedAt: world.now().toISOString() });
    });
  }

  /** True when some Node could not be deleted yet. */
  async function removeDeadNodes(): Promise<boolean> {
    const dead = world.store.all("instance").filter((one) => one.state === "terminated" && !buried.has(one.id));
    let left = false;
    for (const instance of dead) {
      const clusterName = instance.tags["eks:cluster-name"] ?? "";
      const cluster = world.store.get("cluster", clusterName);
      // Its cluster is gone, or it never was a node.
      if (cluster === undefined || cluster.status === "DELETING") buried.add(instance.id);
      else if (await removeNode(clusterName, instance)) buried.add(instance.id);
      else left = true;
    }
    return left;
  }

  async function removeNode(clusterName: string, instance: Instance): Promise<boolean> {
    const directory = directoryOf(settings, clusterName);
    const path = `/api/v1/nodes/${instance.privateDnsName}`;
    const answer = await askApiServer(directory, path).catch(() => undefined);
    if (answer === undefined || (answer.status !== 200 && answer.status !== 404)) return false;
    // Another instance may have come by the same address, and so by the same name.
    if (answer.status === 404 || instanceOf(JSON.parse(answer.body) as Node) !== instance.id) return true;
    const deleted = await askApiServer(directory, path, "DELETE").catch(() => undefined);
    if (deleted?.status === 200)
      log.info("deleted the node of a terminated instance", { node: instance.privateDnsName, instanceId: instance.id });
    return deleted?.status === 200 || deleted?.status === 404;
  }

  /** Ends each member of a group that is being deleted once its node runs nothing more. */
  async function drainMembers(group: Nodegroup): Promise<void> {
    const late = world.now().getTime() - Date.parse(group.modifiedAt) > drainWithinMs;
    const cluster = world.store.get("cluster", group.clusterName);
    const members = instancesOf(world, group);
    await Promise.all(
      members.map(async (instance) => {
        const skip = late || cluster?.status !== "ACTIVE";
        const state = skip
          ? "drained"
          : await drainNode(directoryOf(settings, group.clusterName), instance.privateDnsName);
        if (state === "drained")
          world.store.transaction(
            () => void terminateInstance(world, world.store.get("instance", instance.id) ?? instance),
          );
      }),
    );
  }

  function hasInstances(group: Nodegroup): boolean {
    return world.store
      .all("instance")
      .some(
        (one) =>
          one.state !== "terminated" &&
          one.tags["eks:nodegroup-name"] === group.name &&
          one.tags["eks:cluster-name"] === group.clusterName,
      );
  }

  async function readyInstances(group: Nodegroup): Promise<Set<string>> {
    const selector = encodeURIComponent(`eks.amazonaws.com/nodegroup=${group.name}`);
    const answer = await askApiServer(
      directoryOf(settings, group.clusterName),
      `/api/v1/nodes?labelSelector=${selector}`,
    ).catch(() => undefined);
    if (answer?.status !== 200) return new Set();
    const { items = [] } = JSON.parse(answer.body) as { items?: Node[] };
    const ready = items.filter((node) =>
      node.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
    );
    return new Set(ready.map(instanceOf));
  }
}

/** From `aws:///<zone>/<instance id>`. */
function instanceOf(node: Node): string {
  return node.spec.providerID?.split("/").at(-1) ?? "";
}
