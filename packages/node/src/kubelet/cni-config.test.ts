import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNetwork, pluginInput, resultAddresses } from "./cni-config.ts";

const list = parseNetwork(
  JSON.stringify({
    cniVersion: "1.0.0",
    name: "aws-cni",
    plugins: [
      { type: "aws-cni", mtu: "9001" },
      { type: "portmap", capabilities: { portMappings: true }, snat: true },
    ],
  }),
);

test("each plugin gets its own part, the list's name and version, and the result before it", () => {
  const ports = [{ hostPort: 80, containerPort: 8080, protocol: "tcp" }];
  const capabilities = { portMappings: ports, bandwidth: { ingressRate: 1 } };
  const [first, second] = list.plugins;
  assert.ok(first && second);
  assert.deepEqual(pluginInput(list, first, capabilities, undefined), {
    type: "aws-cni",
    mtu: "9001",
    name: "aws-cni",
    cniVersion: "1.0.0",
  });
  assert.deepEqual(pluginInput(list, second, capabilities, { ips: [] }), {
    type: "portmap",
    snat: true,
    name: "aws-cni",
    cniVersion: "1.0.0",
    runtimeConfig: { portMappings: ports },
    prevResult: { ips: [] },
  });
});

test("a single-plugin file is a list of one", () => {
  assert.deepEqual(
    parseNetwork('{"name":"n","cniVersion":"0.4.0","type":"bridge"}').plugins.map((p) => p.type),
    ["bridge"],
  );
});

for (const text of ["{}", '{"name":"n","plugins":[]}', '{"name":"n","plugins":[{}]}', "nonsense"]) {
  test(`parseNetwork() refuses ${text}`, () => assert.throws(() => parseNetwork(text)));
}

test("resultAddresses() takes addresses without prefix lengths", () => {
  assert.deepEqual(resultAddresses({ ips: [{ address: "10.42.1.9/32" }, { address: "fd00::9/128" }] }), [
    "10.42.1.9",
    "fd00::9",
  ]);
  assert.deepEqual(resultAddresses({}), []);
});
