import assert from "node:assert/strict";
import { test } from "node:test";
import type { Node, Pod, PodSpec } from "@underlay/kube/objects";
import { ClusterState } from "./cluster-state.ts";
import { decide } from "./decide.ts";
import { planPreemption } from "./preempt.ts";
import { SchedulingQueue } from "./queue.ts";
import { volumeProblem } from "./volumes.ts";

type NodeShape = {
  labels?: Record<string, string>;
  taints?: NonNullable<Node["spec"]>["taints"];
  unschedulable?: boolean;
  allocatable?: Record<string, string>;
};

function cluster(nodes: Record<string, NodeShape>, placed: [Pod, string][] = []): ClusterState {
  const state = new ClusterState();
  for (const [name, { labels, taints, unschedulable, allocatable }] of Object.entries(nodes)) {
    state.setNode({
      metadata: { name, labels: { "kubernetes.io/hostname": name, ...labels } },
      spec: { taints, unschedulable },
      status: { allocatable: { cpu: "2", memory: "8Gi", pods: "29", ...allocatable } },
    });
  }
  for (const [one, node] of placed) state.assume(one, node);
  return state;
}

let made = 0;
function pod(spec: Partial<PodSpec> = {}, labels: Record<string, string> = {}): Pod {
  made += 1;
  return {
    metadata: { name: `p${made}`, uid: `u${made}`, namespace: "shop", labels },
    spec: { containers: [{ name: "c" }], ...spec },
  };
}

function ask(state: ClusterState, asking: Pod) {
  return decide(
    asking,
    [...state.nodes.values()],
    () => ({ team: "a" }),
    () => 0,
  );
}

function requesting(requests: Record<string, string>): Partial<PodSpec> {
  return { containers: [{ name: "c", resources: { requests } }] };
}

const near = (key: string, labels: Record<string, string>) => [
  { topologyKey: key, labelSelector: { matchLabels: labels } },
];

const refusals: {
  what: string;
  nodes: Record<string, NodeShape>;
  placed?: [Pod, string][];
  asking: Pod;
  message: string;
}[] = [
  {
    what: "no nodes",
    nodes: {},
    asking: pod(),
    message: "no nodes available to schedule pods",
  },
  {
    what: "a full node and others by selector",
    nodes: { a: { labels: { kind: "x" }, allocatable: { pods: "1" } }, b: {}, c: {} },
    placed: [[pod(), "a"]],
    asking: pod({ nodeSelector: { kind: "x" } }),
    message:
      "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.",
  },
  {
    what: "taints and cordons",
    nodes: { a: { taints: [{ key: "k", value: "v", effect: "NoSchedule" }] }, b: { unschedulable: true } },
    asking: pod(),
    message:
      "0/2 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
  },
  {
    what: "more than a node will ever have, and an extended resource nobody offers",
    nodes: { a: {} },
    asking: pod(requesting({ cpu: "3", memory: "1Gi", "vpc.amazonaws.com/pod-eni": "1" })),
    message:
      "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient vpc.amazonaws.com/pod-eni. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
  },
  {
    what: "a host port in use",
    nodes: { a: {} },
    placed: [[pod({ hostNetwork: true, containers: [{ name: "c", ports: [{ containerPort: 80 }] }] }), "a"]],
    asking: pod({ containers: [{ name: "c", ports: [{ containerPort: 8080, hostPort: 80 }] }] }),
    message:
      "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
  },
  {
    what: "anti-affinity to its own kind on every host",
    nodes: { a: {}, b: {} },
    placed: [
      [pod({}, { app: "db" }), "a"],
      [pod({}, { app: "db" }), "b"],
    ],
    asking: pod(
      {
        affinity: {
          podAntiAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: near("kubernetes.io/hostname", { app: "db" }),
          },
        },
      },
      { app: "db" },
    ),
    message:
      "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
  },
  {
    what: "affinity to a pod that is nowhere",
    nodes: { a: {} },
    asking: pod({
      affinity: {
        podAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: near("kubernetes.io/hostname", { app: "cache" }),
        },
      },
    }),
    message:
      "0/1 nodes are available: 1 node(s) didn't match pod affinity rules. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
  },
  {
    what: "a daemon pod whose node is full",
    nodes: { a: { allocatable: { pods: "0" } }, b: {} },
    asking: pod({
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: ["a"] }] }],
          },
        },
      },
    }),
    message:
      "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
  },
];

for (const { what, nodes, placed, asking, message } of refusals) {
  test(`pod is refused: ${what}`, () => {
    const decision = ask(cluster(nodes, placed), asking);
    assert.equal(decision.ok ? decision.node : decision.message, message);
  });
}

const placements: {
  what: string;
  nodes: Record<string, NodeShape>;
  placed?: [Pod, string][];
  asking: Pod;
  node: string;
}[] = [
  {
    what: "where a toleration lets it in",
    nodes: { a: { taints: [{ key: "k", effect: "NoExecute" }] } },
    asking: pod({ tolerations: [{ operator: "Exists" }] }),
    node: "a",
  },
  {
    what: "on the emptier node",
    nodes: { a: {}, b: {} },
    placed: [[pod(requesting({ cpu: "1", memory: "4Gi" })), "a"]],
    asking: pod(requesting({ cpu: "100m" })),
    node: "b",
  },
  {
    what: "by preferred node affinity before emptiness",
    nodes: { a: { labels: { disk: "ssd" } }, b: {} },
    placed: [[pod(requesting({ cpu: "1" })), "a"]],
    asking: pod({
      affinity: {
        nodeAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            { weight: 100, preference: { matchExpressions: [{ key: "disk", operator: "In", values: ["ssd"] }] } },
          ],
        },
      },
    }),
    node: "a",
  },
  {
    what: "away from PreferNoSchedule",
    nodes: { a: { taints: [{ key: "k", effect: "PreferNoSchedule" }] }, b: {} },
    placed: [[pod(requesting({ cpu: "500m" })), "b"]],
    asking: pod(),
    node: "b",
  },
  {
    what: "first of a group with affinity to itself",
    nodes: { a: {} },
    asking: pod(
      {
        affinity: {
          podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: near("kubernetes.io/hostname", { app: "g" }) },
        },
      },
      { app: "g" },
    ),
    node: "a",
  },
  {
    what: "where its friend is",
    nodes: { a: {}, b: {}, c: {} },
    placed: [[pod({}, { app: "cache" }), "b"]],
    asking: pod({
      affinity: {
        podAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: near("kubernetes.io/hostname", { app: "cache" }),
        },
      },
    }),
    node: "b",
  },
  {
    what: "in the zone with fewer, as maxSkew demands",
    nodes: { a: { labels: { zone: "1" } }, b: { labels: { zone: "2" } } },
    placed: [[pod({}, { app: "w" }), "a"]],
    asking: pod(
      {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: "zone",
            whenUnsatisfiable: "DoNotSchedule",
            labelSelector: { matchLabels: { app: "w" } },
          },
        ],
      },
      { app: "w" },
    ),
    node: "b",
  },
];

for (const { what, nodes, placed, asking, node } of placements) {
  test(`pod is placed ${what}`, () => {
    assert.deepEqual(ask(cluster(nodes, placed), asking), { ok: true, node });
  });
}

test("spread refuses when the only node left would exceed the skew", () => {
  const state = cluster({ a: { labels: { zone: "1" } }, b: { labels: { zone: "2" }, unschedulable: true } }, [
    [pod({}, { app: "w" }), "a"],
  ]);
  const asking = pod(
    {
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: "zone",
          whenUnsatisfiable: "DoNotSchedule",
          labelSelector: { matchLabels: { app: "w" } },
        },
      ],
    },
    { app: "w" },
  );
  const decision = ask(state, asking);
  assert.equal(decision.ok, false);
  assert.match(
    decision.ok ? "" : decision.message,
    /^0\/2 nodes are available: 1 node\(s\) didn't match pod topology spread constraints, 1 node\(s\) were unschedulable\./,
  );
});

test("pods of one controller spread over nodes; a terminal pod frees its share, a terminating one does not", () => {
  const state = cluster({ a: {}, b: {}, c: {} });
  const counts: Record<string, number> = { a: 0, b: 0, c: 0 };
  const all: Pod[] = [];
  for (let i = 0; i < 9; i += 1) {
    const one = pod();
    one.metadata.ownerReferences = [
      { apiVersion: "apps/v1", kind: "ReplicaSet", name: "w", uid: "w", controller: true },
    ];
    const decision = ask(state, one);
    assert.ok(decision.ok);
    state.assume(one, decision.node);
    counts[decision.node] = (counts[decision.node] ?? 0) + 1;
    all.push({ ...one, spec: { ...one.spec!, nodeName: decision.node } });
  }
  assert.deepEqual(counts, { a: 3, b: 3, c: 3 });
  const [over, going] = all.filter((one) => one.spec?.nodeName === "a");
  state.setPod({ ...over!, status: { phase: "Succeeded" } });
  state.setPod({ ...going!, metadata: { ...going!.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } });
  assert.equal(state.nodes.get("a")?.pods.size, 2);
});

test("queue: priority first, then age; a pod that did not fit waits for an event and its back-off", () => {
  const queue = new SchedulingQueue();
  const at = (name: string, created: string, priority = 0): Pod => ({
    metadata: { name, uid: name, creationTimestamp: created },
    spec: { containers: [], priority },
  });
  queue.add(at("young", "2026-01-02T00:00:00Z"), 0, false);
  queue.add(at("old", "2026-01-01T00:00:00Z"), 0, false);
  queue.add(at("vip", "2026-01-03T00:00:00Z", 10), 0, false);
  assert.deepEqual(
    queue.take(0).map((one) => one.metadata.name),
    ["vip", "old", "young"],
  );
  assert.deepEqual(queue.take(200_000), []);
  queue.wake();
  assert.equal(queue.nextAt(), 1_000);
  assert.equal(queue.take(999).length, 0);
  assert.equal(queue.take(1_000).length, 3);
  queue.wake();
  assert.equal(queue.nextAt(), 3_000);
});

test("a pod waits for its volume claims in upstream's words", () => {
  const asking = pod({ volumes: [{ name: "data", persistentVolumeClaim: { claimName: "data-p" } }] });
  assert.equal(
    volumeProblem(asking, () => undefined),
    'persistentvolumeclaim "data-p" not found',
  );
  assert.equal(
    volumeProblem(asking, () => ({ metadata: {}, status: { phase: "Pending" } })),
    "pod has unbound immediate PersistentVolumeClaims",
  );
  assert.equal(
    volumeProblem(asking, () => ({ metadata: {}, status: { phase: "Bound" } })),
    undefined,
  );
});

test("preemption takes the least: lower priorities only, spared where possible, on the node it hurts least", () => {
  const full = { allocatable: { pods: "2" } };
  const important = pod({ priority: 100 });
  const cheap = pod({ priority: 1 });
  const state = cluster({ a: full, b: full, c: { ...full, unschedulable: true } }, [
    [important, "a"],
    [pod({ priority: 5 }), "a"],
    [cheap, "b"],
    [pod({ priority: 50 }), "b"],
    [pod(), "c"],
  ]);
  const plan = (asking: Pod, breaks: (one: Pod) => boolean = () => false) => {
    const answer = planPreemption(asking, [...state.nodes.values()], () => ({}), breaks);
    return answer.do === "preempt"
      ? [answer.plan.node, ...answer.plan.victims.map((one) => one.metadata.name)]
      : answer.why;
  };
  assert.deepEqual(plan(pod({ priority: 10 })), ["b", cheap.metadata.name]);
  assert.equal(plan(pod({ priority: 10 }), (one) => one === cheap)?.[0], "a");
  assert.equal(plan(pod({ priority: 1 })), undefined);
  assert.equal(plan(pod({ priority: 10, preemptionPolicy: "Never" })), "not eligible due to preemptionPolicy=Never.");
});
