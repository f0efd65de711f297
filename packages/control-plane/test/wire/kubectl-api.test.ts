import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { run, startTestServer, type TestServer } from "./api-server.ts";

let cluster: TestServer;

before(async () => {
  cluster = await startTestServer();
});
after(() => cluster?.[Symbol.asyncDispose]());

test("kubectl creates typed objects in protobuf", async () => {
  const commands: [string[], RegExp][] = [
    [["create", "namespace", "shop"], /namespace\/shop created/],
    [["create", "configmap", "settings", "--from-literal=a=1", "-n", "shop"], /configmap\/settings created/],
    [["create", "secret", "generic", "keys", "--from-literal=k=v", "-n", "shop"], /secret\/keys created/],
    [["create", "serviceaccount", "runner", "-n", "shop"], /serviceaccount\/runner created/],
    [
      ["create", "deployment", "web", "--image=nginx", "--replicas=2", "--port=80", "-n", "shop"],
      /deployment.apps\/web created/,
    ],
    [["create", "job", "once", "--image=busybox", "-n", "shop", "--", "true"], /job.batch\/once created/],
    [
      ["create", "cronjob", "hourly", "--image=busybox", "--schedule=0 * * * *", "-n", "shop"],
      /cronjob.batch\/hourly created/,
    ],
    [
      ["create", "role", "reader", "--verb=get,list", "--resource=pods", "-n", "shop"],
      /role.rbac.authorization.k8s.io\/reader created/,
    ],
    [
      ["create", "rolebinding", "readers", "--role=reader", "--serviceaccount=shop:runner", "-n", "shop"],
      /readers created/,
    ],
    [
      ["create", "poddisruptionbudget", "keep", "--selector=app=web", "--min-available=1", "-n", "shop"],
      /keep created/,
    ],
    [["create", "ingress", "in", "--rule=a.example/*=web:80", "-n", "shop"], /in created/],
    [["create", "priorityclass", "high", "--value=1000"], /high created/],
    [["create", "service", "clusterip", "web", "--tcp=80:8080", "-n", "shop"], /service\/web created/],
    [["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu-percent=50", "-n", "shop"], /autoscaled/],
    [["delete", "configmap", "settings", "-n", "shop"], /deleted/],
  ];
  for (const [args, expected] of commands) assert.match(await cluster.ok(args), expected, args.join(" "));
  const read = (kind: string, name: string, path: string) =>
    cluster.ok(["get", kind, name, "-n", "shop", "-o", `jsonpath=${path}`]);
  assert.equal(await read("secret", "keys", "{.data.k}"), "dg==");
  const port = "{.spec.template.spec.containers[0].ports[0]";
  assert.equal(await read("deployment", "web", `{.spec.replicas} ${port}.containerPort} ${port}.hostPort}`), "2 80 ");
  assert.equal(await read("hpa", "web", "{.spec.metrics[0].resource.target.averageUtilization}"), "50");
});

test("every resource kubectl can list prints a table, wide as well", async () => {
  const names = (await cluster.ok(["api-resources", "--verbs=list", "-o", "name"])).trim().split("\n");
  assert.ok(names.length > 35, `${names.length}`);
  for (const name of names) {
    const ran = await cluster.kubectl(["get", name, "-A", "-o", "wide"]);
    assert.equal(ran.code, 0, `${name}: ${ran.stderr}`);
  }
  const wide = await cluster.ok(["get", "deployment", "web", "-n", "shop", "-o", "wide"]);
  assert.match(
    wide,
    /^NAME +READY +UP-TO-DATE +AVAILABLE +AGE +CONTAINERS +IMAGES +SELECTOR\nweb +0\/2 +0 +0 +\d+s +nginx +nginx +app=web\n$/,
  );
});

test("explain, strict decoding and lists work from OpenAPI", async () => {
  assert.match(await cluster.ok(["explain", "deployment.spec.strategy"]), /rollingUpdate\t<RollingUpdateDeployment>/);
  assert.match(await cluster.ok(["explain", "pod", "--recursive"]), /containerPort\t<integer> -required-/);
  const object = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "x" }, spec: { bogus: 1 } };
  const ran = await cluster.kubectl(["create", "-f", "-"], JSON.stringify(object));
  assert.match(ran.stderr, /strict decoding error: unknown field "spec.bogus"/);
  // A List is validated by the v2 document, in protobuf.
  const list = (item: object) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "List",
      items: [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "l" }, ...item }],
    });
  assert.match(await cluster.ok(["apply", "-f", "-"], list({})), /configmap\/l created/);
  assert.match(
    (await cluster.kubectl(["apply", "-f", "-"], list({ bogus: 1 }))).stderr,
    /unknown field "bogus" in io.k8s.api.core.v1.ConfigMap/,
  );
});

test("auth commands answer for admin, for others, and by impersonation", async () => {
  assert.match(await cluster.ok(["auth", "whoami"]), /Username +kubernetes-admin/);
  assert.equal(await cluster.ok(["auth", "can-i", "delete", "configmaps"]), "yes\n");
  const as = ["--as=system:serviceaccount:shop:runner", "-n", "shop"];
  assert.equal(await cluster.ok(["auth", "can-i", "list", "pods", ...as]), "yes\n");
  assert.equal((await cluster.kubectl(["auth", "can-i", "delete", "pods", ...as])).stdout, "no\n");
  assert.match(await cluster.ok(["auth", "can-i", "--list", ...as]), /pods +\[\] +\[\] +\[get list\]/);
  const denied = await cluster.kubectl(["get", "secrets", ...as]);
  assert.match(
    denied.stderr,
    /secrets is forbidden: User "system:serviceaccount:shop:runner" cannot list resource "secrets" in API group "" in the namespace "shop"/,
  );
  const escalating = await cluster.kubectl(["get", "pods", "--as=bob", "--as-group=dev"]);
  assert.match(escalating.stderr, /User "bob" cannot list resource "pods"/);
});

test("service-account tokens authenticate while their account lives", async () => {
  const token = (await cluster.ok(["create", "token", "runner", "-n", "shop"])).trim();
  const withToken = (bearer: string, ...args: string[]) =>
    run([
      "kubectl",
      "--kubeconfig=/dev/null",
      `--server=https://127.0.0.1:${cluster.server.port}`,
      "--insecure-skip-tls-verify",
      `--token=${bearer}`,
      ...args,
    ]);
  const whoami = await withToken(token, "auth", "whoami");
  assert.match(whoami.stdout, /Username +system:serviceaccount:shop:runner/);
  assert.match(whoami.stdout, /Groups +\[system:serviceaccounts system:serviceaccounts:shop system:authenticated\]/);
  assert.equal((await withToken(token, "get", "pods", "-n", "shop")).code, 0);
  assert.match(
    (await withToken(token.replace(/\.[^.]+$/, ".AAAA"), "auth", "whoami")).stderr,
    /must be logged in|Unauthorized/,
  );
  await cluster.ok(["create", "serviceaccount", "brief", "-n", "shop"]);
  const brief = (await cluster.ok(["create", "token", "brief", "-n", "shop"])).trim();
  await cluster.ok(["delete", "serviceaccount", "brief", "-n", "shop"]);
  assert.match((await withToken(brief, "auth", "whoami")).stderr, /must be logged in|Unauthorized/);
  const short = await cluster.kubectl(["create", "token", "runner", "-n", "shop", "--duration=5m"]);
  assert.match(short.stderr, /may not specify a duration less than 10 minutes/);
});

test("anonymous users read health, version and token keys only", async () => {
  const url = `https://127.0.0.1:${cluster.server.port}`;
  for (const path of ["/healthz", "/version", "/livez", "/.well-known/openid-configuration", "/openid/v1/jwks"]) {
    const ran = await run(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", `${url}${path}`]);
    assert.equal(ran.stdout, "200", path);
  }
  const denied = await run(["curl", "-sk", `${url}/api/v1/pods`]);
  assert.match(
    denied.stdout,
    /User \\"system:anonymous\\" cannot list resource \\"pods\\" in API group \\"\\" at the cluster scope/,
  );
});

test("pods get their service account's token volume, priority and tolerations", async () => {
  await cluster.ok(["run", "probe", "--image=busybox", "-n", "shop"]);
  const pod = JSON.parse(await cluster.ok(["get", "pod", "probe", "-n", "shop", "-o", "json"]));
  assert.equal(pod.spec.serviceAccountName, "default");
  assert.match(pod.spec.volumes[0].name, /^kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  assert.deepEqual(pod.spec.volumes[0].projected.sources[0], {
    serviceAccountToken: { expirationSeconds: 3607, path: "token" },
  });
  assert.equal(pod.spec.containers[0].volumeMounts[0].mountPath, "/var/run/secrets/kubernetes.io/serviceaccount");
  assert.deepEqual(
    pod.spec.tolerations.map((t: { key: string; tolerationSeconds: number }) => [t.key, t.tolerationSeconds]),
    [
      ["node.kubernetes.io/not-ready", 300],
      ["node.kubernetes.io/unreachable", 300],
    ],
  );
  assert.deepEqual([pod.spec.priority, pod.spec.preemptionPolicy], [0, "PreemptLowerPriority"]);
});

test("nothing is created in a namespace that is missing, and default cannot be deleted", async () => {
  assert.match(
    (await cluster.kubectl(["create", "configmap", "x", "-n", "nowhere"])).stderr,
    /namespaces "nowhere" not found/,
  );
  assert.match(
    (await cluster.kubectl(["delete", "namespace", "default"])).stderr,
    /namespaces "default" is forbidden: this namespace may not be deleted/,
  );
});
