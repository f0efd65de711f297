import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCniRequest, type PluginMessage } from "./cni-request.ts";
import { formatResult, supportedVersions } from "./cni-result.ts";

const config = { cniVersion: "1.0.0", name: "aws-cni", type: "aws-cni", vethPrefix: "eni", mtu: "9001" };
const message = (more: Partial<PluginMessage> = {}, conf: object = {}): PluginMessage => ({
  command: "ADD",
  containerId: "8f1c",
  netns: "/run/netns/x",
  ifName: "eth0",
  args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=8f1c;K8S_POD_UID=u-1",
  config: JSON.stringify({ ...config, ...conf }),
  ...more,
});

test("parseCniRequest() reads environment, arguments and configuration", () => {
  const request = parseCniRequest(message());
  assert.deepEqual(request.pod, { namespace: "shop", name: "cart-0", uid: "u-1" });
  assert.deepEqual(
    [request.version, request.networkName, request.vethPrefix, request.mtu],
    ["1.0.0", "aws-cni", "eni", 9001],
  );
  assert.equal(parseCniRequest(message({}, { mtu: "big", vethPrefix: undefined })).mtu, 9001);
});

const bad: [string, PluginMessage, number][] = [
  ["stdin that is not JSON", message({ config: "{" }), 6],
  ["stdin that is a list", message({ config: "[]" }), 6],
  ["an unknown version", message({}, { cniVersion: "2.0.0" }), 1],
  ["no network name", message({}, { name: undefined }), 7],
  ["a bad network name", message({}, { name: "a b" }), 7],
  ["a long veth prefix", message({}, { vethPrefix: "toolong" }), 7],
  ["an unknown command", message({ command: "FLY" }), 4],
  ["CNI_ARGS without a pod", message({ args: "" }), 4],
  ["malformed CNI_ARGS", message({ args: "K8S_POD_NAME" }), 4],
  ["CHECK before 0.4.0", message({ command: "CHECK" }, { cniVersion: "0.3.1" }), 1],
  ["STATUS before 1.1.0", message({ command: "STATUS" }), 1],
  [
    "GC with a broken attachment",
    message({ command: "GC" }, { cniVersion: "1.1.0", "cni.dev/valid-attachments": [{}] }),
    7,
  ],
];
for (const [what, input, code] of bad) {
  test(`parseCniRequest() refuses ${what} with code ${code}`, () =>
    assert.throws(() => parseCniRequest(input), { code }));
}

const result = (version: (typeof supportedVersions)[number]) =>
  JSON.parse(
    formatResult({
      version,
      hostVeth: "eni0123456789a",
      podSuffix: "0123456789a",
      ifName: "eth0",
      netns: "/run/netns/x",
      mtu: 9001,
      assignment: { address: "10.42.97.12", deviceNumber: 1, routeTable: 2 },
    }),
  ) as unknown;

test("formatResult() has upstream's odd fields in every version's shape", () => {
  const interfaces = [
    { name: "eni0123456789a" },
    { name: "eth0", mac: "2", sandbox: "/run/netns/x" },
    { name: "dummy0123456789a", mac: "0", sandbox: "1" },
  ];
  for (const cniVersion of ["0.3.0", "0.3.1", "0.4.0"] as const) {
    assert.deepEqual(result(cniVersion), {
      cniVersion,
      interfaces,
      ips: [{ version: "4", interface: 1, address: "10.42.97.12/32" }],
      dns: {},
    });
  }
  assert.deepEqual(result("1.0.0"), {
    cniVersion: "1.0.0",
    interfaces,
    ips: [{ interface: 1, address: "10.42.97.12/32" }],
    dns: {},
  });
  assert.deepEqual(result("0.2.0"), { cniVersion: "0.2.0", ip4: { ip: "10.42.97.12/32" }, dns: {} });
  const [host, pod] = (result("1.1.0") as { interfaces: { mtu?: number }[] }).interfaces;
  assert.deepEqual([host?.mtu, pod?.mtu], [9001, 9001]);
});
