/** The controller against a real API server: the workshop's policies by kubectl, a random cluster under churn and kills, switch and lease. */
import assert from "node:assert/strict";
import { existsSync, globSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isInvalid } from "@underlay/kube/client";
import type { Namespace, NetworkPolicy, Pod } from "@underlay/kube/objects";
import { namespaces, networkPolicies, pods, services } from "@underlay/kube/resources";
import { evaluate } from "../../src/api/evaluate.ts";
import { policyFinalizer, type PolicyEndpoint } from "../../src/api/policy-endpoint.ts";
import {
  Random,
  randomLabels,
  randomPackets,
  randomPod,
  randomSpec,
  type TestCluster,
} from "../../src/compile/random-cluster.test-support.ts";
import { describe, judge } from "../../src/semantics/verdict.ts";
import { ControlPlane, stopped, until } from "./control-plane.ts";

const workshop = join(
  import.meta.dirname,
  "../../../../../shared/workshop/modules/networking/network-policies/apply-network-policies",
);

const workshopHere = existsSync(workshop);
test(
  "the workshop's policies become the PolicyEndpoints they ask for",
  { skip: !workshopHere && "the workshop's files are not here" },
  async () => {
    await using plane = await ControlPlane.start();
    plane.controller();
    const component = { ui: "service", catalog: "service", orders: "service" };
    for (const [index, [name, kind]] of Object.entries(component).entries()) {
      await plane.client.create(namespaces, { metadata: { name } });
      await createPod(plane, name, name, labelsOf(name, kind), `10.42.1.${index + 1}`);
    }
    await createPod(plane, "catalog", "catalog-mysql-0", labelsOf("catalog", "mysql"), "10.42.1.10");
    await createPod(plane, "kube-system", "coredns", { "k8s-app": "kube-dns" }, "10.42.1.20");
    await plane.client.create(services, {
      metadata: { name: "catalog", namespace: "catalog" },
      spec: {
        clusterIP: "172.20.0.77",
        selector: labelsOf("catalog", "service"),
        ports: [{ port: 80, targetPort: "http" }],
      },
    });
    for (const file of globSync("*.yaml", { cwd: workshop }).sort()) {
      const namespace = file.startsWith("default-deny") ? ["-n", "ui"] : [];
      await plane.kubectl("apply", "-f", join(workshop, file), ...namespace);
    }
    const expected = {
      "catalog/allow-catalog-ingress-db": { for: ["10.42.1.10"], isolation: ["Ingress"], ingress: ["10.42.1.2"] },
      "catalog/allow-catalog-ingress-webservice": {
        for: ["10.42.1.2"],
        isolation: ["Ingress"],
        ingress: ["10.42.1.1"],
      },
      "default/test-network-policy": {
        for: [],
        isolation: ["Ingress", "Egress"],
        ingress: ["172.17.0.0/16 except 172.17.1.0/24 TCP/6379"],
        egress: ["10.0.0.0/24 TCP/5978"],
      },
      "orders/allow-orders-ingress-webservice": { for: ["10.42.1.3"], isolation: ["Ingress"], ingress: ["10.42.1.1"] },
      "ui/allow-ui-egress": {
        for: ["10.42.1.1"],
        isolation: ["Egress"],
        egress: ["10.42.1.1", "10.42.1.2", "10.42.1.20", "10.42.1.3", "172.20.0.77"],
      },
      "ui/default-deny": { for: ["10.42.1.1"], isolation: ["Egress"] },
    };
    await until("the endpoints", async () => {
      assert.deepEqual(summary(await plane.endpoints()), expected);
      return true;
    });
    const [policy] = await plane.client.listAll(networkPolicies);
    assert.ok(policy?.metadata.finalizers?.includes(policyFinalizer));
  },
);

test("under churn and kill -9 of the controller, the objects come to mean what the API says", async () => {
  await using plane = await ControlPlane.start();
  const flags = ["--endpoint-chunk-size=3"];
  let controller = plane.controller(...flags);
  const random = new Random(Number(process.env["UNDERLAY_TEST_SEED"] ?? 7));
  const cluster: TestCluster = { namespaces: [], pods: [], services: [], policies: [] };
  for (const name of ["x", "y", "z"]) await plane.client.create(namespaces, { metadata: { name } });
  for (const [index, name] of ["a", "b", "c", "d"].entries()) {
    for (const [row, namespace] of ["x", "y", "z"].entries()) {
      await valid(() => putPod(plane, randomPod(random, namespace, name, index * 3 + row)));
    }
  }
  for (let index = 0; index < 6; index += 1) {
    const metadata = { name: `p${index}`, namespace: random.pick(["x", "y", "z"]) };
    await valid(() => plane.client.create(networkPolicies, { metadata, spec: randomSpec(random) }));
  }
  for (let round = 0; round < 6; round += 1) {
    for (let step = 0; step < 5; step += 1) await churn(random, plane);
    if (round % 2 === 1) {
      await stopped(controller, "SIGKILL");
      await churn(random, plane);
      controller = plane.controller(...flags);
    }
    await readCluster(plane, cluster);
    await until(
      `agreement in round ${round}`,
      async () => {
        const objects = await plane.endpoints();
        for (const packet of randomPackets(new Random(round), cluster, 150)) disagree(objects, cluster, packet);
        assertWithin(objects, 3);
        return true;
      },
      30,
    );
  }
  for (const policy of cluster.policies) {
    await plane.kubectl("delete", "netpol", "-n", policy.metadata.namespace!, policy.metadata.name!, "--timeout=10s");
  }
  assert.deepEqual(await plane.endpoints(), []);
});

test("switched off it takes back its objects and finalizers; a second one leads when the first ends", async () => {
  await using plane = await ControlPlane.start();
  const first = plane.controller();
  await plane.client.create(networkPolicies, {
    metadata: { name: "deny", namespace: "default" },
    spec: { podSelector: {} },
  });
  const made = async () => (await plane.endpoints()).length === 1;
  await until("an endpoint", made);
  await plane.switch(false);
  await until("nothing to be left", async () => {
    const [policy] = await plane.client.listAll(networkPolicies);
    return (await plane.endpoints()).length === 0 && (policy?.metadata.finalizers ?? []).length === 0;
  });
  await plane.switch(true);
  await until("the endpoint again", made);

  plane.controller("--kubeconfig", plane.kubeconfig, "--pod-update-batch-period-ms=0");
  await stopped(first, "SIGTERM");
  await plane.client.create(networkPolicies, {
    metadata: { name: "later", namespace: "default" },
    spec: { podSelector: {} },
  });
  await until("the second to lead", async () => (await plane.endpoints()).length === 2);
});

function labelsOf(name: string, component: string): Record<string, string> {
  return { "app.kubernetes.io/name": name, "app.kubernetes.io/component": component };
}

async function createPod(
  plane: ControlPlane,
  namespace: string,
  name: string,
  labels: Record<string, string>,
  ip: string,
) {
  await putPod(plane, {
    metadata: { namespace, name, labels },
    spec: { containers: [{ name: "main", ports: [{ name: "http", containerPort: 8080 }] }] },
    status: { phase: "Running", hostIP: "10.42.0.1", podIP: ip, podIPs: [{ ip }] },
  });
}

/** Creates a pod as if a node ran it: bound, with a status. */
async function putPod({ client }: ControlPlane, { metadata, spec, status }: Pod): Promise<void> {
  const { namespace = "", name = "", labels } = metadata;
  const withImages = (list: Pod["spec"] extends undefined ? never : NonNullable<Pod["spec"]>["containers"]) =>
    list.map((container) => ({ ...container, image: "none" }));
  const full = {
    ...spec,
    nodeName: "node",
    terminationGracePeriodSeconds: 0,
    containers: withImages(spec?.containers ?? []),
    initContainers: withImages(spec?.initContainers ?? []),
  };
  await client.create(pods, { metadata: { namespace, name, ...(labels ? { labels } : {}) }, spec: full });
  await client.patch(pods, name, { type: "merge", body: { status } }, { namespace, subresource: "status" });
}

/** Repeats a random write until it is a valid one: the generator also makes things that the API refuses. */
async function valid<T>(write: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await write();
    } catch (err) {
      if (!isInvalid(err)) throw err;
    }
  }
}

/** Pods made later get addresses no other had. */
let nextAddress = 20;

async function churn(random: Random, plane: ControlPlane): Promise<void> {
  const { client } = plane;
  const namespace = random.pick(["x", "y", "z"]);
  const name = random.pick(["a", "b", "c", "d"]);
  switch (random.below(5)) {
    case 0:
      await client.patch(
        pods,
        name,
        { type: "merge", body: { metadata: { labels: { app: null, tier: null, ...randomLabels(random) } } } },
        { namespace },
      );
      return;
    case 1:
      await client.patch(namespaces, namespace, {
        type: "merge",
        body: { metadata: { labels: { app: null, tier: null, ...randomLabels(random) } } },
      });
      return;
    case 2: {
      // The same name with another address, other ports, maybe on another node.
      await client.delete(pods, name, { namespace, gracePeriodSeconds: 0 });
      await valid(() => putPod(plane, randomPod(random, namespace, name, (nextAddress += 1))));
      return;
    }
    default: {
      const policy = random.pick(await client.listAll(networkPolicies));
      const where = { namespace: policy.metadata.namespace! };
      await valid(() =>
        client.patch(
          networkPolicies,
          policy.metadata.name!,
          { type: "json", body: [{ op: "replace", path: "/spec", value: randomSpec(random) }] },
          where,
        ),
      );
    }
  }
}

async function readCluster({ client }: ControlPlane, cluster: TestCluster): Promise<void> {
  const here = (object: Namespace | Pod | NetworkPolicy) =>
    ["x", "y", "z"].includes(object.metadata.namespace ?? object.metadata.name ?? "");
  cluster.namespaces = (await client.listAll(namespaces)).filter(here);
  cluster.pods = (await client.listAll(pods)).filter(here);
  cluster.policies = (await client.listAll(networkPolicies)).filter(here);
}

function disagree(
  objects: readonly PolicyEndpoint[],
  cluster: TestCluster,
  packet: ReturnType<typeof randomPackets>[number],
): void {
  const verdict = judge(cluster, packet);
  for (const [direction, decision] of [
    ["Ingress", verdict.ingress],
    ["Egress", verdict.egress],
  ] as const) {
    if (decision.because === "own node" || decision.because === "same pod") continue;
    const said = evaluate(objects, direction, packet).verdict;
    assert.equal(said !== "deny", decision.allowed, `${JSON.stringify(packet)}: ${describe(direction, decision)}`);
  }
}

function assertWithin(objects: readonly PolicyEndpoint[], chunkSize: number): void {
  for (const { spec } of objects) {
    for (const list of [spec.podSelectorEndpoints, spec.ingress, spec.egress])
      assert.ok((list?.length ?? 0) <= chunkSize);
  }
}

/** By policy, in few words. */
function summary(objects: readonly PolicyEndpoint[]): Record<string, unknown> {
  const text = (entries: PolicyEndpoint["spec"]["ingress"]) =>
    entries
      ?.map(({ cidr, except, ports }) =>
        [
          cidr,
          ...(except ? ["except", ...except] : []),
          ...(ports ?? []).map(({ protocol, port }) => `${protocol}/${port}`),
        ].join(" "),
      )
      .sort();
  return Object.fromEntries(
    objects
      .map(
        ({ spec }) =>
          [
            `${spec.policyRef.namespace}/${spec.policyRef.name}`,
            {
              for: (spec.podSelectorEndpoints ?? []).map(({ podIP }) => podIP),
              isolation: spec.podIsolation,
              ...(spec.ingress ? { ingress: text(spec.ingress) } : {}),
              ...(spec.egress ? { egress: text(spec.egress) } : {}),
            },
          ] as const,
      )
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}
