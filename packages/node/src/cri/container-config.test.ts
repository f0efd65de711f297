import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pod } from "@underlay/kube/objects";
import { standardPlaces } from "../kubelet/places.ts";
import type { ShimContainer } from "../kubelet/shim-client.ts";
import { containerConfig, resources, sandboxConfig } from "./container-config.ts";

const pod = {
  metadata: {
    name: "p",
    namespace: "n",
    uid: "u",
    annotations: { "kubernetes.io/egress-bandwidth": "1M", other: "x" },
  },
  spec: {
    containers: [
      {
        name: "c",
        image: "i",
        ports: [{ containerPort: 80, hostPort: 8080, protocol: "UDP" }],
        resources: { limits: { memory: "64Mi" } },
      },
    ],
  },
} as unknown as Pod;
const spec: ShimContainer = {
  id: "x",
  name: "c",
  attempt: 2,
  image: "i",
  argv: ["a", "b"],
  env: ["A=1=2"],
  cwd: "/w",
  dir: "/d",
  skeleton: "/s",
  uid: 5,
  gid: 6,
  groups: [6, 7],
  capabilities: [12, 13],
  mounts: [{ source: "/v", target: "/m", readOnly: true, propagation: "HostToContainer" }],
  logPath: "/var/log/pods/n_p_u/c/2.log",
};

test("a sandbox carries the pod's ports, bandwidth and cgroup", () => {
  const config = sandboxConfig(pod, standardPlaces, 0);
  assert.deepEqual(config.portMappings, [{ protocol: "UDP", containerPort: 80, hostPort: 8080 }]);
  assert.deepEqual(config.annotations, { "kubernetes.io/egress-bandwidth": "1M" });
  assert.equal(config.linux.cgroupParent, "/kubepods/podu");
  assert.equal(config.logDirectory, "/var/log/pods/n_p_u");
  assert.deepEqual(config.linux.securityContext.namespaceOptions, { network: "POD", pid: "CONTAINER", ipc: "POD" });
});

test("a container is what the kubelet planned, word for word", () => {
  const config = containerConfig(pod, spec, { reference: "i:1", mounts: [{ source: "/usr", target: "/usr" }] });
  assert.deepEqual(config.command, ["a", "b"]);
  assert.deepEqual(config.envs, [{ key: "A", value: "1=2" }]);
  assert.deepEqual(config.mounts, [
    { hostPath: "/usr", containerPath: "/usr", readonly: true },
    { hostPath: "/v", containerPath: "/m", readonly: true, propagation: "PROPAGATION_HOST_TO_CONTAINER" },
  ]);
  assert.equal(config.logPath, "c/2.log");
  assert.deepEqual(config.linux.securityContext.capabilities, {
    addCapabilities: ["NET_ADMIN", "NET_RAW"],
    dropCapabilities: ["ALL"],
  });
  assert.equal(config.linux.resources.memoryLimitInBytes, 64 << 20);
});

const cases: readonly [string, Parameters<typeof resources>[0], ReturnType<typeof resources>][] = [
  ["nothing asked", undefined, { cpuShares: 2 }],
  ["a request", { requests: { cpu: "250m" } }, { cpuShares: 256 }],
  [
    "a limit stands for the request",
    { limits: { cpu: "500m" } },
    { cpuShares: 512, cpuPeriod: 100_000, cpuQuota: 50_000 },
  ],
  ["a tiny limit", { limits: { cpu: "1m" } }, { cpuShares: 2, cpuPeriod: 100_000, cpuQuota: 1000 }],
];
for (const [name, asked, given] of cases) test(`resources: ${name}`, () => assert.deepEqual(resources(asked), given));
