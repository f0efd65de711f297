/** The API's hard cases, each with the verdict its documentation gives: what both halves are held to, written by hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkPolicy, Pod } from "@underlay/kube/objects";
import { evaluate } from "../api/evaluate.ts";
import type { PolicyEndpoint } from "../api/policy-endpoint.ts";
import { viewOfLists } from "../compile/cluster-view.ts";
import { compilePolicy } from "../compile/compile.ts";
import { planWrites, variantAnnotations } from "../compile/plan.ts";
import { describe, judge, type Cluster, type Packet } from "./verdict.ts";

type Spec = NonNullable<NetworkPolicy["spec"]>;
type Case = readonly [what: string, spec: Spec | readonly Spec[], verdicts: Readonly<Record<string, boolean>>];

const namespaces = ["shop", "front"].map((name) => ({
  metadata: { name, labels: { "kubernetes.io/metadata.name": name } },
}));
const pods: Pod[] = [
  // db1 and db2 differ in what the name `sql` means; db2's comes from a native sidecar.
  pod("shop/db1", "10.0.1.1", { app: "db" }, { containers: [container({ name: "sql", containerPort: 3306 })] }),
  pod(
    "shop/db2",
    "10.0.1.2",
    { app: "db" },
    {
      containers: [container()],
      initContainers: [
        { ...container({ name: "sql", containerPort: 5432 }), restartPolicy: "Always" },
        container({ name: "init", containerPort: 99 }),
      ],
    },
  ),
  pod("shop/web", "10.0.1.3", { app: "web", tier: "" }, { containers: [container()] }),
  pod("front/web", "10.0.1.4", { app: "web" }, { containers: [container()] }),
  {
    ...pod("front/done", "10.0.1.5", { app: "web" }, { containers: [container()] }),
    status: { phase: "Succeeded", podIP: "10.0.1.5" },
  },
];
const address: Readonly<Record<string, string>> = {
  db1: "10.0.1.1",
  db2: "10.0.1.2",
  web: "10.0.1.3",
  front: "10.0.1.4",
  done: "10.0.1.5",
  out: "192.0.2.10",
  node: "10.0.0.1",
  other: "10.0.0.2",
};
const db = { matchLabels: { app: "db" } };
const web = { matchLabels: { app: "web" } };
const front = { matchLabels: { "kubernetes.io/metadata.name": "front" } };

const cases: readonly Case[] = [
  ["no policy isolates nobody", [], { "out db1 TCP/1": true, "db1 out UDP/1": true }],
  [
    "an absent list allows nothing",
    { podSelector: db, policyTypes: ["Ingress"] },
    { "web db1 TCP/80": false, "db1 web TCP/80": true },
  ],
  [
    "an empty rule allows everything, ICMP too",
    { podSelector: db, ingress: [{}] },
    { "out db1 SCTP/9": true, "out db1 ICMP": true },
  ],
  [
    "egress rules without policyTypes isolate both ways",
    { podSelector: db, egress: [{}] },
    { "web db1 TCP/80": false, "db1 out TCP/80": true },
  ],
  [
    "rules of a direction not listed count for nothing",
    { podSelector: db, policyTypes: ["Egress"], ingress: [{}] },
    { "web db1 TCP/80": true, "db1 web TCP/80": false },
  ],
  [
    "a podSelector alone looks in its own namespace",
    { podSelector: db, ingress: [{ from: [{ podSelector: web }] }] },
    { "web db1 TCP/1": true, "front db1 TCP/1": false },
  ],
  [
    "two selectors in one entry are both required",
    { podSelector: db, ingress: [{ from: [{ podSelector: db, namespaceSelector: front }] }] },
    { "web db1 TCP/1": false, "front db1 TCP/1": false },
  ],
  [
    "two entries are alternatives",
    { podSelector: db, ingress: [{ from: [{ podSelector: web }, { namespaceSelector: front }] }] },
    { "web db1 TCP/1": true, "front db1 TCP/1": true, "out db1 TCP/1": false },
  ],
  [
    "an empty value wants the key present",
    { podSelector: db, ingress: [{ from: [{ podSelector: { matchLabels: { tier: "" } }, namespaceSelector: {} }] }] },
    { "web db1 TCP/1": true, "front db1 TCP/1": false },
  ],
  [
    "NotIn holds where the key is missing",
    {
      podSelector: db,
      ingress: [
        {
          from: [
            {
              namespaceSelector: {},
              podSelector: { matchExpressions: [{ key: "tier", operator: "NotIn", values: [""] }] },
            },
          ],
        },
      ],
    },
    { "web db1 TCP/1": false, "front db1 TCP/1": true },
  ],
  [
    "no protocol means TCP",
    { podSelector: db, ingress: [{ ports: [{ port: 80 }] }] },
    { "web db1 TCP/80": true, "web db1 UDP/80": false, "web db1 ICMP": false },
  ],
  [
    "a protocol without port is all its ports",
    { podSelector: db, ingress: [{ ports: [{ protocol: "UDP" }] }] },
    { "web db1 UDP/9999": true, "web db1 SCTP/1": false, "web db1 ICMP": false },
  ],
  [
    "a range includes both ends",
    { podSelector: db, ingress: [{ ports: [{ port: 80, endPort: 82 }] }] },
    { "web db1 TCP/79": false, "web db1 TCP/80": true, "web db1 TCP/82": true, "web db1 TCP/83": false },
  ],
  [
    "a named port is each pod's own, and a sidecar's too",
    { podSelector: db, ingress: [{ ports: [{ port: "sql" }] }] },
    { "web db1 TCP/3306": true, "web db1 TCP/5432": false, "web db2 TCP/5432": true, "web db2 TCP/3306": false },
  ],
  [
    "a name of an ordinary init container is none",
    { podSelector: db, ingress: [{ ports: [{ port: "init" }] }] },
    { "web db2 TCP/99": false, "web db2 TCP/1": false },
  ],
  [
    "a name with another protocol is none",
    { podSelector: db, ingress: [{ ports: [{ port: "sql", protocol: "UDP" }] }] },
    { "web db1 UDP/3306": false, "web db1 TCP/3306": false },
  ],
  [
    "a name on egress is the destination's",
    { podSelector: web, policyTypes: ["Egress"], egress: [{ to: [{ podSelector: db }], ports: [{ port: "sql" }] }] },
    { "web db1 TCP/3306": true, "web db1 TCP/5432": false, "web db2 TCP/5432": true, "web out TCP/3306": false },
  ],
  [
    "a name on egress without `to` is every pod that has it, and nothing outside",
    { podSelector: web, policyTypes: ["Egress"], egress: [{ ports: [{ port: "sql" }] }] },
    { "web db1 TCP/3306": true, "web front TCP/3306": false, "web out TCP/3306": false },
  ],
  [
    "a name and a block never match",
    {
      podSelector: web,
      policyTypes: ["Egress"],
      egress: [{ to: [{ ipBlock: { cidr: "0.0.0.0/0" } }], ports: [{ port: "sql" }] }],
    },
    { "web db1 TCP/3306": false },
  ],
  [
    "a block matches pods in it; host bits do not count",
    { podSelector: db, ingress: [{ from: [{ ipBlock: { cidr: "10.0.1.7/29", except: ["10.0.1.4/32"] } }] }] },
    { "web db1 TCP/1": true, "front db1 TCP/1": false, "out db1 TCP/1": false },
  ],
  [
    "a hole is of its own block only",
    {
      podSelector: db,
      ingress: [
        { from: [{ ipBlock: { cidr: "0.0.0.0/0", except: ["10.0.1.0/24"] } }, { ipBlock: { cidr: "10.0.1.4/32" } }] },
      ],
    },
    { "front db1 TCP/1": true, "web db1 TCP/1": false, "out db1 TCP/1": true },
  ],
  [
    "policies add up",
    [
      { podSelector: db, ingress: [] },
      { podSelector: {}, ingress: [{ from: [{ podSelector: web }] }] },
    ],
    { "web db1 TCP/1": true, "front db1 TCP/1": false, "db1 web TCP/1": false },
  ],
  [
    "the address of a completed pod is nobody's",
    { podSelector: db, ingress: [{ from: [{ namespaceSelector: {}, podSelector: {} }] }] },
    { "done db1 TCP/1": false, "front db1 TCP/1": true },
  ],
];

for (const [what, given, verdicts] of cases) {
  test(what, () => {
    const specs: readonly Spec[] = Array.isArray(given) ? given : [given];
    const policies = specs.map((spec, index) => ({ metadata: { name: `p${index}`, namespace: "shop" }, spec }));
    const cluster: Cluster = { policies, namespaces, pods };
    const objects = policies.flatMap((policy) => objectsOf(policy));
    for (const [text, allowed] of Object.entries(verdicts)) {
      const packet = packetOf(text);
      const verdict = judge(cluster, packet);
      const why = `${text}: ${describe("Egress", verdict.egress)}; ${describe("Ingress", verdict.ingress)}`;
      assert.equal(verdict.allowed, allowed, why);
      const entries = (["Egress", "Ingress"] as const).map((direction) => evaluate(objects, direction, packet).verdict);
      assert.equal(!entries.includes("deny"), allowed, `${text}: PolicyEndpoints say ${entries.join(" and ")}`);
    }
  });
}

test("a pod's own node passes, another node is an ordinary address, and a pod reaches itself", () => {
  const policies = [
    { metadata: { name: "deny", namespace: "shop" }, spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] } },
  ];
  const cluster: Cluster = { policies, namespaces, pods };
  assert.equal(judge(cluster, packetOf("node db1 TCP/80")).ingress.because, "own node");
  assert.equal(judge(cluster, packetOf("db1 node TCP/80")).egress.because, "own node");
  assert.equal(judge(cluster, packetOf("other db1 TCP/80")).allowed, false);
  assert.equal(judge(cluster, packetOf("db1 db1 TCP/80")).allowed, true);
});

test("a decision names policy, rule, peer and port, or the policies that isolate", () => {
  const policies = [
    { metadata: { name: "a", namespace: "shop" }, spec: { podSelector: db, policyTypes: ["Ingress"] } },
    {
      metadata: { name: "b", namespace: "shop" },
      spec: {
        podSelector: db,
        ingress: [
          { from: [{ podSelector: db }] },
          { from: [{ podSelector: web }], ports: [{ port: 1 }, { port: "sql" }] },
        ],
      },
    },
  ];
  const cluster: Cluster = { policies, namespaces, pods };
  const ingress = (text: string) => describe("Ingress", judge(cluster, packetOf(text)).ingress);
  assert.equal(ingress("web db1 TCP/3306"), "ingress allowed by shop/b: ingress[1].from[0], ports[1]");
  assert.equal(
    ingress("web db1 TCP/5432"),
    "ingress of shop/db1 denied: isolated by shop/a, shop/b, and no rule of these allows it",
  );
  assert.equal(ingress("db1 web TCP/1"), "ingress allowed: not isolated");
});

/** "from to PROTOCOL/port" by the names above. */
function packetOf(text: string): Packet {
  const [from = "", to = "", what = ""] = text.split(" ");
  const [protocol, port] = what.split("/");
  const ends = { source: address[from] ?? from, destination: address[to] ?? to };
  return { ...ends, protocol: protocol as Packet["protocol"], ...(port ? { port: Number(port) } : {}) };
}

function objectsOf(policy: NetworkPolicy): PolicyEndpoint[] {
  const sets = compilePolicy(policy, viewOfLists({ namespaces: [...namespaces], pods, services: [] }));
  return planWrites(sets, [], 1000).flatMap((step) =>
    step.do === "create" ? [{ metadata: { annotations: variantAnnotations(step.variant) }, spec: step.spec }] : [],
  );
}

function container(...ports: { name: string; containerPort: number }[]) {
  return { name: "c", ports };
}

function pod(key: string, podIP: string, labels: Record<string, string>, spec: NonNullable<Pod["spec"]>): Pod {
  const [namespace = "", name = ""] = key.split("/");
  return { metadata: { namespace, name, labels }, spec, status: { phase: "Running", hostIP: "10.0.0.1", podIP } };
}
