import assert from "node:assert/strict";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { createAuthority, issueLeaf } from "@underlay/pki/authority";
import { startTestServer, type TestServer } from "./api-server.ts";
import type { Stored } from "../../src/apiserver/stored.ts";

let cluster: TestServer;
let hook: Server;
let caBundle = "";
/** Every review the hook got, by path. */
const reviews: { path: string; request: Stored }[] = [];

before(async () => {
  cluster = await startTestServer();
  // The webhook's own CA, for the name its Service gives it.
  const authority = await createAuthority("webhook-ca");
  caBundle = Buffer.from(authority.cert).toString("base64");
  const leaf = await issueLeaf(authority, { commonName: "hook", names: ["hook.hooks.svc"], usage: "server" });
  hook = createServer(leaf, (request: IncomingMessage, response: ServerResponse) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const review = JSON.parse(body);
      reviews.push({ path: request.url!, request: review.request });
      response.setHeader("content-type", "application/json");
      response.end(
        JSON.stringify({
          apiVersion: "admission.k8s.io/v1",
          kind: "AdmissionReview",
          response: { uid: review.request.uid, ...answer(request.url!, review.request) },
        }),
      );
    });
  });
  await new Promise<void>((resolve) => hook.listen(0, "127.0.0.1", resolve));
  await cluster.ok(["create", "namespace", "hooks"]);
  await cluster.ok(
    ["apply", "-f", "-"],
    JSON.stringify({
      apiVersion: "v1",
      kind: "List",
      items: [
        {
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: "hook", namespace: "hooks" },
          spec: { ports: [{ name: "https", port: 443, targetPort: 8443 }] },
        },
        {
          apiVersion: "discovery.k8s.io/v1",
          kind: "EndpointSlice",
          addressType: "IPv4",
          metadata: { name: "hook-1", namespace: "hooks", labels: { "kubernetes.io/service-name": "hook" } },
          ports: [{ name: "https", port: (hook.address() as AddressInfo).port, protocol: "TCP" }],
          endpoints: [{ addresses: ["127.0.0.1"], conditions: { ready: true } }],
        },
      ],
    }),
  );
});
after(async () => {
  hook?.closeAllConnections();
  hook?.close();
  await cluster?.[Symbol.asyncDispose]();
});

function answer(path: string, request: Stored): object {
  if (path.startsWith("/sidecar")) {
    const patch = [{ op: "add", path: "/spec/containers/-", value: { name: "sidecar", image: "proxy" } }];
    return {
      allowed: true,
      patchType: "JSONPatch",
      patch: Buffer.from(JSON.stringify(patch)).toString("base64"),
      warnings: ["a sidecar was added"],
    };
  }
  const bad = request.object?.metadata?.labels?.bad === "true";
  return bad ? { allowed: false, status: { code: 422, message: "no bad pods here" } } : { allowed: true };
}

const webhook = (name: string, path: string, more: object = {}) => ({
  name,
  admissionReviewVersions: ["v1"],
  sideEffects: "None",
  failurePolicy: "Fail",
  clientConfig: { caBundle, service: { name: "hook", namespace: "hooks", path } },
  rules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
  namespaceSelector: { matchLabels: { hooked: "yes" } },
  ...more,
});
const configuration = (kind: string, name: string, ...webhooks: object[]) =>
  cluster.ok(
    ["apply", "-f", "-"],
    JSON.stringify({ apiVersion: "admissionregistration.k8s.io/v1", kind, metadata: { name }, webhooks }),
  );

test("a mutating webhook adds a sidecar, which gets the token mount and the defaults", async () => {
  await configuration("MutatingWebhookConfiguration", "sidecars", webhook("sidecar.example.com", "/sidecar"));
  await cluster.ok(["create", "namespace", "shop"]);
  await cluster.ok(["label", "namespace", "shop", "hooked=yes"]);
  const ran = await cluster.kubectl(["run", "one", "--image=nginx", "-n", "shop"]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.match(ran.stderr, /Warning: a sidecar was added/);
  const pod = JSON.parse(await cluster.ok(["get", "pod", "one", "-n", "shop", "-o", "json"]));
  const sidecar = pod.spec.containers[1];
  assert.deepEqual([sidecar.name, sidecar.terminationMessagePath], ["sidecar", "/dev/termination-log"]);
  assert.equal(sidecar.volumeMounts[0].mountPath, "/var/run/secrets/kubernetes.io/serviceaccount");
  assert.equal(reviews.at(-1)?.path, "/sidecar?timeout=10s");
  assert.equal(reviews.at(-1)?.request.operation, "CREATE");
  assert.deepEqual(reviews.at(-1)?.request.kind, { group: "", version: "v1", kind: "Pod" });
  assert.equal(reviews.at(-1)?.request.userInfo.username, "kubernetes-admin");
});

test("webhooks leave alone what their selectors do not name", async () => {
  const before = reviews.length;
  await cluster.ok(["run", "free", "--image=nginx", "-n", "default"]);
  assert.equal(reviews.length, before);
});

test("a validating webhook denies with its own code and message, also in a dry run", async () => {
  await configuration("ValidatingWebhookConfiguration", "guards", webhook("guard.example.com", "/guard"));
  for (const dryRun of ["none", "server"]) {
    const ran = await cluster.kubectl([
      "run",
      "bad",
      "--image=nginx",
      "-n",
      "shop",
      "-l",
      "bad=true",
      `--dry-run=${dryRun}`,
    ]);
    assert.match(ran.stderr, /admission webhook "guard.example.com" denied the request: no bad pods here/);
    assert.equal(reviews.at(-1)?.request.dryRun, dryRun === "server");
  }
  assert.equal(reviews.at(-1)?.request.object.spec.containers[1].name, "sidecar");
});

test("matchConditions keep a webhook from requests they exclude", async () => {
  await configuration(
    "ValidatingWebhookConfiguration",
    "guards",
    webhook("guard.example.com", "/guard", {
      matchConditions: [{ name: "not-excused", expression: "!has(object.metadata.labels.excused)" }],
    }),
  );
  await cluster.ok(["run", "excused", "--image=nginx", "-n", "shop", "-l", "bad=true,excused=1"]);
});

test("failurePolicy decides when a webhook cannot be called", async () => {
  await cluster.ok(["delete", "validatingwebhookconfiguration", "guards"]);
  await cluster.ok(["create", "service", "clusterip", "idle", "--tcp=443:443", "-n", "hooks"]);
  const broken = (failurePolicy: string) =>
    webhook("broken.example.com", "/x", {
      failurePolicy,
      clientConfig: { caBundle, service: { name: "idle", namespace: "hooks", path: "/x" } },
    });
  await configuration("ValidatingWebhookConfiguration", "broken", broken("Fail"));
  const refused = await cluster.kubectl(["run", "two", "--image=nginx", "-n", "shop"]);
  assert.match(
    refused.stderr,
    /failed calling webhook "broken.example.com": failed to call webhook: Post "https:\/\/idle.hooks.svc:443\/x\?timeout=10s": no endpoints available for service "idle"/,
  );
  await configuration("ValidatingWebhookConfiguration", "broken", broken("Ignore"));
  await cluster.ok(["run", "two", "--image=nginx", "-n", "shop"]);
});

test("a webhook whose certificate is not from its CA is not trusted", async () => {
  const other = await createAuthority("other-ca");
  await configuration(
    "ValidatingWebhookConfiguration",
    "broken",
    webhook("guard.example.com", "/guard", {
      clientConfig: {
        caBundle: Buffer.from(other.cert).toString("base64"),
        service: { name: "hook", namespace: "hooks", path: "/guard" },
      },
    }),
  );
  const refused = await cluster.kubectl(["run", "three", "--image=nginx", "-n", "shop"]);
  assert.match(refused.stderr, /failed calling webhook "guard.example.com".*tls: failed to verify certificate/);
});
