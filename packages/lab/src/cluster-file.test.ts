import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultPlan, parseClusterFile, withRuntime } from "./cluster-file.ts";

const head = "apiVersion: eksctl.io/v1alpha5\nkind: ClusterConfig\n";

test("parseClusterFile() fills eksctl's defaults", () => {
  const plan = parseClusterFile(
    `${head}metadata: { name: demo, region: eu-west-1 }\nmanagedNodeGroups: [{ name: ng, desiredCapacity: 1 }]\n`,
    "c.yaml",
  );
  assert.equal(plan.name, "demo");
  assert.deepEqual(plan.zones, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]);
  assert.equal(plan.nodeGroups[0]?.instanceType, "m5.large");
  assert.equal(plan.natGateway, "Single");
});

const refused: readonly [string, string, RegExp][] = [
  [
    "an unknown field",
    `${head}metadata: { name: demo }\nfargateProfiles: []\n`,
    /c\.yaml: fargateProfiles is not supported/,
  ],
  [
    "an unknown nested field",
    `${head}metadata: { name: demo }\nvpc: { nat: { gateway: Single, extra: 1 } }\n`,
    /vpc\.nat\.extra is not supported/,
  ],
  [
    "a wrong choice",
    `${head}metadata: { name: demo }\nvpc: { nat: { gateway: Many } }\n`,
    /vpc\.nat\.gateway is "Many", it must be one of Single, Disable/,
  ],
  ["another kind", "apiVersion: eksctl.io/v1alpha5\nkind: Cluster\n", /kind is "Cluster"/],
  ["a bad name", `${head}metadata: { name: "1 x" }\n`, /metadata\.name is "1 x"/],
  ["text that is not YAML", "a: [", /it is not YAML/],
  [
    "sizes that contradict",
    `${head}metadata: { name: demo }\nmanagedNodeGroups: [{ name: a, minSize: 3, desiredCapacity: 1 }]\n`,
    /managedNodeGroups\[0\]\.desiredCapacity is 1/,
  ],
];
for (const [what, text, message] of refused) {
  test(`parseClusterFile() refuses ${what} by its path`, () => {
    assert.throws(() => parseClusterFile(text, "c.yaml"), message);
  });
}

test("parseClusterFile() reads the vpc-cni add-on's environment", () => {
  const plan = parseClusterFile(
    `${head}metadata: { name: demo }\naddons: [{ name: vpc-cni, configurationValues: '{"env":{"WARM_IP_TARGET":"3"}}' }]\n`,
    "c.yaml",
  );
  assert.deepEqual(plan.cniEnv, { WARM_IP_TARGET: "3" });
});

test("parseClusterFile() reads the vpc-cni add-on's network policy switches, texts as the add-on's schema has them", () => {
  const read = (values: string) =>
    parseClusterFile(
      `${head}metadata: { name: demo }\naddons: [{ name: vpc-cni, configurationValues: '${values}' }]\n`,
      "c.yaml",
    ).networkPolicy;
  assert.deepEqual(read("{}"), { enabled: false, eventLogs: false });
  const on = '{"enableNetworkPolicy":"true","nodeAgent":{"enablePolicyEventLogs":"true"}}';
  assert.deepEqual(read(on), { enabled: true, eventLogs: true });
  assert.throws(() => read('{"enableNetworkPolicy":"yes"}'), /configurationValues\.enableNetworkPolicy/);
});

test("a node group names its container runtime, and --runtime names one for all", () => {
  const plan = parseClusterFile(
    `${head}metadata: { name: demo }\nmanagedNodeGroups: [{ name: a, containerRuntime: containerd }, { name: b }]\n`,
    "c.yaml",
  );
  assert.deepEqual(
    plan.nodeGroups.map(({ containerRuntime }) => containerRuntime),
    ["containerd", "underlay"],
  );
  assert.equal(withRuntime(defaultPlan, "containerd").nodeGroups[0]?.containerRuntime, "containerd");
  assert.equal(withRuntime(plan, undefined), plan);
});
