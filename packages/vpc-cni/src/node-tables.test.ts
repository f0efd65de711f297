import assert from "node:assert/strict";
import { test } from "node:test";
import { diffRules, eniRule, nodeRules, podRules, priority, ruleText } from "./ip-rules.ts";
import { hostVethName, podSuffix, routeTableOf } from "./names.ts";
import { compareCidrs, compareWithMetadata } from "./reconcile.ts";
import { chooseSubnets } from "./subnet-choice.ts";
import { findEniLimits, maxPodsOf } from "./eni-limits.ts";

test("names are the first 11 digits of SHA-1 of namespace.pod", () => {
  assert.equal(podSuffix("kube-system", "coredns-0"), "8c346e38bf4");
  assert.equal(hostVethName("eni", "a", "b"), "eni69f6642c9d7");
  assert.equal(podSuffix("a", "b", 1), "da2b2718886");
});

test("rules read as `ip rule` prints them", () => {
  const settings = {
    connmark: 0x80,
    nodePortSupport: true,
    externalSnat: false,
    externalServiceCidrs: ["192.168.0.0/16"],
  };
  const rules = [
    ...nodeRules(settings),
    ...podRules("10.42.1.7", 254),
    ...podRules("10.42.1.8", 2),
    eniRule("10.42.1.6", 2),
  ];
  assert.deepEqual(rules.map(ruleText), [
    "1024: from all fwmark 0x80/0x80 lookup 254",
    "1535: from all to 192.168.0.0/16 lookup 254",
    "512: from all to 10.42.1.7/32 lookup 254",
    "512: from all to 10.42.1.8/32 lookup 254",
    "1536: from 10.42.1.8/32 lookup 2",
    "32765: from 10.42.1.6/32 lookup 2",
  ]);
  assert.deepEqual(
    nodeRules({ ...settings, nodePortSupport: false, externalSnat: true, externalServiceCidrs: [] }),
    [],
  );
});

test("diffRules() removes what is not wanted at its priorities, adds what is missing, and is then still", () => {
  const current = [
    { priority: 0, table: 255 },
    { priority: 512, to: "10.42.1.7", table: 254 },
    { priority: 512, to: "10.42.1.9/32", table: 254 },
    { priority: 1536, from: "10.42.1.9/32", table: 3 },
    { priority: 32766, table: 254 },
  ];
  const desired = [...podRules("10.42.1.7", 254), ...podRules("10.42.1.8", 2)];
  const owned = [priority.toPod, priority.fromPod];
  assert.deepEqual(
    diffRules(current, desired, owned).map((change) => `${change.do} ${ruleText(change as never)}`),
    [
      "delete-rule 512: from all to 10.42.1.9/32 lookup 254",
      "delete-rule 1536: from 10.42.1.9/32 lookup 3",
      "add-rule 512: from all to 10.42.1.8/32 lookup 254",
      "add-rule 1536: from 10.42.1.8/32 lookup 2",
    ],
  );
  assert.deepEqual(diffRules(desired, desired, owned), []);
});

test("route tables are main for the primary and device + 1 for others", () => {
  assert.deepEqual([0, 1, 2, 14].map(routeTableOf), [254, 2, 3, 15]);
});

test("limits and max pods of well-known types", () => {
  const of = (type: string) => {
    const limits = findEniLimits(type);
    return limits && maxPodsOf(limits);
  };
  assert.deepEqual(
    ["t3.nano", "t3.small", "t3.medium", "m5.large", "m5.xlarge", "m5.4xlarge", "c5.4xlarge", "m5.24xlarge"].map(of),
    [4, 11, 17, 29, 58, 234, 234, 737],
  );
  assert.equal(findEniLimits("z99.huge"), undefined);
});

test("chooseSubnets() follows tags, most free addresses first", () => {
  const subnet = (subnetId: string, availableAddresses: number, tags: Record<string, string> = {}) => ({
    subnetId,
    availableAddresses,
    tags,
  });
  const role = { "kubernetes.io/role/cni": "1" };
  const subnets = [
    subnet("primary", 5),
    subnet("untagged", 900),
    subnet("small", 10, role),
    subnet("big", 100, role),
    subnet("off", 1000, { "kubernetes.io/role/cni": "0" }),
    subnet("other", 500, { ...role, "cni.networking.k8s.aws/cluster/other": "shared" }),
    subnet("mine", 50, { ...role, "cni.networking.k8s.aws/cluster/shop": "shared" }),
  ];
  assert.deepEqual(chooseSubnets(subnets, "primary", "shop"), ["big", "mine", "small", "primary"]);
  assert.deepEqual(chooseSubnets(subnets, "primary", ""), ["other", "big", "mine", "small", "primary"]);
});

test("compareWithMetadata() names new, missing and changed ENIs", () => {
  const attached = (eniId: string, addresses: string[]) => ({
    eniId,
    mac: "",
    deviceNumber: 0,
    networkCard: 0,
    subnetId: "",
    subnetCidr: "",
    primaryAddress: "",
    cidrs: addresses,
  });
  const stored = (eniId: string, ...addresses: string[]) => ({
    eniId,
    cidrs: new Map(addresses.map((one) => [one, 1])),
  });
  const differences = compareWithMetadata(
    [stored("same", "a", "b"), stored("changed", "a"), stored("gone")],
    [attached("same", ["b", "a"]), attached("changed", ["c"]), attached("new", []), attached("unmanaged", [])],
    new Set(["unmanaged"]),
  );
  assert.deepEqual(
    [differences.newEnis.map((eni) => eni.eniId), differences.missingEnis, differences.changedEnis],
    [["new"], ["gone"], ["changed"]],
  );
});

test("compareCidrs() takes EC2's list but not what was freed a moment ago", () => {
  assert.deepEqual(compareCidrs(["a", "b"], ["b", "c", "d"], new Set(["d"])), { add: ["c"], remove: ["a"] });
});
