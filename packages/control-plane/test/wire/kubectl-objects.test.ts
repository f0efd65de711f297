/** What people do with kubectl, against a real server process. Controllers do not run here. */
import type { AnyJson } from "../../src/apiserver/api-object.ts";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ServerProcess } from "./server-process.ts";

let server: ServerProcess;
before(async () => {
  server = await ServerProcess.start();
});
after(() => server.dispose());

const deployment = (name: string, image = "nginx:1.27", replicas = 2): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${name}, labels: {app: ${name}}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec:
      containers:
      - {name: c, image: "${image}", ports: [{containerPort: 80}], env: [{name: A, value: "1"}, {name: B, value: "2"}]}
`;

test("a fresh cluster has its namespaces, the kubernetes service and its endpoints", async () => {
  assert.equal(
    await server.ok("get ns -o name"),
    "namespace/default\nnamespace/kube-node-lease\nnamespace/kube-public\nnamespace/kube-system\n",
  );
  assert.match(await server.ok("get svc kubernetes"), /kubernetes +ClusterIP +172\.20\.0\.1 +<none> +443\/TCP/);
  assert.equal(await server.ok("get sa,cm -n default -o name"), "serviceaccount/default\nconfigmap/kube-root-ca.crt\n");
});

test("apply creates, says unchanged, patches by merge keys", async () => {
  assert.match(await server.ok("apply -f -", deployment("ap")), /created/);
  assert.match(await server.ok("apply -f -", deployment("ap")), /unchanged/);
  assert.match(await server.ok("apply -f -", deployment("ap", "nginx:1.28")), /configured/);
  assert.equal(
    await server.ok(
      "get deploy ap -o jsonpath={.metadata.generation}/{.spec.template.spec.containers[0].image}/{.spec.template.spec.containers[0].env[1].name}",
    ),
    "2/nginx:1.28/B",
  );
  assert.equal((await server.kubectl("diff -f -", deployment("ap", "nginx:1.28"))).code, 0);
  assert.equal((await server.kubectl("diff -f -", deployment("ap", "nginx:1.29"))).code, 1);
});

test("server-side apply tracks owners, refuses conflicts and takes over by force", async () => {
  await server.ok("apply --server-side -f -", deployment("ssa"));
  await server.ok("scale deploy ssa --replicas=7");
  const refused = await server.kubectl("apply --server-side -f -", deployment("ssa"));
  assert.match(refused.stderr, /conflict with "kubectl" with subresource "scale" using apps\/v1: \.spec\.replicas/);
  await server.ok("apply --server-side --force-conflicts -f -", deployment("ssa"));
  assert.equal(await server.ok("get deploy ssa -o jsonpath={.spec.replicas}"), "2");
  await server.ok(
    "apply --server-side --field-manager=other -f -",
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: ssa, annotations: {note: "x"}}',
  );
  await server.ok(
    "apply --server-side --field-manager=other -f -",
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: ssa}",
  );
  assert.equal(await server.ok("get deploy ssa -o jsonpath={.metadata.annotations.note}"), "");
  assert.equal(await server.ok("get deploy ssa -o jsonpath={.spec.template.spec.containers[0].image}"), "nginx:1.27");
});

test("client-side apply migrates to server-side apply", async () => {
  await server.ok("apply -f -", deployment("mig"));
  await server.ok("apply --server-side -f -", deployment("mig", "nginx:2"));
  const managers = JSON.parse(
    await server.ok("get deploy mig -o json --show-managed-fields"),
  ).metadata.managedFields.map((m: AnyJson) => `${m.manager} ${m.operation}`);
  assert.ok(!managers.includes("kubectl-client-side-apply Update"), String(managers));
});

test("create with typed clients (protobuf bodies), scale, set, label, patch, taint work", async () => {
  await server.ok("create deployment d --image=a:1 --replicas=1");
  await server.ok("create configmap cm --from-literal=k=v");
  await server.ok("create secret generic se --from-literal=k=v");
  await server.ok("create job j --image=a:1");
  await server.ok("autoscale deploy d --max=3");
  await server.ok("set env deploy/d X=1");
  await server.ok("set image deploy/d a=a:2");
  await server.ok("label deploy d l=1");
  await server.ok([
    "patch",
    "deploy",
    "d",
    "--type=json",
    "-p",
    '[{"op":"replace","path":"/spec/replicas","value":4}]',
  ]);
  await server.ok(["patch", "deploy", "d", "--type=merge", "-p", '{"spec":{"paused":true}}']);
  await server.ok(["patch", "deploy", "d", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":5}}']);
  const d = JSON.parse(await server.ok("get deploy d -o json"));
  assert.deepEqual(
    [
      d.spec.replicas,
      d.spec.paused,
      d.spec.template.spec.containers[0].image,
      d.spec.template.spec.containers[0].env,
      d.metadata.labels.l,
    ],
    [5, true, "a:2", [{ name: "X", value: "1" }], "1"],
  );
  assert.equal(await server.ok("get secret se -o jsonpath={.data.k}/{.type}"), "dg==/Opaque");
  await server.ok("create -f -", "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {capacity: {cpu: '2'}}");
  await server.ok("taint node n1 a=b:NoSchedule");
  await server.ok("cordon n1");
  assert.match(
    await server.ok("get node n1 -o jsonpath={.spec.taints[*].key}/{.spec.unschedulable}/{.status.capacity.cpu}"),
    /a.*\/true\/2$/,
  );
});

test("pods get their defaults, a token mount, and go at once when they were never bound", async () => {
  await server.ok("run p1 --image=nginx --port=80");
  const pod = JSON.parse(await server.ok("get pod p1 -o json"));
  assert.deepEqual(
    [
      pod.spec.restartPolicy,
      pod.spec.dnsPolicy,
      pod.spec.terminationGracePeriodSeconds,
      pod.spec.securityContext,
      pod.spec.enableServiceLinks,
      pod.spec.serviceAccountName,
      pod.spec.containers[0].imagePullPolicy,
      pod.status.phase,
      pod.status.qosClass,
    ],
    ["Always", "ClusterFirst", 30, {}, true, "default", "Always", "Pending", "BestEffort"],
  );
  assert.match(pod.spec.volumes[0].name, /^kube-api-access-/);
  assert.match(await server.ok("delete pod p1"), /deleted/);
  assert.equal((await server.kubectl("get pod p1")).code, 1);
});

test("a bound pod is deleted by the grace protocol", async () => {
  await server.ok("run p2 --image=nginx");
  const bound = await server.request("POST", "/api/v1/namespaces/default/pods/p2/binding", {
    body: { apiVersion: "v1", kind: "Binding", metadata: { name: "p2" }, target: { kind: "Node", name: "n1" } },
  });
  assert.equal(bound.status, 201);
  const again = await server.request("POST", "/api/v1/namespaces/default/pods/p2/binding", {
    body: { target: { name: "n1" } },
  });
  assert.equal(again.status, 409);
  await server.ok("delete pod p2 --wait=false");
  const pod = JSON.parse(await server.ok("get pod p2 -o json"));
  assert.equal(pod.metadata.deletionGracePeriodSeconds, 30);
  assert.equal(pod.spec.nodeName, "n1");
  await server.ok("delete pod p2 --force --grace-period=0");
  assert.equal((await server.kubectl("get pod p2")).code, 1);
});

test("wrong objects are refused in Kubernetes's words", async () => {
  const cases: [string, RegExp][] = [
    [
      "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c}]}",
      /The Pod "x" is invalid: spec\.containers\[0\]\.image: Required value/,
    ],
    [
      "apiVersion: v1\nkind: Pod\nmetadata: {name: X_}\nspec: {containers: [{name: c, image: i}]}",
      /metadata\.name: Invalid value: "X_": a lowercase RFC 1123 subdomain must consist/,
    ],
    [
      "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /a}]}]}",
      /spec\.containers\[0\]\.volumeMounts\[0\]\.name: Not found: "v"/,
    ],
    [
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: i}]}}}",
      /spec\.template\.metadata\.labels: Invalid value: \{"a":"c"\}: `selector` does not match template `labels`/,
    ],
    [
      "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 80},{port: 81}]}",
      /\* spec\.ports\[0\]\.name: Required value\n\* spec\.ports\[1\]\.name: Required value/,
    ],
    [
      "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {clusterIP: 172.20.0.1, ports: [{port: 80}]}",
      /spec\.clusterIPs: Invalid value: \["172\.20\.0\.1"\]: failed to allocate IP 172\.20\.0\.1: provided IP is already allocated/,
    ],
    [
      "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 80, protocol: ICMP}]}",
      /Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"/,
    ],
    [
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, bogus: 1}\nbad: {}",
      /strict decoding error: unknown field "metadata\.bogus", unknown field "bad"|unknown field "bad", unknown field "metadata\.bogus"/,
    ],
    ["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nope}", /namespaces "nope" not found/],
    [
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 1}",
      /cannot unmarshal number into Go struct field ConfigMap\.data/,
    ],
  ];
  for (const [manifest, message] of cases) {
    const { code, stderr } = await server.kubectl("create -f -", manifest);
    assert.equal(code, 1, manifest);
    assert.match(stderr, message);
  }
});

test("immutable fields stay", async () => {
  await server.ok("apply -f -", deployment("im"));
  const refused = await server.kubectl([
    "patch",
    "deploy",
    "im",
    "--type=merge",
    "-p",
    '{"spec":{"selector":{"matchLabels":{"app":"other"}},"template":{"metadata":{"labels":{"app":"other"}}}}}',
  ]);
  assert.match(refused.stderr, /spec\.selector: Invalid value: .*: field is immutable/);
  await server.ok("create service clusterip csvc --tcp=80");
  assert.match(
    (
      await server.kubectl([
        "patch",
        "svc",
        "csvc",
        "-p",
        '{"spec":{"clusterIP":"172.20.5.5","clusterIPs":["172.20.5.5"]}}',
      ])
    ).stderr,
    /may not change once set/,
  );
});

test("services get addresses and node ports, and give them back", async () => {
  await server.ok("create service nodeport np --tcp=80 --node-port=30123");
  assert.match(
    (await server.kubectl("create service nodeport np2 --tcp=80 --node-port=30123")).stderr,
    /provided port is already allocated/,
  );
  await server.ok(["patch", "svc", "np", "-p", '{"spec":{"type":"ClusterIP"}}']);
  assert.equal(await server.ok("get svc np -o jsonpath={.spec.ports[0].nodePort}"), "");
  await server.ok("create service nodeport np2 --tcp=80 --node-port=30123");
  await server.ok("delete svc np np2");
  await server.ok("create service nodeport np3 --tcp=80 --node-port=30123");
  assert.match(await server.ok("get svc np3 -o jsonpath={.spec.clusterIP}"), /^172\.20\./);
});

test("dry-run runs everything but the store", async () => {
  assert.match(
    await server.ok("create configmap dry --from-literal=a=b --dry-run=server -o jsonpath={.metadata.uid}"),
    /^[0-9a-f-]{36}$/,
  );
  assert.equal((await server.kubectl("get cm dry")).code, 1);
});

test("auth can-i, whoami, impersonation and forbidden messages", async () => {
  assert.equal(await server.ok("auth can-i create pods"), "yes\n");
  assert.match(await server.ok("auth whoami"), /kubernetes-admin/);
  assert.match(
    (await server.kubectl("get pods --as=bob -n default")).stderr,
    /pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"/,
  );
  await server.ok("create role r --verb=get,list --resource=pods");
  await server.ok("create rolebinding rb --role=r --user=bob");
  assert.equal((await server.kubectl("get pods --as=bob -n default")).code, 0);
  assert.equal((await server.request("GET", "/api/v1/pods", { anonymous: true })).status, 403);
});

test("rollout restart, pause, resume, history and wait work on the API alone", async () => {
  await server.ok("apply -f -", deployment("ro"));
  await server.ok("rollout restart deploy/ro");
  await server.ok("rollout pause deploy/ro");
  await server.ok("rollout resume deploy/ro");
  assert.match((await server.kubectl("wait --for=condition=Available deploy/ro --timeout=1s")).stderr, /timed out/);
  const waiting = server.kubectl("wait --for=delete deploy/ro --timeout=30s");
  await server.ok("delete deploy ro --wait=false");
  assert.equal((await waiting).code, 0);
});

test("explain, api-resources, api-versions, version answer", async () => {
  assert.match(await server.ok("explain deployment.spec.strategy"), /rollingUpdate/);
  assert.match(await server.ok("api-resources"), /deployments +deploy +apps\/v1 +true +Deployment/);
  assert.match(await server.ok("api-versions"), /discovery\.k8s\.io\/v1/);
  assert.match(await server.ok("version"), /Server Version: v1\.33/);
});

test("replace --force and delete --all follow objects by uid", async () => {
  const manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: rep, labels: {g: x}}\ndata: {a: '1'}";
  await server.ok("create -f -", manifest);
  const uid = await server.ok("get cm rep -o jsonpath={.metadata.uid}");
  await server.ok("replace --force -f -", manifest);
  assert.notEqual(await server.ok("get cm rep -o jsonpath={.metadata.uid}"), uid);
  await server.ok("delete cm -l g=x");
  assert.equal(await server.ok("get cm -l g=x -o name"), "");
});
