/** DaemonSet controller: observes nodes and daemon pods, applies planDaemonSet, writes the status. */
import {
  controllerOf,
  keyOf,
  type ControllerRevision,
  type DaemonSet,
  type Node,
  type Pod,
} from "@underlay/kube/objects";
import { isPodTerminating } from "@underlay/kube/pod";
import { controllerRevisions, daemonSets, nodes, pods } from "@underlay/kube/resources";
import { matchesLabelSelector } from "@underlay/kube/selectors";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { claimObjects } from "./claim.ts";
import { orphansOf, runQueue, type ControllerContext } from "./context.ts";
import { daemonPodSpec, daemonSetStatus, planDaemonSet, type DaemonSetPlan } from "./daemonset-plan.ts";
import { Expectations } from "./expectations.ts";
import { podFromTemplate, PodControl, slowStart } from "./pod-control.ts";
import { recheckAvailability } from "./replicaset.ts";
import {
  deleteRevisions,
  ensureRevision,
  hashOfRevision,
  planRevision,
  revisionHashLabel,
  surplusRevisions,
} from "./revisions.ts";
import { sameStatus } from "./status.ts";

const failedPodBackoff = { firstMs: 1_000, longestMs: 15 * 60_000 };

export async function runDaemonSetController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const sets = informers.of(daemonSets);
  const allNodes = informers.of(nodes);
  const allPods = informers.of(pods);
  const revisions = informers.of(controllerRevisions);
  const recorder = context.recorder("daemonset-controller");
  const control = new PodControl(client, recorder);
  const queue = new WorkQueue();
  const expectations = new Expectations();
  /** Per set and node: how often its pod failed lately. */
  const failures = new Map<string, { count: number; at: number }>();

  const setOf = (pod: Pod): string | undefined => {
    const owner = controllerOf(pod);
    return owner?.kind === "DaemonSet" ? `${pod.metadata.namespace}/${owner.name}` : undefined;
  };
  const addAll = () => {
    for (const set of sets.list()) queue.add(keyOf(set));
  };
  const onPod = (pod: Pod) => {
    const key = setOf(pod);
    if (key) return queue.add(key);
    if (controllerOf(pod)) return;
    for (const set of sets.byIndex("namespace", pod.metadata.namespace ?? "")) {
      if (matchesLabelSelector(set.spec?.selector, pod.metadata.labels)) queue.add(keyOf(set));
    }
  };
  const onGone = (pod: Pod) => {
    const key = setOf(pod);
    if (key) expectations.deleted(key, pod.metadata.uid ?? "");
    onPod(pod);
  };
  sets.on({
    add: (set) => queue.add(keyOf(set)),
    update: (_old, set) => queue.add(keyOf(set)),
    delete: (set) => queue.add(keyOf(set)),
  });
  allNodes.on({
    add: addAll,
    update: (old, node) => {
      if (placementFacts(old) !== placementFacts(node)) addAll();
    },
    delete: addAll,
  });
  allPods.on({
    add: (pod) => {
      const key = setOf(pod);
      if (key) expectations.created(key);
      if (isPodTerminating(pod)) onGone(pod);
      else onPod(pod);
    },
    update: (_old, pod) => (isPodTerminating(pod) ? onGone(pod) : onPod(pod)),
    delete: onGone,
  });

  const reconcile = async (key: string): Promise<Requeue> => {
    const set = sets.get(key);
    if (!set?.spec) {
      expectations.forget(key);
      return;
    }
    if (set.metadata.deletionTimestamp !== undefined) return;
    const history = await claimObjects(
      client,
      { object: set, of: daemonSets, selector: set.spec.selector },
      {
        of: controllerRevisions,
        candidates: [
          ...revisions.byIndex("controller", set.metadata.uid ?? ""),
          ...revisions.byIndex("controller", orphansOf(set.metadata.namespace ?? "")),
        ],
      },
    );
    const owner = {
      object: set,
      of: daemonSets,
      template: set.spec.template,
      collisionCount: set.status?.collisionCount ?? 0,
    };
    const ensured = await ensureRevision(client, planRevision(owner, history));
    if ("collision" in ensured) {
      const status = {
        ...daemonSetStatus(set, [], [], "", new Date()),
        ...set.status,
        collisionCount: owner.collisionCount + 1,
      };
      await client.updateStatus(daemonSets, { ...set, status });
      return;
    }
    const hash = hashOfRevision(ensured.current);
    const now = new Date();
    const knownNodes = allNodes.list();
    const mayAct = expectations.satisfied(key);
    const owned = await ownedPods(set);
    let retryMs: number | undefined;
    let failed: unknown;
    if (mayAct) {
      const plan = planDaemonSet(set, knownNodes, owned, hash, now);
      ({ retryMs, error: failed } = await apply(key, set, plan, hash));
      if (plan.create.length === 0 && plan.delete.length === 0) await cleanup(set, history, owned, hash);
    }
    const status = daemonSetStatus(set, knownNodes, owned, hash, now);
    if (!sameStatus(status, set.status)) await client.updateStatus(daemonSets, { ...set, status });
    if (failed) throw failed;
    if (retryMs !== undefined) return { requeueAfterMs: retryMs };
    return recheckAvailability(set.spec.minReadySeconds ?? 0, owned);
  };

  const ownedPods = (set: DaemonSet) => {
    const candidates = [
      ...allPods.byIndex("controller", set.metadata.uid ?? ""),
      ...allPods.byIndex("controller", orphansOf(set.metadata.namespace ?? "")),
    ];
    const selector = set.spec?.selector ?? {};
    return claimObjects(client, { object: set, of: daemonSets, selector }, { of: pods, candidates });
  };

  const apply = async (
    key: string,
    set: DaemonSet,
    plan: DaemonSetPlan,
    hash: string,
  ): Promise<{ retryMs: number | undefined; error: unknown }> => {
    let retryMs: number | undefined;
    const deletions = plan.delete.filter(({ pod, why }) => {
      if (why !== "failed") return true;
      const wait = failureWait(`${key}/${pod.spec?.nodeName}`);
      if (wait > 0) {
        retryMs = Math.min(retryMs ?? wait, wait);
        return false;
      }
      const { name, namespace } = pod.metadata;
      recorder.event(
        set,
        "Warning",
        "FailedDaemonPod",
        `Found failed daemon pod ${namespace}/${name} on node ${pod.spec?.nodeName}, will try to kill it`,
      );
      return true;
    });
    expectations.expect(key, {
      creations: plan.create.length,
      deletions: deletions.map(({ pod }) => pod.metadata.uid ?? ""),
    });
    let started = 0;
    const { error } = await slowStart(plan.create.length, async (i) => {
      started += 1;
      try {
        await control.create(set, daemonPod(set, plan.create[i] ?? "", hash));
      } catch (err) {
        expectations.created(key);
        throw err;
      }
    });
    for (let skipped = started; skipped < plan.create.length; skipped += 1) expectations.created(key);
    const results = await Promise.allSettled(
      deletions.map(async ({ pod }) => {
        try {
          await control.delete(set, pod);
        } catch (err) {
          expectations.deleted(key, pod.metadata.uid ?? "");
          throw err;
        }
      }),
    );
    return { retryMs, error: error ?? results.find((result) => result.status === "rejected")?.reason };
  };

  /** Zero when a failed pod of this node may be replaced again. */
  const failureWait = (key: string): number => {
    const now = performance.now();
    const last = failures.get(key);
    if (!last || now - last.at > 2 * failedPodBackoff.longestMs) {
      failures.set(key, { count: 1, at: now });
      return 0;
    }
    const wait = last.at + Math.min(failedPodBackoff.firstMs * 2 ** (last.count - 1), failedPodBackoff.longestMs) - now;
    if (wait <= 0) failures.set(key, { count: last.count + 1, at: now });
    return Math.max(0, wait);
  };

  const cleanup = async (
    set: DaemonSet,
    history: readonly ControllerRevision[],
    owned: readonly Pod[],
    hash: string,
  ) => {
    const inUse = new Set([hash, ...owned.map((pod) => pod.metadata.labels?.[revisionHashLabel] ?? "")]);
    await deleteRevisions(client, surplusRevisions(history, inUse, set.spec?.revisionHistoryLimit ?? 10));
  };

  await runQueue(context, "daemonset", queue, reconcile, 4);
}

function daemonPod(set: DaemonSet, node: string, hash: string): Pod {
  const template = set.spec?.template ?? {};
  const generation =
    set.metadata.annotations?.["deprecated.daemonset.template.generation"] ?? String(set.metadata.generation ?? 1);
  const pod = podFromTemplate({ object: set, of: daemonSets }, template, {
    labels: { [revisionHashLabel]: hash, "pod-template-generation": generation },
  });
  return template.spec ? { ...pod, spec: daemonPodSpec(template.spec, node) } : pod;
}

function placementFacts(node: Node): string {
  return JSON.stringify([node.metadata.labels, node.spec?.taints, node.spec?.unschedulable]);
}
