import assert from "node:assert/strict";
import { test } from "node:test";
import { diffIptablesTable, planFirewall, type FirewallInput } from "./snat-rules.ts";

const input: FirewallInput = {
  primaryLink: "eth0",
  primaryAddress: "10.42.97.5",
  vpcCidrs: ["10.42.0.0/16", "100.64.0.0/16"],
  excludeCidrs: ["172.16.0.0/12"],
  externalSnat: false,
  nodePortSupport: true,
  randomizeSnat: "prng",
  connmark: 0x80,
  vethPrefix: "eni",
};

const snatChain = [
  '-A AWS-SNAT-CHAIN-0 -d 10.42.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN',
  '-A AWS-SNAT-CHAIN-0 -d 100.64.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN',
  '-A AWS-SNAT-CHAIN-0 -d 172.16.0.0/12 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN',
  '-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.42.97.5 --random-fully',
];
const jump = '-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0';
const nodePort =
  '-A PREROUTING -i eth0 -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80';
const fromEni =
  '-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80';
const fromVlan =
  '-A PREROUTING -i vlan+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80';

test("planFirewall() is upstream's chains, comments and order", () => {
  const rules = planFirewall(input);
  assert.deepEqual(rules.natChains.get("AWS-SNAT-CHAIN-0"), snatChain);
  assert.deepEqual(rules.nat, [jump]);
  assert.deepEqual(rules.mangle, [nodePort, fromEni, fromVlan]);
  assert.equal(
    rules.nft,
    `table ip aws-cni {
	chain nat-prerouting {
		type nat hook prerouting priority -90; policy accept;
		fib daddr type local return
		iifname "eni*" jump snat-mark
		ct mark & 0x00000080 == 0x00000080 meta mark set meta mark | 0x00000080
	}

	chain snat-mark {
		ip daddr 10.42.0.0/16 return
		ip daddr 100.64.0.0/16 return
		ip daddr 172.16.0.0/12 return
		ct mark set ct mark | 0x00000080
	}
}
`,
  );
});

test("planFirewall() under external SNAT keeps only the NodePort marks", () => {
  const rules = planFirewall({ ...input, externalSnat: true });
  assert.equal(rules.natChains.size, 0);
  assert.deepEqual(rules.nat, []);
  assert.deepEqual(rules.mangle, [nodePort, fromEni, fromVlan]);
  assert.equal(rules.nft, undefined);
  assert.deepEqual(planFirewall({ ...input, externalSnat: true, nodePortSupport: false }).mangle, []);
  assert.deepEqual(planFirewall({ ...input, nodePortSupport: false }).mangle, [fromEni]);
});

test("planFirewall() randomises as asked and excludes everything without -d", () => {
  const body = (more: Partial<FirewallInput>) =>
    planFirewall({ ...input, ...more }).natChains.get("AWS-SNAT-CHAIN-0") ?? [];
  assert.match(body({ randomizeSnat: "hashrandom" }).at(-1) ?? "", /--to-source 10\.42\.97\.5 --random$/);
  assert.match(body({ randomizeSnat: "none" }).at(-1) ?? "", /--to-source 10\.42\.97\.5$/);
  assert.equal(
    body({ excludeCidrs: ["0.0.0.0/0"] })[2],
    '-A AWS-SNAT-CHAIN-0 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN',
  );
  assert.throws(() => planFirewall({ ...input, vpcCidrs: [] }), /no IPv4 CIDR/);
});

const nat = (lines: readonly string[]) => ["*nat", ":PREROUTING ACCEPT [0:0]", ...lines, "COMMIT", ""].join("\n");
const desired = (more: Partial<FirewallInput> = {}) => {
  const rules = planFirewall({ ...input, ...more });
  return { chains: rules.natChains, rules: rules.nat };
};

test("diffIptablesTable() writes everything into an empty table and nothing into an equal one", () => {
  assert.equal(
    diffIptablesTable("nat", nat([]), desired()),
    ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", ...snatChain, jump, "COMMIT", ""].join("\n"),
  );
  assert.equal(diffIptablesTable("nat", nat([":AWS-SNAT-CHAIN-0 - [0:0]", ...snatChain, jump]), desired()), "");
});

test("diffIptablesTable() replaces a chain whose CIDRs changed and leaves the jump and foreign rules", () => {
  const foreign = "-A POSTROUTING -j KUBE-POSTROUTING";
  const saved = nat([":AWS-SNAT-CHAIN-0 - [0:0]", foreign, jump, ...snatChain]);
  const text = diffIptablesTable("nat", saved, desired({ vpcCidrs: ["10.42.0.0/16"] }));
  assert.equal(
    text,
    ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", snatChain[0], snatChain[2], snatChain[3], "COMMIT", ""].join("\n"),
  );
});

test("diffIptablesTable() removes leftovers of other settings and old releases", () => {
  const saved = nat([
    ":AWS-SNAT-CHAIN-0 - [0:0]",
    ":AWS-SNAT-CHAIN-1 - [0:0]",
    ":AWS-CONNMARK-CHAIN-0 - [0:0]",
    jump,
    '-A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80',
  ]);
  assert.equal(
    diffIptablesTable("nat", saved, desired({ externalSnat: true })),
    [
      "*nat",
      jump.replace("-A", "-D"),
      '-D PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80',
      "-F AWS-SNAT-CHAIN-0",
      "-F AWS-SNAT-CHAIN-1",
      "-F AWS-CONNMARK-CHAIN-0",
      "-X AWS-SNAT-CHAIN-0",
      "-X AWS-SNAT-CHAIN-1",
      "-X AWS-CONNMARK-CHAIN-0",
      "COMMIT",
      "",
    ].join("\n"),
  );
});
