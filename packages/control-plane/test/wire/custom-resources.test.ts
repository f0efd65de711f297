import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startTestServer, until, type TestServer } from "./api-server.ts";

let cluster: TestServer;

before(async () => {
  cluster = await startTestServer();
});
after(() => cluster?.[Symbol.asyncDispose]());

const widgets = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "widgets.example.com" },
  spec: {
    group: "example.com",
    scope: "Namespaced",
    names: { plural: "widgets", singular: "widget", kind: "Widget", shortNames: ["wd"] },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {}, scale: { specReplicasPath: ".spec.max", statusReplicasPath: ".status.replicas" } },
        additionalPrinterColumns: [
          { name: "Mode", type: "string", jsonPath: ".spec.mode" },
          { name: "Max", type: "integer", jsonPath: ".spec.max", priority: 1 },
          { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
        ],
        schema: {
          openAPIV3Schema: {
            type: "object",
            description: "A widget.",
            required: ["spec"],
            properties: {
              spec: {
                type: "object",
                description: "What the widget is for.",
                required: ["min"],
                properties: {
                  min: { type: "integer", minimum: 0 },
                  max: { type: "integer", default: 5, maximum: 10 },
                  mode: { type: "string", enum: ["a", "b"], default: "a" },
                  fixed: {
                    type: "string",
                    "x-kubernetes-validations": [{ rule: "self == oldSelf", message: "fixed cannot change" }],
                  },
                  parts: {
                    type: "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    items: {
                      type: "object",
                      required: ["name"],
                      properties: { name: { type: "string", pattern: "^[a-z]+$" }, size: { type: "integer" } },
                    },
                  },
                },
                "x-kubernetes-validations": [{ rule: "self.min <= self.max", message: "min must be <= max" }],
              },
              status: { type: "object", properties: { replicas: { type: "integer" } } },
            },
          },
        },
      },
    ],
  },
};
const widget = (name: string, spec: object) =>
  JSON.stringify({ apiVersion: "example.com/v1", kind: "Widget", metadata: { name }, spec });

test("a custom resource is defined, established, defaulted, printed and explained", async () => {
  assert.match(await cluster.ok(["apply", "-f", "-"], JSON.stringify(widgets)), /created/);
  await cluster.ok(["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"]);
  await cluster.ok(["apply", "-f", "-"], widget("w1", { min: 1 }));
  assert.equal(await cluster.ok(["get", "wd", "w1", "-o", "jsonpath={.spec.mode} {.spec.max}"]), "a 5");
  assert.match(await cluster.ok(["get", "widgets", "-o", "wide"]), /^NAME +MODE +MAX +AGE\nw1 +a +5 +\d+s\n$/);
  assert.match(await cluster.ok(["explain", "widget.spec"]), /What the widget is for/);
  assert.match(await cluster.ok(["scale", "widget/w1", "--replicas=7"]), /scaled/);
  assert.equal(await cluster.ok(["get", "widget", "w1", "-o", "jsonpath={.spec.max}"]), "7");
});

test("a custom object takes merge patches, server-side apply and status of its own", async () => {
  await cluster.ok([
    "patch",
    "widget",
    "w1",
    "--subresource=status",
    "--type=merge",
    "-p",
    '{"status":{"replicas":2},"spec":{"min":4}}',
  ]);
  assert.equal(await cluster.ok(["get", "widget", "w1", "-o", "jsonpath={.status.replicas} {.spec.min}"]), "2 1");
  await cluster.ok(
    ["apply", "--server-side", "--field-manager=a", "-f", "-"],
    widget("w3", { min: 1, parts: [{ name: "x", size: 1 }] }),
  );
  await cluster.ok(
    ["apply", "--server-side", "--field-manager=b", "-f", "-"],
    widget("w3", { min: 1, parts: [{ name: "y" }] }),
  );
  assert.equal(await cluster.ok(["get", "widget", "w3", "-o", "jsonpath={.spec.parts[*].name}"]), "x y");
  const strategic = await cluster.kubectl(["patch", "widget", "w1", "--type=strategic", "-p", "{}"]);
  assert.notEqual(strategic.code, 0);
});

test("a custom object that breaks its schema or rules is refused in upstream's words", async () => {
  const cases: [object, RegExp][] = [
    [{ min: 6, max: 5 }, /spec: Invalid value: "object": min must be <= max/],
    [{ min: 1, mode: "zz" }, /spec.mode: Unsupported value: "zz": supported values: "a", "b"/],
    [{ max: 3 }, /spec.min: Required value/],
    [{ min: "x" }, /spec.min: Invalid value: "string": spec.min in body must be of type integer: "string"/],
    [{ min: -1 }, /spec.min: Invalid value: -1: spec.min in body should be greater than or equal to 0/],
    [{ min: 1, parts: [{ name: "a" }, { name: "a" }] }, /spec.parts\[1\]: Duplicate value: {"name":"a"}/],
    [
      { min: 1, parts: [{ name: "A1" }] },
      /spec.parts\[0\].name: Invalid value: "A1": spec.parts\[0\].name in body should match '\^\[a-z\]\+\$'/,
    ],
    [{ min: 1, bogus: true }, /unknown field "spec.bogus"/],
  ];
  for (const [spec, expected] of cases) {
    const ran = await cluster.kubectl(["create", "-f", "-"], widget("bad", spec));
    assert.match(ran.stderr, expected);
    assert.equal(ran.code, 1);
  }
  await cluster.ok(["apply", "-f", "-"], widget("w2", { min: 1, fixed: "x" }));
  const changed = await cluster.kubectl(["patch", "widget", "w2", "--type=merge", "-p", '{"spec":{"fixed":"y"}}']);
  assert.match(changed.stderr, /spec.fixed: Invalid value: "string": fixed cannot change/);
});

test("deleting a definition removes its objects and its kind", async () => {
  await cluster.ok(["delete", "crd", "widgets.example.com", "--timeout=20s"]);
  const ran = await cluster.kubectl(["get", "widgets"]);
  assert.match(ran.stderr, /the server doesn't have a resource type "widgets"|could not find the requested resource/);
  await until(
    "a definition again",
    async () => (await cluster.kubectl(["apply", "-f", "-"], JSON.stringify(widgets))).code === 0 || undefined,
  );
  await cluster.ok(["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"]);
  assert.equal(await cluster.ok(["get", "widgets", "-o", "name"]), "");
});

test("a broken definition is refused", async () => {
  const broken = structuredClone(widgets);
  broken.metadata.name = "wrong.example.com";
  broken.spec.versions[0]!.schema.openAPIV3Schema.properties.spec["x-kubernetes-validations"][0]!.rule = "self.min <=";
  const ran = await cluster.kubectl(["create", "-f", "-"], JSON.stringify(broken));
  assert.match(
    ran.stderr,
    /metadata.name: Invalid value: "wrong.example.com": must be spec.names.plural\+"."\+spec.group/,
  );
  assert.match(ran.stderr, /x-kubernetes-validations\[0\].rule: Invalid value: "self.min <=": compilation failed/);
});
