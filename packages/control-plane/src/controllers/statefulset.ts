/** StatefulSet controller: pods with names that stay, their claims, ordered updates through ControllerRevisions. */
import { isAlreadyExists } from "@underlay/kube/client";
import {
  controllerOf,
  keyOf,
  type ControllerRevision,
  type Pod,
  type PodTemplateSpec,
  type StatefulSet,
} from "@underlay/kube/objects";
import { controllerRevisions, persistentVolumeClaims, pods, statefulSets } from "@underlay/kube/resources";
import { isNotFound } from "@underlay/kube/client";
import { WorkQueue, type Requeue } from "@underlay/kube/workqueue";
import { claimObjects } from "./claim.ts";
import { orphansOf, runQueue, type ControllerContext } from "./context.ts";
import { podFromTemplate } from "./pod-control.ts";
import { recheckAvailability } from "./replicaset.ts";
import {
  deleteRevisions,
  ensureRevision,
  planRevision,
  revisionHashLabel,
  surplusRevisions,
  templateOf,
} from "./revisions.ts";
import { ordinalOf, planStatefulSet, podName, statefulSetStatus, type StatefulSetStep } from "./statefulset-plan.ts";
import { sameStatus } from "./status.ts";

export async function runStatefulSetController(context: ControllerContext): Promise<void> {
  const { client, informers } = context;
  const sets = informers.of(statefulSets);
  const allPods = informers.of(pods);
  const revisions = informers.of(controllerRevisions);
  const claims = informers.of(persistentVolumeClaims);
  const recorder = context.recorder("statefulset-controller");
  const queue = new WorkQueue();
  /** Uids whose deletion was asked for and is not in the cache yet. */
  const deleting = new Set<string>();

  const onPod = (pod: Pod) => {
    const owner = controllerOf(pod);
    if (owner?.kind === "StatefulSet") queue.add(`${pod.metadata.namespace}/${owner.name}`);
  };
  sets.on({
    add: (set) => queue.add(keyOf(set)),
    update: (_old, set) => queue.add(keyOf(set)),
    delete: (set) => queue.add(keyOf(set)),
  });
  allPods.on({
    add: onPod,
    update: (_old, pod) => onPod(pod),
    delete: (pod) => {
      deleting.delete(pod.metadata.uid ?? "");
      onPod(pod);
    },
  });

  const reconcile = async (key: string): Promise<Requeue> => {
    const set = sets.get(key);
    if (!set?.spec || set.metadata.deletionTimestamp !== undefined) return;
    const owner = { object: set, of: statefulSets, selector: set.spec.selector };
    const candidates = <T>(informer: { byIndex(index: string, value: string): T[] }) => [
      ...informer.byIndex("controller", set.metadata.uid ?? ""),
      ...informer.byIndex("controller", orphansOf(set.metadata.namespace ?? "")),
    ];
    const history = await claimObjects(client, owner, { of: controllerRevisions, candidates: candidates(revisions) });
    const revisionOwner = {
      object: set,
      of: statefulSets,
      template: set.spec.template,
      collisionCount: set.status?.collisionCount ?? 0,
    };
    const ensured = await ensureRevision(client, planRevision(revisionOwner, history));
    if ("collision" in ensured) {
      await client.updateStatus(statefulSets, {
        ...set,
        status: { replicas: 0, ...set.status, collisionCount: revisionOwner.collisionCount + 1 },
      });
      return;
    }
    const update = ensured.current;
    const current = history.find((revision) => revision.metadata.name === set.status?.currentRevision) ?? update;
    const names = { current: current.metadata.name ?? "", update: update.metadata.name ?? "" };
    const named = (pod: Pod) => (pod.metadata.name ?? "").startsWith(`${set.metadata.name}-`);
    const claimed = await claimObjects(client, owner, { of: pods, candidates: candidates(allPods).filter(named) });
    const owned = claimed.filter((pod) => ordinalOf(set, pod) >= 0);
    const now = new Date();
    const steps = planStatefulSet(set, owned, names, now);
    let failure: unknown;
    for (const step of steps) {
      try {
        await apply(set, step, step.do === "create" && step.revision === names.current ? current : update);
      } catch (err) {
        failure ??= err;
      }
    }
    const status = statefulSetStatus(set, owned, names, now);
    if (!sameStatus(status, set.status)) await client.updateStatus(statefulSets, { ...set, status });
    if (failure) throw failure;
    if (steps.length === 0) {
      const inUse = new Set([
        names.current,
        names.update,
        ...owned.map((pod) => pod.metadata.labels?.[revisionHashLabel] ?? ""),
      ]);
      await deleteRevisions(client, surplusRevisions(history, inUse, set.spec.revisionHistoryLimit ?? 10));
    }
    return recheckAvailability(set.spec.minReadySeconds ?? 0, owned);
  };

  const apply = async (set: StatefulSet, step: StatefulSetStep, revision: ControllerRevision) => {
    if (step.do === "create") {
      const name = podName(set, step.ordinal);
      const pod = statefulPod(
        set,
        step.ordinal,
        templateOf(revision) ?? set.spec?.template ?? {},
        revision.metadata.name ?? "",
      );
      try {
        await ensureClaims(set, name);
        await client.create(pods, pod);
        recorder.event(
          set,
          "Normal",
          "SuccessfulCreate",
          `create Pod ${name} in StatefulSet ${set.metadata.name} successful`,
        );
      } catch (err) {
        // Made in the last round; the cache is a moment behind.
        if (isAlreadyExists(err)) return;
        recorder.event(
          set,
          "Warning",
          "FailedCreate",
          `create Pod ${name} in StatefulSet ${set.metadata.name} failed error: ${(err as Error).message}`,
        );
        throw err;
      }
      return;
    }
    const { name = "", namespace, uid = "" } = step.pod.metadata;
    if (deleting.has(uid)) return;
    deleting.add(uid);
    if (step.why === "failed") {
      recorder.event(
        set,
        "Warning",
        "RecreatingFailedPod",
        `StatefulSet ${namespace}/${set.metadata.name} is recreating failed Pod ${name}`,
      );
    }
    try {
      await client.delete(pods, name, { namespace, preconditions: { uid } });
      recorder.event(
        set,
        "Normal",
        "SuccessfulDelete",
        `delete Pod ${name} in StatefulSet ${set.metadata.name} successful`,
      );
    } catch (err) {
      deleting.delete(uid);
      if (!isNotFound(err)) throw err;
    }
  };

  /** One claim a template and pod; they outlive the pod. */
  const ensureClaims = async (set: StatefulSet, pod: string) => {
    const namespace = set.metadata.namespace ?? "";
    for (const template of set.spec?.volumeClaimTemplates ?? []) {
      const name = `${template.metadata?.name}-${pod}`;
      if (claims.get(`${namespace}/${name}`)) continue;
      const labels = { ...template.metadata?.labels, ...set.spec?.selector.matchLabels };
      try {
        await client.create(persistentVolumeClaims, {
          metadata: { ...template.metadata, name, namespace, labels },
          spec: template.spec,
        });
        recorder.event(
          set,
          "Normal",
          "SuccessfulCreate",
          `create Claim ${name} Pod ${pod} in StatefulSet ${set.metadata.name} success`,
        );
      } catch (err) {
        if (!isAlreadyExists(err)) throw err;
      }
    }
  };

  await runQueue(context, "statefulset", queue, reconcile, 4);
}

function statefulPod(set: StatefulSet, ordinal: number, template: PodTemplateSpec, revision: string): Pod {
  const name = podName(set, ordinal);
  const labels = {
    "statefulset.kubernetes.io/pod-name": name,
    "apps.kubernetes.io/pod-index": String(ordinal),
    [revisionHashLabel]: revision,
  };
  const pod = podFromTemplate({ object: set, of: statefulSets }, template, { name, labels });
  if (!pod.spec) return pod;
  const claimed = (set.spec?.volumeClaimTemplates ?? []).map((claim) => ({
    name: claim.metadata?.name ?? "",
    persistentVolumeClaim: { claimName: `${claim.metadata?.name}-${name}` },
  }));
  const others = (pod.spec.volumes ?? []).filter((volume) => !claimed.some((one) => one.name === volume.name));
  const subdomain = set.spec?.serviceName;
  pod.spec = { ...pod.spec, hostname: name, ...(subdomain ? { subdomain } : {}), volumes: [...others, ...claimed] };
  return pod;
}
