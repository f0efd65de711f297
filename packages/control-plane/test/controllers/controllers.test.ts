/** The controllers and the scheduler as a process against the real API server, with kubelets that run nothing. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Deployment, EndpointSlice, Pod, PodSpec } from "@underlay/kube/objects";
import { isPodReady } from "@underlay/kube/pod";
import * as r from "@underlay/kube/resources";
import { createRequest } from "@underlay/pki/authority";
import { TestCluster, until } from "./cluster.ts";

let cluster: TestCluster;
before(async () => {
  cluster = await TestCluster.start();
  await cluster.kubelets.start([
    { name: "n1", zone: "a", pods: 29 },
    { name: "n2", zone: "b" },
    { name: "n3", zone: "c" },
  ]);
});
after(async () => cluster[Symbol.asyncDispose]());

const template = (
  app: string,
  image = "x:1",
  more: { annotations?: Record<string, string>; spec?: Partial<PodSpec> } = {},
) => ({
  metadata: { labels: { app }, annotations: more.annotations },
  spec: { containers: [{ name: "c", image }], ...more.spec },
});
const selector = (app: string) => ({ matchLabels: { app } });

async function namespace(name: string): Promise<string> {
  await cluster.client.create(r.namespaces, { metadata: { name } });
  await until(
    `${name} has its service account`,
    async () => (await cluster.client.find(r.serviceAccounts, "default", { namespace: name })) !== undefined,
  );
  return name;
}

async function podsOf(ns: string, app?: string): Promise<Pod[]> {
  return (await cluster.client.list(r.pods, { namespace: ns, labelSelector: app ? `app=${app}` : undefined })).items;
}

async function rolledOut(ns: string, name: string): Promise<void> {
  await until(`deployment ${name} is rolled out`, async () => {
    const { metadata, spec, status } = await cluster.client.get(r.deployments, name, { namespace: ns });
    const wanted = spec?.replicas;
    return (
      status?.observedGeneration === metadata.generation &&
      status?.updatedReplicas === wanted &&
      status?.replicas === wanted &&
      status?.availableReplicas === wanted
    );
  });
}

const deployment = (ns: string, name: string, replicas: number, image = "x:1"): Deployment => ({
  metadata: { name, namespace: ns },
  spec: { replicas, selector: selector(name), template: template(name, image) },
});

test("deployment rolls out, rolls back to the same ReplicaSet, spreads over nodes and feeds its Service", async () => {
  const { client } = cluster;
  const ns = await namespace("roll");
  await client.create(r.services, {
    metadata: { name: "web", namespace: ns },
    spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
  });
  await client.create(r.deployments, deployment(ns, "web", 6));
  await rolledOut(ns, "web");
  const nodesUsed = new Set((await podsOf(ns)).map((pod) => pod.spec?.nodeName));
  assert.equal(nodesUsed.size, 3);
  const slices = async (): Promise<EndpointSlice[]> => (await client.list(r.endpointSlices, { namespace: ns })).items;
  await until(
    "six endpoints are ready",
    async () =>
      (await slices()).flatMap((slice) => slice.endpoints ?? []).filter((one) => one.conditions?.ready).length === 6,
  );
  assert.deepEqual([...new Set((await slices())[0]?.endpoints?.map((one) => one.zone))].sort(), ["a", "b", "c"]);

  const [first] = (await client.list(r.replicaSets, { namespace: ns })).items;
  await client.patch(
    r.deployments,
    "web",
    { type: "strategic", body: { spec: { template: { spec: { containers: [{ name: "c", image: "x:2" }] } } } } },
    { namespace: ns },
  );
  await rolledOut(ns, "web");
  const sets = (await client.list(r.replicaSets, { namespace: ns })).items;
  assert.deepEqual(sets.map((set) => set.spec?.replicas).sort(), [0, 6]);
  // As kubectl rollout undo does it.
  await client.patch(
    r.deployments,
    "web",
    {
      type: "json",
      body: [
        {
          op: "replace",
          path: "/spec/template",
          value: { ...template("web"), metadata: { creationTimestamp: null, labels: { app: "web" } } },
        },
      ],
    },
    { namespace: ns },
  );
  await rolledOut(ns, "web");
  const after = (await client.list(r.replicaSets, { namespace: ns })).items;
  assert.equal(after.length, 2);
  const reused = after.find((set) => set.metadata.uid === first?.metadata.uid);
  assert.deepEqual(
    [reused?.spec?.replicas, reused?.metadata.annotations?.["deployment.kubernetes.io/revision"]],
    [6, "3"],
  );
  const events = (await client.list(r.events, { namespace: ns })).items;
  assert.ok(
    events.some(
      (event) =>
        event.reason === "ScalingReplicaSet" && /^Scaled up replica set web-\w+ from 0 to 6$/.test(event.message ?? ""),
    ),
  );
  assert.ok(
    events.some(
      (event) =>
        event.reason === "Scheduled" && /^Successfully assigned roll\/web-\S+ to n\d$/.test(event.message ?? ""),
    ),
  );
});

test("daemon set runs on every node and rolls one after another when its template changes", async () => {
  const { client } = cluster;
  const ns = await namespace("daemons");
  await client.create(r.daemonSets, {
    metadata: { name: "agent", namespace: ns },
    spec: { selector: selector("agent"), template: template("agent") },
  });
  const rolled = () =>
    until("the daemon set is rolled out", async () => {
      const { metadata, status } = await client.get(r.daemonSets, "agent", { namespace: ns });
      return (
        status?.observedGeneration === metadata.generation &&
        status?.updatedNumberScheduled === 3 &&
        status.numberAvailable === 3
      );
    });
  await rolled();
  assert.deepEqual((await podsOf(ns)).map((pod) => pod.spec?.nodeName).sort(), ["n1", "n2", "n3"]);
  await client.patch(
    r.daemonSets,
    "agent",
    {
      type: "strategic",
      body: { spec: { template: { spec: { containers: [{ name: "c", env: [{ name: "A", value: "1" }] }] } } } },
    },
    { namespace: ns },
  );
  await rolled();
  const pods = await podsOf(ns);
  assert.deepEqual(
    pods.map((pod) => pod.spec?.containers[0]?.env?.[0]?.value),
    ["1", "1", "1"],
  );
  assert.equal((await client.list(r.controllerRevisions, { namespace: ns })).items.length, 2);
});

test("stateful set makes its pods in order under stable names; volume claims leave a pod pending with a reason", async () => {
  const { client } = cluster;
  const ns = await namespace("state");
  const spec = { serviceName: "db", selector: selector("db"), template: template("db"), replicas: 3 };
  await client.create(r.statefulSets, { metadata: { name: "db", namespace: ns }, spec });
  await until("three pods are ready", async () => (await podsOf(ns)).filter(isPodReady).length === 3);
  const pods = await podsOf(ns);
  assert.deepEqual(
    pods.map((pod) => [pod.metadata.name, pod.spec?.hostname, pod.spec?.subdomain]),
    [
      ["db-0", "db-0", "db"],
      ["db-1", "db-1", "db"],
      ["db-2", "db-2", "db"],
    ],
  );
  const claims = [
    {
      metadata: { name: "data" },
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
    },
  ];
  const claiming = {
    serviceName: "pv",
    selector: selector("pv"),
    template: template("pv"),
    volumeClaimTemplates: claims,
  };
  await client.create(r.statefulSets, { metadata: { name: "pv", namespace: ns }, spec: claiming });
  await until("the pod says what it waits for", async () => {
    const pod = await client.get(r.pods, "pv-0", { namespace: ns });
    const condition = pod.status?.conditions?.find((one) => one.type === "PodScheduled");
    return (
      condition?.reason === "Unschedulable" &&
      /pod has unbound immediate PersistentVolumeClaims/.test(condition.message ?? "")
    );
  });
});

test("job completes, fails at its limit, and its pods are let go", async () => {
  const { client } = cluster;
  const ns = await namespace("jobs");
  const make = (name: string, exit: string, more = {}) =>
    client.create(r.jobs, {
      metadata: { name, namespace: ns },
      spec: {
        template: template(name, "x", { annotations: { "test/exit": exit }, spec: { restartPolicy: "Never" } }),
        ...more,
      },
    });
  await make("good", "0", { completions: 4, parallelism: 2 });
  await make("bad", "1", { backoffLimit: 0 });
  const condition = async (name: string, type: string) => {
    const job = await client.get(r.jobs, name, { namespace: ns });
    return job.status?.conditions?.some((one) => one.type === type && one.status === "True") === true;
  };
  await until("the job is complete", () => condition("good", "Complete"));
  await until("the job has failed", () => condition("bad", "Failed"));
  assert.equal((await client.get(r.jobs, "good", { namespace: ns })).status?.succeeded, 4);
  await until("no pod is held", async () =>
    (await podsOf(ns)).every((pod) => (pod.metadata.finalizers ?? []).length === 0),
  );
});

test("foreground deletion goes bottom-up, orphans stay, a namespace empties itself", async () => {
  const { client } = cluster;
  const ns = await namespace("gone");
  await client.create(r.deployments, deployment(ns, "down", 2));
  await client.create(r.deployments, deployment(ns, "stay", 2));
  await Promise.all([rolledOut(ns, "down"), rolledOut(ns, "stay")]);
  await client.delete(r.deployments, "down", { namespace: ns, propagationPolicy: "Foreground" });
  await until(
    "the deployment is gone",
    async () => (await client.find(r.deployments, "down", { namespace: ns })) === undefined,
  );
  assert.deepEqual(await podsOf(ns, "down"), []);
  await client.delete(r.deployments, "stay", { namespace: ns, propagationPolicy: "Orphan" });
  await until("the orphan has no owner", async () => {
    const [set] = (await client.list(r.replicaSets, { namespace: ns })).items;
    return (
      set !== undefined &&
      (set.metadata.ownerReferences ?? []).length === 0 &&
      (await client.find(r.deployments, "stay", { namespace: ns })) === undefined
    );
  });
  assert.equal((await podsOf(ns, "stay")).length, 2);
  await client.delete(r.namespaces, ns);
  await until("the namespace is gone", async () => (await client.find(r.namespaces, ns)) === undefined);
});

test("a full node leaves pods pending with the scheduler's words, and takes them when there is room", async () => {
  const { client } = cluster;
  const ns = await namespace("full");
  const free =
    29 -
    (await client.list(r.pods, { fieldSelector: "spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed" }))
      .items.length;
  const pinned = template("many", "x", { spec: { nodeSelector: { "kubernetes.io/hostname": "n1" } } });
  await client.create(r.deployments, {
    metadata: { name: "many", namespace: ns },
    spec: { replicas: free + 1, selector: selector("many"), template: pinned },
  });
  const message =
    "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.";
  const pending = async () => (await podsOf(ns)).filter((pod) => !pod.spec?.nodeName);
  await until("one pod is told why it waits", async () => {
    const [one, ...rest] = await pending();
    return (
      rest.length === 0 &&
      one?.status?.conditions?.find((condition) => condition.type === "PodScheduled")?.message === message
    );
  });
  const placed = (await podsOf(ns)).find((pod) => pod.spec?.nodeName);
  await client.delete(r.pods, placed?.metadata.name ?? "", { namespace: ns, gracePeriodSeconds: 0 });
  await until(
    "the pods fill the node again",
    async () => (await podsOf(ns)).length === free + 1 && (await pending()).length === 1,
  );
});

test("a critical pod takes the place of an ordinary one on a full node", async () => {
  const { client } = cluster;
  const ns = await namespace("critical");
  const spec = { nodeSelector: { "kubernetes.io/hostname": "n1" }, priorityClassName: "system-node-critical" };
  await client.create(r.pods, {
    metadata: { name: "agent", namespace: ns },
    spec: { ...spec, containers: [{ name: "c", image: "x" }] },
  });
  await until(
    "it runs there",
    async () => (await client.get(r.pods, "agent", { namespace: ns })).status?.phase === "Running",
  );
  const events = async () => (await client.list(r.events, { fieldSelector: "reason=Preempted" })).items;
  await until("the victim was told", async () => (await events()).length > 0);
  assert.equal((await events()).length, 1);
});

test("a budget blocks evictions it cannot afford", async () => {
  const { client } = cluster;
  const ns = await namespace("budget");
  await client.create(r.deployments, deployment(ns, "web", 2));
  await client.create(r.podDisruptionBudgets, {
    metadata: { name: "web", namespace: ns },
    spec: { minAvailable: 2, selector: selector("web") },
  });
  await rolledOut(ns, "web");
  await until(
    "the budget has counted",
    async () => (await client.get(r.podDisruptionBudgets, "web", { namespace: ns })).status?.currentHealthy === 2,
  );
  const [pod] = await podsOf(ns);
  await assert.rejects(client.evict(ns, pod?.metadata.name ?? ""), /violate the pod's disruption budget/);
  await client.patch(
    r.podDisruptionBudgets,
    "web",
    { type: "merge", body: { spec: { minAvailable: 1 } } },
    { namespace: ns },
  );
  await until(
    "one disruption is allowed",
    async () => (await client.get(r.podDisruptionBudgets, "web", { namespace: ns })).status?.disruptionsAllowed === 1,
  );
  await client.evict(ns, pod?.metadata.name ?? "");
});

test("an approved certificate request is signed with the cluster's CA", async () => {
  const { client } = cluster;
  const { csr } = await createRequest({
    commonName: "system:node:n1",
    organizations: ["system:nodes"],
    names: ["n1", "10.9.0.1"],
  });
  const spec = {
    request: Buffer.from(csr).toString("base64"),
    signerName: "kubernetes.io/kubelet-serving",
    usages: ["digital signature", "key encipherment", "server auth"],
  };
  await client.create(r.certificateSigningRequests, { metadata: { name: "n1-serving" }, spec });
  // Made by an administrator, not by the node itself, so a person has to approve it.
  const made = await client.get(r.certificateSigningRequests, "n1-serving");
  const conditions = [{ type: "Approved", status: "True", reason: "Test", message: "by hand" }];
  await client.update(r.certificateSigningRequests, { ...made, status: { conditions } }, { subresource: "approval" });
  await until(
    "the certificate is there",
    async () => (await client.get(r.certificateSigningRequests, "n1-serving")).status?.certificate !== undefined,
  );
  const { certificate = "" } = (await client.get(r.certificateSigningRequests, "n1-serving")).status ?? {};
  assert.match(Buffer.from(certificate, "base64").toString(), /BEGIN CERTIFICATE/);
});

test("killing the API server or the controllers in the middle of a rollout makes nothing twice", async () => {
  const { client } = cluster;
  const ns = await namespace("kill");
  await client.create(r.deployments, deployment(ns, "web", 30));
  await until("the rollout has begun", async () => (await podsOf(ns)).length > 3);
  await cluster.killApiserver();
  await cluster.startApiserver();
  await rolledOut(ns, "web");
  await client.patch(
    r.deployments,
    "web",
    { type: "strategic", body: { spec: { template: { spec: { containers: [{ name: "c", image: "x:2" }] } } } } },
    { namespace: ns },
  );
  await until(
    "the next rollout has begun",
    async () => (await client.list(r.replicaSets, { namespace: ns })).items.length === 2,
  );
  await cluster.killControllers();
  cluster.startControllers();
  await rolledOut(ns, "web");
  const pods = (await podsOf(ns)).filter((pod) => pod.metadata.deletionTimestamp === undefined);
  assert.equal(pods.length, 30);
  assert.ok(pods.every((pod) => pod.spec?.containers[0]?.image === "x:2"));
});
