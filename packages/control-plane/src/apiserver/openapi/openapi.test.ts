import assert from "node:assert/strict";
import { test } from "node:test";
import { createDiscovery } from "../discovery/discovery.ts";
import { compareVersions } from "../discovery/group-lists.ts";
import { builtinResources } from "../resource-info.ts";
import type { HttpQuestion, ResourceTable } from "../seams.ts";
import { completeSettings } from "../settings.ts";
import { createOpenApi } from "./openapi.ts";

const resources = { all: () => builtinResources, generation: 1 } as unknown as ResourceTable;
const settings = completeSettings({ stateDir: "/nonexistent" });
const ask = (url: string, accept = ""): HttpQuestion => {
  const parsed = new URL(url, "http://x");
  return {
    method: "GET",
    path: parsed.pathname,
    query: parsed.searchParams,
    headers: { accept },
    user: { username: "u", groups: [] },
  };
};

test("every reference of every group document resolves", () => {
  const { openapi } = createOpenApi({ resources, settings });
  const index = JSON.parse(String(openapi(ask("/openapi/v3"))!.body)).paths as Record<
    string,
    { serverRelativeURL: string }
  >;
  assert.ok(index["api/v1"] && index["apis/apps/v1"]);
  for (const [path, { serverRelativeURL }] of Object.entries(index)) {
    const answer = openapi(ask(serverRelativeURL))!;
    assert.match(answer.headers["cache-control"]!, /immutable/);
    const document = JSON.parse(String(answer.body));
    for (const [, name] of String(answer.body).matchAll(/#\/components\/schemas\/([^"]+)/g)) {
      assert.ok(document.components.schemas[name!], `${path}: ${name}`);
    }
  }
});

test("the PATCH of a deployment declares fieldValidation and strategic merge", () => {
  const { openapi } = createOpenApi({ resources, settings });
  const document = JSON.parse(String(openapi(ask("/openapi/v3/apis/apps/v1"))!.body));
  const patch = document.paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"].patch;
  assert.ok(
    patch.parameters.some((p: { name: string; in: string }) => p.name === "fieldValidation" && p.in === "query"),
  );
  assert.ok(patch.requestBody.content["application/strategic-merge-patch+json"]);
  assert.deepEqual(patch["x-kubernetes-group-version-kind"], { group: "apps", version: "v1", kind: "Deployment" });
  const schema = document.components.schemas["io.k8s.api.core.v1.PodSpec"];
  assert.equal(schema.properties.containers["x-kubernetes-patch-merge-key"], "name");
});

test("discovery answers aggregated and plain by Accept", () => {
  const { discovery } = createDiscovery({ resources });
  const accept =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
  const aggregated = discovery(ask("/apis", accept))!;
  assert.equal(
    aggregated.headers["content-type"],
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
  );
  const pods = JSON.parse(String(discovery(ask("/api", accept))!.body)).items[0].versions[0].resources.find(
    (r: { resource: string }) => r.resource === "pods",
  );
  assert.deepEqual(pods.responseKind, { group: "", version: "v1", kind: "Pod" });
  assert.equal(pods.scope, "Namespaced");
  assert.equal(JSON.parse(String(discovery(ask("/apis", "application/json"))!.body)).kind, "APIGroupList");
  const core = JSON.parse(String(discovery(ask("/api/v1"))!.body));
  const eviction = core.resources.find((r: { name: string }) => r.name === "pods/eviction");
  assert.deepEqual([eviction.group, eviction.version, eviction.kind], ["policy", "v1", "Eviction"]);
  assert.equal(discovery(ask("/apis/none.example/v1")), undefined);
  assert.equal(discovery(ask("/api/v1/pods")), undefined);
});

test("versions sort by stability, then number", () => {
  assert.deepEqual(["v1beta1", "v1", "v1alpha1", "foo", "v2", "v1beta2"].sort(compareVersions), [
    "v2",
    "v1",
    "v1beta2",
    "v1beta1",
    "v1alpha1",
    "foo",
  ]);
});
