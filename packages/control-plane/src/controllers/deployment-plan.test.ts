import assert from "node:assert/strict";
import { test } from "node:test";
import type { Deployment, ReplicaSet } from "@underlay/kube/objects";
import { planDeployment, type DeploymentStep } from "./deployment-plan.ts";
import { deploymentStatus } from "./deployment-status.ts";

const now = new Date("2026-01-01T00:00:00Z");
const template = (image: string) => ({
  metadata: { labels: { app: "web" } },
  spec: { containers: [{ name: "c", image }] },
});

function deployment(image: string, replicas: number, more: Partial<NonNullable<Deployment["spec"]>> = {}): Deployment {
  return {
    metadata: { name: "web", namespace: "shop", uid: "d", generation: 1, annotations: { note: "x" } },
    spec: {
      replicas,
      selector: { matchLabels: { app: "web" } },
      template: template(image),
      progressDeadlineSeconds: 600,
      ...more,
    },
  };
}

function set(
  image: string,
  sizes: { wanted: number; there?: number; available?: number; desired?: number; max?: number; revision?: number },
): ReplicaSet {
  const { wanted, there = wanted, available = there, desired = 4, max = 5, revision = image.length } = sizes;
  const labelled = template(image);
  return {
    metadata: {
      name: `web-${image}`,
      uid: image,
      creationTimestamp: `2026-01-01T00:00:0${revision}Z`,
      generation: 1,
      annotations: {
        note: "x",
        "deployment.kubernetes.io/revision": String(revision),
        "deployment.kubernetes.io/desired-replicas": String(desired),
        "deployment.kubernetes.io/max-replicas": String(max),
      },
    },
    spec: {
      replicas: wanted,
      selector: { matchLabels: { app: "web", "pod-template-hash": "h" } },
      template: { ...labelled, metadata: { labels: { app: "web", "pod-template-hash": "h" } } },
    },
    status: { replicas: there, readyReplicas: available, availableReplicas: available, observedGeneration: 1 },
  };
}

/** Steps as words: "new 1", "v 4>3", "-v". */
function words(steps: DeploymentStep[]): string[] {
  return steps.flatMap((step) => {
    switch (step.do) {
      case "create-set":
        return [`new ${step.set.spec?.replicas}`];
      case "update-set":
        return step.from === step.to ? [] : [`${step.set.metadata.name} ${step.from}>${step.to}`];
      case "delete-set":
        return [`-${step.set.metadata.name}`];
      case "annotate-deployment":
        return [];
    }
  });
}

const table: { what: string; of: Deployment; sets: ReplicaSet[]; oldPods?: boolean; steps: string[] }[] = [
  { what: "makes the first set whole", of: deployment("v", 4), sets: [], steps: ["new 4"] },
  {
    what: "starts a rollout with what surge allows",
    of: deployment("vv", 4),
    sets: [set("v", { wanted: 4 })],
    steps: ["new 1"],
  },
  {
    what: "takes one old pod away while the new one is not available",
    of: deployment("vv", 4),
    sets: [set("v", { wanted: 4 }), set("vv", { wanted: 1, available: 0 })],
    steps: ["web-v 4>3"],
  },
  {
    what: "grows the new set into the room",
    of: deployment("vv", 4),
    sets: [set("v", { wanted: 3 }), set("vv", { wanted: 1, available: 0 })],
    steps: ["web-vv 1>2"],
  },
  {
    what: "waits when neither availability nor surge leaves room",
    of: deployment("vv", 4),
    sets: [set("v", { wanted: 3 }), set("vv", { wanted: 2, available: 0 })],
    steps: [],
  },
  {
    what: "removes old pods that do not work anyway first",
    of: deployment("vvv", 4),
    sets: [set("v", { wanted: 3 }), set("vv", { wanted: 2, available: 0 }), set("vvv", { wanted: 0 })],
    steps: ["web-vv 2>0"],
  },
  {
    what: "takes an old template's set up again",
    of: deployment("v", 4),
    sets: [set("v", { wanted: 0 }), set("vv", { wanted: 4 })],
    steps: ["web-v 0>1"],
  },
  { what: "scales its one set", of: deployment("v", 7), sets: [set("v", { wanted: 4 })], steps: ["web-v 4>7"] },
  {
    what: "scales in proportion during a rollout",
    of: deployment("vv", 8),
    sets: [set("v", { wanted: 3 }), set("vv", { wanted: 2, available: 1 })],
    steps: ["web-v 3>6", "web-vv 2>4"],
  },
  { what: "scales to zero", of: deployment("v", 0), sets: [set("v", { wanted: 4 })], steps: ["web-v 4>0"] },
  {
    what: "recreates: old pods go first",
    of: deployment("vv", 4, { strategy: { type: "Recreate" } }),
    sets: [set("v", { wanted: 4, max: 4 })],
    steps: ["web-v 4>0"],
  },
  {
    what: "recreates: waits until they are gone",
    of: deployment("vv", 4, { strategy: { type: "Recreate" } }),
    sets: [set("v", { wanted: 0, there: 0, max: 4 })],
    oldPods: true,
    steps: [],
  },
  {
    what: "recreates: then the new set at once",
    of: deployment("vv", 4, { strategy: { type: "Recreate" } }),
    sets: [set("v", { wanted: 0, there: 0, max: 4 })],
    steps: ["new 4"],
  },
  {
    what: "does not roll out while paused",
    of: deployment("vv", 4, { paused: true }),
    sets: [set("v", { wanted: 4 })],
    steps: [],
  },
];

for (const { what, of, sets, oldPods = false, steps } of table) {
  test(`deployment ${what}`, () => {
    assert.deepEqual(words(planDeployment(of, sets, oldPods).steps), steps);
  });
}

test("a template differing in nulls, empty maps and the hash label is the same template", () => {
  const of = deployment("v", 4);
  of.spec!.template = JSON.parse(
    '{"metadata":{"creationTimestamp":null,"labels":{"app":"web"}},"spec":{"containers":[{"resources":{},"image":"v","name":"c"}]}}',
  );
  assert.equal(planDeployment(of, [set("v", { wanted: 4 })], false).newSet?.metadata.name, "web-v");
});

test("a complete deployment forgets old sets beyond its history, oldest revision first", () => {
  const of = deployment("vvvv", 4, { revisionHistoryLimit: 1 });
  of.status = { observedGeneration: 1, replicas: 4, updatedReplicas: 4, availableReplicas: 4 };
  const sets = [
    set("v", { wanted: 0 }),
    set("vv", { wanted: 0 }),
    set("vvv", { wanted: 0 }),
    set("vvvv", { wanted: 4 }),
  ];
  assert.deepEqual(words(planDeployment(of, sets, false).steps), ["-web-v", "-web-vv"]);
});

test("revision: the reused set gets the next number and remembers the old", () => {
  const of = deployment("v", 4);
  const plan = planDeployment(of, [set("v", { wanted: 0, revision: 1 }), set("vv", { wanted: 4, revision: 2 })], false);
  const update = plan.steps.find((step) => step.do === "update-set");
  assert.equal(update?.set.metadata.annotations?.["deployment.kubernetes.io/revision"], "3");
  assert.equal(update?.set.metadata.annotations?.["deployment.kubernetes.io/revision-history"], "1");
  assert.ok(plan.steps.some((step) => step.do === "annotate-deployment" && step.revision === "3"));
});

test("status: conditions move from created over updated to available, and fail at the deadline", () => {
  const of = deployment("v", 2);
  const reasonOf = (one: Deployment) =>
    one.status?.conditions?.find((condition) => condition.type === "Progressing")?.reason;
  const step = (sets: ReplicaSet[], at: Date) => {
    of.status = deploymentStatus(of, planDeployment(of, sets, false), at);
    return reasonOf(of);
  };
  const sized = { desired: 2, max: 3 };
  assert.equal(step([], now), "NewReplicaSetCreated");
  assert.equal(step([set("v", { wanted: 2, there: 2, available: 0, ...sized })], now), "ReplicaSetUpdated");
  assert.equal(of.status?.unavailableReplicas, 2);
  const late = new Date(now.getTime() + 601_000);
  assert.equal(step([set("v", { wanted: 2, there: 2, available: 0, ...sized })], late), "ProgressDeadlineExceeded");
  assert.equal(step([set("v", { wanted: 2, ...sized })], late), "NewReplicaSetAvailable");
  assert.equal(of.status?.conditions?.find((condition) => condition.type === "Available")?.status, "True");
  assert.equal(of.status?.unavailableReplicas, undefined);
});
