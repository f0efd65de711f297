import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync } from "node:fs";
import { formatSettingsDoc } from "./settings-doc.ts";
import { parseSettings } from "./settings.ts";

test("parseSettings() of IPv4 alone gives upstream's defaults", () => {
  const settings = parseSettings({ ENABLE_IPv4: "true" });
  assert.deepEqual(
    [settings.warmEniTarget, settings.warmIpTarget, settings.minimumIpTarget, settings.maxEni, settings.cooldownMs],
    [1, 0, 0, undefined, 30_000],
  );
  assert.deepEqual(
    [settings.eniMtu, settings.podMtu, settings.vethPrefix, settings.connmark],
    [9001, 9001, "eni", 0x80],
  );
  assert.deepEqual([settings.externalSnat, settings.nodePortSupport, settings.randomizeSnat], [false, true, "prng"]);
  assert.deepEqual(
    [settings.subnetDiscovery, settings.manageUntaggedEni, settings.httpTimeoutMs],
    [true, true, 10_000],
  );
  assert.deepEqual(settings.notes, []);
});

const tolerant: [Record<string, string>, (s: ReturnType<typeof parseSettings>) => unknown, unknown][] = [
  [{ WARM_ENI_TARGET: "-1" }, (s) => s.warmEniTarget, 1],
  [{ WARM_ENI_TARGET: "two" }, (s) => s.warmEniTarget, 1],
  [{ WARM_ENI_TARGET: "0" }, (s) => s.warmEniTarget, 0],
  [{ WARM_IP_TARGET: "-3" }, (s) => s.warmIpTarget, 0],
  [{ MAX_ENI: "0" }, (s) => s.maxEni, undefined],
  [{ MAX_ENI: "2" }, (s) => s.maxEni, 2],
  [{ IP_COOLDOWN_PERIOD: "0" }, (s) => s.cooldownMs, 0],
  [{ AWS_VPC_K8S_CNI_EXTERNALSNAT: "T" }, (s) => s.externalSnat, true],
  [{ AWS_VPC_K8S_CNI_EXTERNALSNAT: "yes" }, (s) => s.externalSnat, false],
  [
    { AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: "10.1.2.3/16, fd00::/8,x,192.168.0.0/24" },
    (s) => s.excludeSnatCidrs,
    ["10.1.0.0/16", "192.168.0.0/24"],
  ],
  [{ AWS_VPC_K8S_CNI_RANDOMIZESNAT: "maybe" }, (s) => s.randomizeSnat, "prng"],
  [{ AWS_VPC_K8S_CNI_CONNMARK: "0x100" }, (s) => s.connmark, 256],
  [{ AWS_VPC_K8S_CNI_CONNMARK: "010" }, (s) => s.connmark, 8],
  [{ AWS_VPC_K8S_CNI_CONNMARK: "0" }, (s) => s.connmark, 0x80],
  [{ AWS_VPC_ENI_MTU: "1500" }, (s) => [s.eniMtu, s.podMtu], [1500, 1500]],
  [{ AWS_VPC_ENI_MTU: "9001", POD_MTU: "1400" }, (s) => [s.eniMtu, s.podMtu], [9001, 1400]],
  [{ ADDITIONAL_ENI_TAGS: '{"team":"a","x.k8s.amazonaws.com/y":"b"}' }, (s) => s.additionalEniTags, { team: "a" }],
  [{ ADDITIONAL_ENI_TAGS: "team=a" }, (s) => s.additionalEniTags, {}],
  [
    { ENABLE_IMDS_ONLY_MODE: "true" },
    (s) => [s.disableNetworkResourceProvisioning, s.disableLeakedEniCleanup],
    [true, true],
  ],
  [
    { ENABLE_PREFIX_DELEGATION: "true", WARM_PREFIX_TARGET: "1" },
    (s) => [s.prefixDelegation, s.warmPrefixTarget],
    [true, 1],
  ],
  [
    { AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: "1" },
    (s) => [s.customNetworking, s.eniConfigLabel],
    [true, "k8s.amazonaws.com/eniConfig"],
  ],
  [{ HTTP_TIMEOUT: "3" }, (s) => s.httpTimeoutMs, 10_000],
  [{ ENABLE_PREFIX_DELEGATION: "false", NETWORK_POLICY_ENFORCING_MODE: "none" }, (s) => s.notes, []],
];
for (const [env, pick, expected] of tolerant) {
  test(`parseSettings() reads ${JSON.stringify(env)}`, () =>
    assert.deepEqual(pick(parseSettings({ ENABLE_IPv4: "true", ...env })), expected));
}

const refused: Record<string, string>[] = [
  { ENABLE_IPv6: "true" },
  { ENABLE_PREFIX_DELEGATION: "true" },
  { ENABLE_PREFIX_DELEGATION: "true", WARM_PREFIX_TARGET: "-1", WARM_IP_TARGET: "0" },
  { ENABLE_POD_ENI: "true" },
  { ENABLE_MULTI_NIC: "true" },
  { ENABLE_V6_EGRESS: "true" },
  { NETWORK_POLICY_ENFORCING_MODE: "standard" },
  { ENABLE_IPv4: "false" },
  { AWS_VPC_K8S_CNI_VETHPREFIX: "eth" },
  { AWS_VPC_K8S_CNI_VETHPREFIX: "toolong" },
  { AWS_VPC_ENI_MTU: "9002" },
  { POD_MTU: "500" },
  { IP_COOLDOWN_PERIOD: "-1" },
  { IP_COOLDOWN_PERIOD: "soon" },
  { AWS_VPC_K8S_PLUGIN_LOG_FILE: "stdout" },
];
for (const env of refused) {
  test(`parseSettings() refuses ${JSON.stringify(env)} by its name`, () => {
    assert.throws(
      () => parseSettings({ ENABLE_IPv4: "true", ...env }),
      (error: { code: string; hint: string; facts: { variable: string } }) =>
        error.code === "settings-refused" && error.facts.variable === Object.keys(env)[0],
    );
  });
}

test("parseSettings() of an empty environment refuses: the code's default of ENABLE_IPv4 is false, the add-on sets it", () => {
  assert.throws(() => parseSettings({}), {
    message: "Cannot start aws-node with ENABLE_IPv4: IPv4 is off and IPv6 is not on",
  });
});

test("docs/settings.md is what the table says (node tools/write-settings-doc.ts)", () => {
  assert.equal(readFileSync(new URL("../../../docs/settings.md", import.meta.url), "utf8"), formatSettingsDoc());
});
