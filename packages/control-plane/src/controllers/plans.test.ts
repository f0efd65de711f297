import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  CertificateSigningRequest,
  DaemonSet,
  EndpointSlice,
  Job,
  KubeObject,
  Node,
  Pod,
  PodDisruptionBudget,
  Service,
  StatefulSet,
} from "@underlay/kube/objects";
import { planClaim } from "./claim.ts";
import { decideRequest } from "./csr.ts";
import { daemonSetStatus, planDaemonSet } from "./daemonset-plan.ts";
import { budgetStatus } from "./disruption.ts";
import { desiredEndpoints } from "./endpoints-plan.ts";
import { planEndpointSlices } from "./endpointslice-plan.ts";
import { Expectations } from "./expectations.ts";
import { planGarbage, type OwnerState } from "./garbage-plan.ts";
import { formatIndexes, parseIndexes, planJob, trackingFinalizer } from "./job-plan.ts";
import { planTaints, silentConditions } from "./node-lifecycle-plan.ts";
import { deletionOrder } from "./pod-deletion-order.ts";
import { planReplicaSet } from "./replicaset.ts";
import { planRevision } from "./revisions.ts";
import { planStatefulSet, statefulSetStatus } from "./statefulset-plan.ts";
import { leavesInMs } from "./taint-eviction.ts";
import { daemonSets } from "@underlay/kube/resources";

const now = new Date("2026-01-01T01:00:00Z");
const before = (seconds: number) => new Date(now.getTime() - seconds * 1000).toISOString();

type PodShape = {
  node?: string;
  ready?: boolean;
  phase?: string;
  going?: boolean;
  labels?: Record<string, string>;
  age?: number;
  ip?: string;
  owner?: string;
};

function pod(name: string, shape: PodShape = {}): Pod {
  const { node, ready = true, phase = "Running", going, labels, age = 60, ip, owner } = shape;
  return {
    metadata: {
      name,
      namespace: "shop",
      uid: name,
      labels: labels ?? {},
      creationTimestamp: before(age),
      ...(going ? { deletionTimestamp: before(1) } : {}),
      ...(owner
        ? { ownerReferences: [{ apiVersion: "v1", kind: "X", name: owner, uid: owner, controller: true }] }
        : {}),
    },
    spec: {
      containers: [{ name: "c", ports: [{ name: "http", containerPort: name === "odd" ? 9090 : 8080 }] }],
      ...(node ? { nodeName: node } : {}),
    },
    status: {
      phase,
      conditions: [{ type: "Ready", status: ready ? "True" : "False", lastTransitionTime: before(age) }],
      ...(ip ? { podIP: ip } : {}),
    },
  };
}

const names = (objects: readonly KubeObject[]) => objects.map((object) => object.metadata.name);

test("claim: owned, adopted and released by selector; nothing is adopted by an owner on its way out", () => {
  const owner: KubeObject = { metadata: { name: "o", uid: "o" } };
  const selector = { matchLabels: { a: "1" } };
  const candidates = [
    pod("mine", { owner: "o", labels: { a: "1" } }),
    pod("stray", { owner: "o" }),
    pod("orphan", { labels: { a: "1" } }),
    pod("theirs", { owner: "x", labels: { a: "1" } }),
    pod("dying", { labels: { a: "1" }, going: true }),
  ];
  const claim = planClaim(owner, selector, candidates);
  assert.deepEqual([names(claim.owned), names(claim.adopt), names(claim.release)], [["mine"], ["orphan"], ["stray"]]);
  const leaving = planClaim({ metadata: { ...owner.metadata, deletionTimestamp: before(1) } }, selector, candidates);
  assert.deepEqual([names(leaving.owned), names(leaving.adopt), names(leaving.release)], [["mine"], [], []]);
});

test("replica set: creates what is missing, deletes in upstream's order", () => {
  const set = (replicas: number) => ({ metadata: { name: "s" }, spec: { replicas, selector: {}, template: {} } });
  assert.deepEqual(planReplicaSet(set(3), [pod("a")], now), { create: 2, delete: [] });
  const pods = [
    pod("ready-crowded", { node: "n1", age: 100 }),
    pod("ready-crowded-young", { node: "n1", age: 10 }),
    pod("ready-alone", { node: "n2", age: 100 }),
    pod("unready", { node: "n3", ready: false }),
    pod("pending", { node: "n3", ready: false, phase: "Pending" }),
    pod("unassigned", { ready: false, phase: "Pending" }),
  ];
  assert.deepEqual(names(deletionOrder(pods, now)), [
    "unassigned",
    "pending",
    "unready",
    "ready-crowded-young",
    "ready-crowded",
    "ready-alone",
  ]);
  assert.deepEqual(names(planReplicaSet(set(4), pods, now).delete), ["unassigned", "pending"]);
});

test("expectations hold a controller back until its cache shows what it did", () => {
  let time = 0;
  const expectations = new Expectations(() => time);
  assert.equal(expectations.satisfied("k"), true);
  expectations.expect("k", { creations: 2, deletions: ["u"] });
  expectations.created("k");
  expectations.deleted("k", "u");
  assert.equal(expectations.satisfied("k"), false);
  expectations.created("k");
  assert.equal(expectations.satisfied("k"), true);
  expectations.expect("k", { deletions: ["never-seen"] });
  time = 300_001;
  assert.equal(expectations.satisfied("k"), true);
});

const node = (
  name: string,
  more: { taints?: NonNullable<Node["spec"]>["taints"]; labels?: Record<string, string> } = {},
): Node => ({
  metadata: { name, labels: { "topology.kubernetes.io/zone": `z-${name}`, ...more.labels } },
  spec: { taints: more.taints },
});

const daemon = (more: Partial<NonNullable<DaemonSet["spec"]>> = {}): DaemonSet => ({
  metadata: { name: "aws-node", uid: "ds", generation: 2 },
  spec: {
    selector: { matchLabels: { k: "v" } },
    template: { spec: { containers: [] } },
    updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } },
    ...more,
  },
});
const at = (name: string, hash: string, shape: PodShape = {}) =>
  pod(`p-${name}`, { node: name, labels: { "controller-revision-hash": hash }, ...shape });

const daemonTable: { what: string; set: DaemonSet; nodes: Node[]; pods: Pod[]; create: string[]; delete: string[] }[] =
  [
    {
      what: "runs on every node",
      set: daemon(),
      nodes: [node("a"), node("b")],
      pods: [at("a", "h")],
      create: ["b"],
      delete: [],
    },
    {
      what: "goes where only automatic tolerations let it, not past others",
      set: daemon(),
      nodes: [
        node("a", { taints: [{ key: "node.kubernetes.io/not-ready", effect: "NoExecute" }] }),
        node("b", { taints: [{ key: "x", effect: "NoSchedule" }] }),
      ],
      pods: [],
      create: ["a"],
      delete: [],
    },
    {
      what: "stays under a NoSchedule taint, leaves under NoExecute and where the selector no longer matches",
      set: daemon({ template: { spec: { containers: [], nodeSelector: { on: "1" } } } }),
      nodes: [
        node("a", { labels: { on: "1" }, taints: [{ key: "x", effect: "NoSchedule" }] }),
        node("b", { labels: { on: "1" }, taints: [{ key: "x", effect: "NoExecute" }] }),
        node("c"),
      ],
      pods: [at("a", "h"), at("b", "h"), at("c", "h")],
      create: [],
      delete: ["p-b misplaced", "p-c misplaced"],
    },
    {
      what: "replaces a failed pod",
      set: daemon(),
      nodes: [node("a")],
      pods: [at("a", "h", { phase: "Failed", ready: false })],
      create: [],
      delete: ["p-a failed"],
    },
    {
      what: "updates one node at a time",
      set: daemon(),
      nodes: [node("a"), node("b"), node("c")],
      pods: [at("a", "old"), at("b", "old"), at("c", "old")],
      create: [],
      delete: ["p-a update"],
    },
    {
      what: "waits while one is missing, but replaces old ones that do not work",
      set: daemon(),
      nodes: [node("a"), node("b"), node("c")],
      pods: [at("a", "h", { ready: false }), at("b", "old"), at("c", "old", { ready: false })],
      create: [],
      delete: ["p-c update"],
    },
    {
      what: "surges before it deletes when asked to",
      set: daemon({ updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } }),
      nodes: [node("a"), node("b")],
      pods: [at("a", "old"), at("b", "old")],
      create: ["a"],
      delete: [],
    },
    {
      what: "leaves updates to the user with OnDelete",
      set: daemon({ updateStrategy: { type: "OnDelete" } }),
      nodes: [node("a")],
      pods: [at("a", "old")],
      create: [],
      delete: [],
    },
  ];
for (const { what, set, nodes, pods, create, delete: deleted } of daemonTable) {
  test(`daemon set ${what}`, () => {
    const plan = planDaemonSet(set, nodes, pods, "h", now);
    assert.deepEqual(plan.create, create);
    assert.deepEqual(
      plan.delete.map((one) => `${one.pod.metadata.name} ${one.why}`),
      deleted,
    );
  });
}

test("daemon set status counts what kubectl rollout status reads", () => {
  const status = daemonSetStatus(
    daemon(),
    [node("a"), node("b"), node("c")],
    [at("a", "h"), at("b", "old"), at("c", "old", { going: true, ready: false })],
    "h",
    now,
  );
  assert.deepEqual(status, {
    currentNumberScheduled: 3,
    desiredNumberScheduled: 3,
    numberMisscheduled: 0,
    numberReady: 2,
    updatedNumberScheduled: 1,
    numberAvailable: 2,
    numberUnavailable: 1,
    observedGeneration: 2,
  });
});

const stateful = (replicas: number, more: Partial<NonNullable<StatefulSet["spec"]>> = {}): StatefulSet => ({
  metadata: { name: "db", uid: "db", generation: 1 },
  spec: {
    replicas,
    serviceName: "db",
    selector: {},
    template: {},
    updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 0 } },
    ...more,
  },
});
const db = (ordinal: number, revision: string, shape: PodShape = {}) =>
  pod(`db-${ordinal}`, { owner: "db", node: "n", labels: { "controller-revision-hash": revision }, ...shape });

const statefulTable: { what: string; set: StatefulSet; pods: Pod[]; steps: string[] }[] = [
  { what: "creates one at a time", set: stateful(3), pods: [], steps: ["+0 new"] },
  { what: "waits for the predecessor", set: stateful(3), pods: [db(0, "new", { ready: false })], steps: [] },
  { what: "goes on when it is ready", set: stateful(3), pods: [db(0, "new")], steps: ["+1 new"] },
  {
    what: "creates all at once when Parallel",
    set: stateful(3, { podManagementPolicy: "Parallel" }),
    pods: [],
    steps: ["+0 new", "+1 new", "+2 new"],
  },
  {
    what: "scales down from the top",
    set: stateful(1),
    pods: [db(0, "new"), db(1, "new"), db(2, "new")],
    steps: ["-2 scale-down"],
  },
  {
    what: "waits for the one that goes",
    set: stateful(1),
    pods: [db(0, "new"), db(1, "new"), db(2, "new", { going: true })],
    steps: [],
  },
  {
    what: "updates from the top",
    set: stateful(3),
    pods: [db(0, "old"), db(1, "old"), db(2, "old")],
    steps: ["-2 update"],
  },
  {
    what: "waits for the updated one",
    set: stateful(3),
    pods: [db(0, "old"), db(1, "old"), db(2, "new", { ready: false })],
    steps: [],
  },
  {
    what: "updates the next",
    set: stateful(3),
    pods: [db(0, "old"), db(1, "old"), db(2, "new")],
    steps: ["-1 update"],
  },
  {
    what: "stops at the partition and makes lower pods as they were",
    set: stateful(3, { updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 2 } } }),
    pods: [db(1, "old"), db(2, "old")],
    steps: ["+0 old"],
  },
  {
    what: "replaces a failed pod",
    set: stateful(1),
    pods: [db(0, "new", { phase: "Failed", ready: false })],
    steps: ["-0 failed"],
  },
];
for (const { what, set, pods, steps } of statefulTable) {
  test(`stateful set ${what}`, () => {
    const plan = planStatefulSet(set, pods, { current: "old", update: "new" }, now);
    assert.deepEqual(
      plan.map((step) =>
        step.do === "create"
          ? `+${step.ordinal} ${step.revision}`
          : `${step.pod.metadata.name?.replace("db", "")} ${step.why}`,
      ),
      steps,
    );
  });
}

test("stateful set status: the update revision becomes current when all are", () => {
  const revisions = { current: "old", update: "new" };
  assert.deepEqual(statefulSetStatus(stateful(2), [db(0, "old"), db(1, "new")], revisions, now), {
    observedGeneration: 1,
    replicas: 2,
    readyReplicas: 2,
    availableReplicas: 2,
    currentReplicas: 1,
    updatedReplicas: 1,
    currentRevision: "old",
    updateRevision: "new",
    collisionCount: 0,
  });
  assert.equal(statefulSetStatus(stateful(2), [db(0, "new"), db(1, "new")], revisions, now).currentRevision, "new");
});

test("revisions: a template used before takes its revision up again", () => {
  const template = (image: string) => ({
    metadata: { labels: { k: "v" } },
    spec: { containers: [{ name: "c", image }] },
  });
  const plan = (image: string, history: Parameters<typeof planRevision>[1]) =>
    planRevision({ object: daemon(), of: daemonSets, template: template(image), collisionCount: 0 }, history);
  const first = plan("v1", []).create!;
  assert.equal(first.revision, 1);
  assert.match(first.metadata.name ?? "", /^aws-node-[a-z0-9]+$/);
  const second = plan("v2", [first]).create!;
  assert.equal(second.revision, 2);
  const back = plan("v1", [first, second]);
  assert.equal(back.create, undefined);
  assert.deepEqual([back.raise?.metadata.name, back.raise?.revision], [first.metadata.name, 3]);
});

const service = (more: Partial<NonNullable<Service["spec"]>> = {}): Service => ({
  metadata: { name: "web", namespace: "shop", uid: "svc", labels: { team: "x" } },
  spec: {
    selector: { app: "web" },
    ipFamilies: ["IPv4"],
    clusterIP: "172.20.0.9",
    ports: [{ name: "http", port: 80, targetPort: "http", protocol: "TCP" }],
    ...more,
  },
});

test("endpoint slices: ports resolve per pod, conditions follow readiness and termination, terminal pods are left out", () => {
  const pods = [
    pod("a", { ip: "10.0.0.1", node: "n1" }),
    pod("b", { ip: "10.0.0.2", node: "n2", ready: false }),
    pod("c", { ip: "10.0.0.3", node: "n1", going: true }),
    pod("odd", { ip: "10.0.0.4", node: "n1" }),
    pod("over", { ip: "10.0.0.5", phase: "Succeeded" }),
    pod("starting"),
  ];
  const plan = planEndpointSlices(service(), pods, [], (name) => node(name));
  const shown = plan.create.map((slice) => ({
    port: slice.ports?.map((port) => `${port.name}:${port.port}`).join(),
    endpoints: slice.endpoints?.map(
      (one) =>
        `${one.addresses[0]} ${one.zone} ${one.conditions?.ready}/${one.conditions?.serving}/${one.conditions?.terminating}`,
    ),
  }));
  assert.deepEqual(shown, [
    {
      port: "http:8080",
      endpoints: ["10.0.0.1 z-n1 true/true/false", "10.0.0.2 z-n2 false/false/false", "10.0.0.3 z-n1 false/true/true"],
    },
    { port: "http:9090", endpoints: ["10.0.0.4 z-n1 true/true/false"] },
  ]);
  assert.deepEqual(plan.create[0]?.metadata.labels, {
    team: "x",
    "kubernetes.io/service-name": "web",
    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
  });
  const [subset] = desiredEndpoints(service(), pods.slice(0, 3)).subsets ?? [];
  assert.deepEqual(
    [subset?.addresses?.map(({ ip }) => ip), subset?.notReadyAddresses?.map(({ ip }) => ip), subset?.ports?.[0]?.port],
    [["10.0.0.1"], ["10.0.0.2"], 8080],
  );
});

test("endpoint slices: a second look changes nothing, and a change stays in its slice", () => {
  const pods = Array.from({ length: 120 }, (_, i) => pod(`p${i}`, { ip: `10.0.1.${i}` }));
  const first = planEndpointSlices(service(), pods, [], () => undefined).create;
  assert.deepEqual(
    first.map((slice) => slice.endpoints?.length),
    [100, 20],
  );
  const stored: EndpointSlice[] = first.map((slice, i) => ({
    ...slice,
    metadata: { ...slice.metadata, name: `web-${i}` },
  }));
  assert.deepEqual(
    planEndpointSlices(service(), pods, stored, () => undefined),
    { create: [], update: [], delete: [] },
  );
  const changed = planEndpointSlices(
    service(),
    [...pods.slice(1), pod("new", { ip: "10.0.2.1" })],
    stored,
    () => undefined,
  );
  assert.deepEqual(
    changed.update.map((slice) => [slice.metadata.name, slice.endpoints?.length]),
    [["web-0", 100]],
  );
  assert.deepEqual([changed.create.length, changed.delete.length], [0, 0]);
  const empty = planEndpointSlices(service(), [], stored, () => undefined);
  assert.deepEqual([empty.create.map((slice) => slice.endpoints), names(empty.delete)], [[[]], ["web-0", "web-1"]]);
});

test("endpoint slices: unready addresses can be published, hosts named, zones preferred", () => {
  const named = { ...pod("a", { ip: "10.0.0.1", node: "n1", ready: false }) };
  named.spec = { ...named.spec!, hostname: "a", subdomain: "web" };
  const [slice] = planEndpointSlices(
    service({ publishNotReadyAddresses: true, trafficDistribution: "PreferClose" }),
    [named],
    [],
    (name) => node(name),
  ).create;
  const [endpoint] = slice?.endpoints ?? [];
  assert.deepEqual(
    [endpoint?.conditions?.ready, endpoint?.hostname, endpoint?.hints],
    [true, "a", { forZones: [{ name: "z-n1" }] }],
  );
});

const garbageTable: {
  what: string;
  object: Partial<KubeObject["metadata"]>;
  owners: OwnerState[];
  dependents?: Partial<KubeObject["metadata"]>[];
  plan: unknown;
}[] = [
  { what: "keeps what an owner holds", object: {}, owners: ["solid"], plan: { do: "nothing" } },
  {
    what: "deletes what lost its owner",
    object: {},
    owners: ["absent"],
    plan: { do: "delete", propagationPolicy: "Background" },
  },
  {
    what: "releases what one of two owners holds",
    object: {},
    owners: ["absent", "solid"],
    plan: { do: "release", uids: ["o0"] },
  },
  {
    what: "deletes in the foreground below a waiting owner",
    object: {},
    owners: ["waiting"],
    dependents: [{ uid: "x" }],
    plan: { do: "delete", propagationPolicy: "Foreground" },
  },
  { what: "leaves the deleted alone", object: { deletionTimestamp: "t" }, owners: ["absent"], plan: { do: "nothing" } },
  {
    what: "ends a foreground deletion without blockers",
    object: { deletionTimestamp: "t", finalizers: ["foregroundDeletion"] },
    owners: [],
    dependents: [{ uid: "x" }],
    plan: { do: "remove-finalizer", finalizer: "foregroundDeletion" },
  },
  {
    what: "ends an orphan deletion without dependents",
    object: { deletionTimestamp: "t", finalizers: ["orphan"] },
    owners: [],
    plan: { do: "remove-finalizer", finalizer: "orphan" },
  },
];
for (const { what, object, owners, dependents = [], plan } of garbageTable) {
  test(`garbage collector ${what}`, () => {
    const ownerReferences = owners.map((_, i) => ({ apiVersion: "v1", kind: "X", name: "o", uid: `o${i}` }));
    const metadata = { name: "x", uid: "me", ...(owners.length > 0 ? { ownerReferences } : {}), ...object };
    assert.deepEqual(
      planGarbage(
        { metadata },
        (owner) => owners[Number(owner.uid.slice(1))] ?? "solid",
        dependents.map((one) => ({ metadata: one })),
      ),
      plan,
    );
  });
}

test("garbage collector waits for blocking dependents and orphans when asked", () => {
  const block = {
    metadata: {
      uid: "d",
      ownerReferences: [{ apiVersion: "v1", kind: "X", name: "x", uid: "me", blockOwnerDeletion: true }],
    },
  };
  const going = { metadata: { ...block.metadata, deletionTimestamp: "t" } };
  const owner = (finalizer: string) => ({
    metadata: { name: "x", uid: "me", deletionTimestamp: "t", finalizers: [finalizer] },
  });
  assert.deepEqual(
    planGarbage(owner("foregroundDeletion"), () => "solid", [block]),
    { do: "delete-dependents", dependents: [block] },
  );
  assert.deepEqual(
    planGarbage(owner("foregroundDeletion"), () => "solid", [going]),
    { do: "nothing" },
  );
  assert.deepEqual(
    planGarbage(owner("orphan"), () => "solid", [block]),
    { do: "orphan-dependents", dependents: [block] },
  );
});

test("taints follow conditions; foreign taints and the times of ours stay", () => {
  const foreign = { key: "mine", effect: "NoSchedule" };
  const make = (status: string | undefined, taints: NonNullable<Node["spec"]>["taints"]): Node => ({
    metadata: { name: "n" },
    spec: { taints },
    status: status ? { conditions: [{ type: "Ready", status }] } : {},
  });
  const admitted = { key: "node.kubernetes.io/not-ready", effect: "NoSchedule" };
  assert.equal(planTaints(make(undefined, [admitted]), now, true), undefined);
  assert.deepEqual(planTaints(make("True", [foreign, admitted]), now, true), [foreign]);
  const unreachable = { key: "node.kubernetes.io/unreachable", timeAdded: "2026-01-01T01:00:00Z" };
  assert.deepEqual(planTaints(make("Unknown", [foreign]), now, true), [
    foreign,
    { ...unreachable, effect: "NoSchedule" },
    { ...unreachable, effect: "NoExecute" },
  ]);
  assert.equal(
    planTaints(
      make("Unknown", [
        { ...unreachable, effect: "NoSchedule", timeAdded: "earlier" },
        { ...unreachable, effect: "NoExecute" },
      ]),
      now,
      true,
    ),
    undefined,
  );
});

test("a silent node's conditions become unknown once", () => {
  const silent: Node = {
    metadata: { name: "n" },
    status: { conditions: [{ type: "Ready", status: "True", reason: "KubeletReady" }] },
  };
  const conditions = silentConditions(silent, now) ?? [];
  assert.deepEqual(
    conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`),
    [
      "Ready Unknown NodeStatusUnknown",
      "MemoryPressure Unknown NodeStatusNeverUpdated",
      "DiskPressure Unknown NodeStatusNeverUpdated",
      "PIDPressure Unknown NodeStatusNeverUpdated",
    ],
  );
  assert.equal(silentConditions({ ...silent, status: { conditions } }, now), undefined);
});

test("pods leave a tainted node at once, after their toleration's time, or never", () => {
  const tainted = node("n", { taints: [{ key: "k", effect: "NoExecute", timeAdded: before(100) }] });
  const tolerating = (tolerationSeconds?: number): Pod => ({
    metadata: { name: "p" },
    spec: {
      containers: [],
      tolerations: [
        {
          key: "k",
          operator: "Exists",
          effect: "NoExecute",
          ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }),
        },
      ],
    },
  });
  assert.equal(leavesInMs(pod("p"), tainted, now), 0);
  assert.equal(leavesInMs(tolerating(300), tainted, now), 200_000);
  assert.equal(leavesInMs(tolerating(50), tainted, now), 0);
  assert.equal(leavesInMs(tolerating(), tainted, now), Number.POSITIVE_INFINITY);
  assert.equal(leavesInMs(pod("p"), node("n"), now), Number.POSITIVE_INFINITY);
});

test("job: runs to its completions, backs off after failures, fails at its limit", () => {
  const job = (more: Partial<NonNullable<Job["spec"]>> = {}, status: Job["status"] = {}): Job => ({
    metadata: { name: "j" },
    spec: { completions: 3, parallelism: 2, backoffLimit: 1, template: {}, ...more },
    status,
  });
  const ended = (name: string, phase: string, age = 1): Pod => {
    const one = pod(name, { phase, ready: false, age });
    return { ...one, metadata: { ...one.metadata, finalizers: [trackingFinalizer] } };
  };
  assert.equal(planJob(job(), [], now).create.length, 2);
  const counted = planJob(job(), [ended("a", "Succeeded"), pod("b")], now);
  assert.deepEqual([counted.create.length, counted.status.succeeded, names(counted.release)], [1, 1, ["a"]]);
  const last = planJob(job({}, { succeeded: 2 }), [ended("c", "Succeeded")], now);
  assert.deepEqual(
    [last.finished?.type, last.status.conditions?.map(({ type }) => type)],
    ["Complete", ["SuccessCriteriaMet", "Complete"]],
  );
  const failing = planJob(job(), [ended("a", "Failed")], now);
  assert.deepEqual([failing.create.length, failing.waitMs], [0, 9_000]);
  const over = planJob(job({}, { failed: 1 }), [ended("b", "Failed"), pod("c")], now);
  assert.deepEqual([over.finished?.reason, names(over.delete)], ["BackoffLimitExceeded", ["c"]]);
  assert.deepEqual(names(planJob(job({ suspend: true }), [pod("a")], now).delete), ["a"]);
  assert.deepEqual(
    planJob(job({ completionMode: "Indexed" }, { completedIndexes: "0", succeeded: 1 }), [], now).create,
    [1, 2],
  );
  assert.equal(formatIndexes([0, 1, 2, 5, 7, 8]), "0-2,5,7,8");
  assert.deepEqual(parseIndexes("0-2,5"), [0, 1, 2, 5]);
});

test("disruption budget: how many may go", () => {
  const budget = (spec: NonNullable<PodDisruptionBudget["spec"]>): PodDisruptionBudget => ({
    metadata: { name: "b", generation: 1 },
    spec,
  });
  const pods = [pod("a"), pod("b"), pod("c", { ready: false })];
  const numbers = (of: PodDisruptionBudget, expected: number) => {
    const { currentHealthy, desiredHealthy, disruptionsAllowed, expectedPods } = budgetStatus(of, pods, expected, now);
    return [currentHealthy, desiredHealthy, disruptionsAllowed, expectedPods];
  };
  assert.deepEqual(numbers(budget({ minAvailable: 1 }), 3), [2, 1, 1, 3]);
  assert.deepEqual(numbers(budget({ minAvailable: "50%" }), 3), [2, 2, 0, 3]);
  assert.deepEqual(numbers(budget({ maxUnavailable: 1 }), 3), [2, 2, 0, 3]);
  const evicted = {
    ...budget({ minAvailable: 1 }),
    status: {
      currentHealthy: 0,
      desiredHealthy: 0,
      disruptionsAllowed: 0,
      expectedPods: 0,
      disruptedPods: { a: before(5) },
    },
  };
  assert.deepEqual(numbers(evicted as unknown as PodDisruptionBudget, 3), [1, 1, 0, 3]);
});

test("certificate requests: a node's own are approved, approved ones signed, others wait", () => {
  const request = (
    spec: Partial<CertificateSigningRequest["spec"]>,
    conditions: { type: string; status: string }[] = [],
  ): CertificateSigningRequest => ({
    metadata: { name: "r", creationTimestamp: before(10) },
    spec: {
      request: "",
      signerName: "kubernetes.io/kubelet-serving",
      username: "system:node:n1",
      groups: ["system:nodes"],
      ...spec,
    },
    status: { conditions },
  });
  assert.equal(decideRequest(request({}), now).do, "approve");
  assert.equal(decideRequest(request({ username: "mallory", groups: [] }), now).do, "wait");
  assert.deepEqual(decideRequest(request({}, [{ type: "Approved", status: "True" }]), now), {
    do: "sign",
    usage: "server",
  });
  assert.equal(
    decideRequest(request({ signerName: "example.com/mine" }, [{ type: "Approved", status: "True" }]), now).do,
    "wait",
  );
  assert.equal(decideRequest(request({}, [{ type: "Denied", status: "True" }]), now).do, "wait");
});
