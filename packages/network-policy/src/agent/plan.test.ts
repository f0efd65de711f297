import assert from "node:assert/strict";
import { test } from "node:test";
import { variantAnnotation, type PolicyEndpoint, type PolicyEndpointSpec } from "../api/policy-endpoint.ts";
import { elementsOf } from "./address-space.ts";
import { planNode, type LocalPod, type NodePlan } from "./plan.ts";
import { difference, wholeTable } from "./ruleset.ts";

const pod = (name: string, labels: Record<string, string> = {}): LocalPod => ({
  namespace: "shop",
  name,
  labels,
  addresses: ["10.0.1.10"],
  hostVeth: `eni${name}`,
});

function endpoint(
  policy: string,
  spec: Partial<PolicyEndpointSpec>,
  more: { subjects?: string[]; variant?: string; version?: string; object?: string } = {},
): PolicyEndpoint {
  const name = more.object ?? `${policy}-abcde`;
  return {
    metadata: {
      name,
      namespace: "shop",
      uid: name,
      resourceVersion: more.version ?? "1",
      ...(more.variant && { annotations: { [variantAnnotation]: more.variant } }),
    },
    spec: {
      policyRef: { namespace: "shop", name: policy },
      podSelectorEndpoints: (more.subjects ?? []).map((subject) => ({
        hostIP: "10.0.0.5",
        podIP: "10.0.1.10",
        name: subject,
        namespace: "shop",
      })),
      ...spec,
    },
  };
}

const isolated = (plan: NodePlan, veth: string): string[] => {
  const one = plan.pods.get(veth);
  return [...(one?.ingress ? ["ingress"] : []), ...(one?.egress ? ["egress"] : [])];
};
const ingressOf = (plan: NodePlan, veth: string): string[] => {
  const space = plan.pods.get(veth)?.ingress?.space4;
  return space === undefined ? ["open"] : Object.values(elementsOf(space)).flat();
};

test("a set's subjects and allowances may stand in different objects", () => {
  const endpoints = [
    endpoint("web", { podIsolation: ["Ingress"] }, { subjects: ["a"], object: "web-1" }),
    endpoint("web", { podIsolation: ["Ingress"], ingress: [{ cidr: "10.0.0.1" }] }, { object: "web-2" }),
  ];
  const plan = planNode({ mode: "standard", pods: [pod("a"), pod("b")], endpoints });
  assert.deepEqual(ingressOf(plan, "enia"), ["10.0.0.1 . 0-255"]);
  assert.deepEqual(isolated(plan, "enib"), []);
});

test("a variant's allowances hold for its own subjects only", () => {
  const endpoints = ["80", "81"].map((port) =>
    endpoint(
      "web",
      {
        podSelector: {},
        podIsolation: ["Ingress"],
        ingress: [{ cidr: "10.0.0.1", ports: [{ protocol: "TCP", port: Number(port) }] }],
      },
      { subjects: [port], variant: `http/TCP=${port}`, object: `web-${port}` },
    ),
  );
  const plan = planNode({ mode: "standard", pods: [pod("80"), pod("81"), pod("new")], endpoints });
  assert.deepEqual(ingressOf(plan, "eni80"), ["10.0.0.1 . 6 . 80"]);
  assert.deepEqual(ingressOf(plan, "eni81"), ["10.0.0.1 . 6 . 81"]);
  assert.deepEqual(ingressOf(plan, "eninew"), [], "isolated, and closed until its variant is known");
});

test("a pod that no object lists is isolated by its labels, one in another namespace is not", () => {
  const endpoints = [endpoint("web", { podSelector: { matchLabels: { app: "web" } }, podIsolation: ["Egress"] })];
  const elsewhere = { ...pod("c", { app: "web" }), namespace: "other" };
  const plan = planNode({ mode: "standard", pods: [pod("a", { app: "web" }), pod("b"), elsewhere], endpoints });
  assert.deepEqual([...plan.pods.keys()], ["enia"]);
  assert.deepEqual(isolated(plan, "enia"), ["egress"]);
});

test("strict closes what nothing selects, and leaves open the direction a policy does not name", () => {
  const endpoints = [endpoint("web", { podIsolation: ["Ingress"] }, { subjects: ["a"] })];
  const plan = planNode({ mode: "strict", pods: [pod("a"), pod("b")], endpoints });
  assert.deepEqual(isolated(plan, "enia"), ["ingress"]);
  assert.deepEqual(isolated(plan, "enib"), ["ingress", "egress"]);
  assert.equal(planNode({ mode: "none", pods: [pod("a")], endpoints }).pods.size, 0);
});

test("pods under the same policies share a profile, and an unchanged profile is taken over as it is", () => {
  const first = endpoint(
    "web",
    { podIsolation: ["Ingress"], ingress: [{ cidr: "10.0.0.1" }] },
    { subjects: ["a", "b"] },
  );
  const before = planNode({ mode: "standard", pods: [pod("a"), pod("b")], endpoints: [first] });
  assert.equal(before.profiles.size, 1);
  const after = planNode(
    { mode: "standard", pods: [pod("a"), pod("b")], endpoints: [first, endpoint("db", {}, {})] },
    before,
  );
  assert.equal(after.pods.get("enia")?.ingress, before.pods.get("enia")?.ingress);
  assert.equal(difference(before, after, {}), "");
});

test("a difference names what changed and nothing else", () => {
  const entries = (count: number) => Array.from({ length: count }, (_, index) => ({ cidr: `10.0.${index}.1` }));
  const version = (ingress: { cidr: string }[], at: string) => [
    endpoint("web", { podIsolation: ["Ingress"], ingress }, { subjects: ["a"], version: at }),
  ];
  const before = planNode({ mode: "standard", pods: [pod("a")], endpoints: version(entries(100), "1") });
  const after = planNode({ mode: "standard", pods: [pod("a")], endpoints: version(entries(101), "2") }, before);
  const { id } = [...after.profiles.values()][0] ?? assert.fail();
  assert.equal(
    difference(before, after, {}),
    `add element inet aws_network_policy ${id}_whole4 { 10.0.100.1 . 0-255 }\n`,
  );
  assert.match(
    difference(after, planNode({ mode: "standard", pods: [pod("a")], endpoints: [] }), {}),
    /^delete element inet aws_network_policy ingress .*\n[^]*delete chain/,
  );
  assert.equal(wholeTable(after, {}).split("10.0.100.1").length, 2);
});
