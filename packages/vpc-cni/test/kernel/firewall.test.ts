/** SNAT and marks as the kernel prints them after we wrote them: compared with the fact sheet's text, then healed and removed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { createNetns, deleteNetns, netnsPath } from "@underlay/kernel/netns";
import { HostFirewall } from "../../src/host-firewall.ts";
import type { FirewallInput } from "../../src/snat-rules.ts";

const netns = `ul-t${Math.random().toString(16).slice(2, 8)}-fw`;
let firewall: HostFirewall;
before(() => {
  createNetns(netns);
  firewall = new HostFirewall(netns);
});
after(() => {
  firewall.close();
  deleteNetns(netns);
});

const input: FirewallInput = {
  primaryLink: "eth0",
  primaryAddress: "10.42.97.5",
  vpcCidrs: ["10.42.0.0/16"],
  excludeCidrs: ["172.16.0.0/12"],
  externalSnat: false,
  nodePortSupport: true,
  randomizeSnat: "prng",
  connmark: 0x80,
  vethPrefix: "eni",
};

function run(...argv: string[]): string {
  const { stdout, stderr, status } = spawnSync("nsenter", [`--net=${netnsPath(netns)}`, ...argv], { encoding: "utf8" });
  assert.equal(status, 0, `${argv.join(" ")}: ${stderr}`);
  return stdout;
}

const rules = (table: string) =>
  run("iptables-nft-save", "-t", table)
    .split("\n")
    .filter((line) => line.startsWith("-A "));

test("set() writes upstream's chains and the connmark table, and a second time nothing", () => {
  assert.equal(firewall.set(input), true);
  assert.deepEqual(rules("nat"), [
    '-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0',
    '-A AWS-SNAT-CHAIN-0 -d 10.42.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN',
    '-A AWS-SNAT-CHAIN-0 -d 172.16.0.0/12 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN',
    '-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.42.97.5 --random-fully',
  ]);
  assert.deepEqual(rules("mangle"), [
    '-A PREROUTING -i eth0 -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80',
    '-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80',
    '-A PREROUTING -i vlan+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80',
  ]);
  assert.equal(
    run("nft", "list", "table", "ip", "aws-cni"),
    `table ip aws-cni {
	chain nat-prerouting {
		type nat hook prerouting priority dstnat + 10; policy accept;
		fib daddr type local return
		iifname "eni*" jump snat-mark
		ct mark & 0x00000080 == 0x00000080 meta mark set meta mark | 0x00000080
	}

	chain snat-mark {
		ip daddr 10.42.0.0/16 return
		ip daddr 172.16.0.0/12 return
		ct mark set ct mark | 0x00000080
	}
}
`,
  );
  assert.equal(firewall.set(input), false);
});

test("set() follows a new VPC CIDR and spares the rules of others", () => {
  run("iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE", "-s", "192.0.2.1");
  assert.equal(firewall.set({ ...input, vpcCidrs: ["10.42.0.0/16", "100.64.0.0/16"] }), true);
  assert.equal(rules("nat").filter((line) => line.includes("-d 100.64.0.0/16")).length, 1);
  assert.equal(rules("nat").filter((line) => line.includes("AWS-SNAT-CHAIN-0 ! -o vlan+")).length, 1);
  assert.equal(rules("nat").filter((line) => line.includes("192.0.2.1")).length, 1);
  assert.match(run("nft", "list", "table", "ip", "aws-cni"), /100\.64\.0\.0\/16 return/);
});

test("healConnmarkTable() puts back what somebody changed", () => {
  assert.equal(firewall.healConnmarkTable(), false);
  run("nft", "insert", "rule", "ip", "aws-cni", "snat-mark", "accept");
  assert.equal(firewall.healConnmarkTable(), true);
  assert.doesNotMatch(run("nft", "list", "table", "ip", "aws-cni"), /\taccept/);
  run("nft", "delete", "table", "ip", "aws-cni");
  assert.equal(firewall.healConnmarkTable(), true);
  assert.match(run("nft", "list", "table", "ip", "aws-cni"), /snat-mark/);
});

test("a restarted ipamd recognises its own rules", () => {
  const restarted = new HostFirewall(netns);
  restarted.set({ ...input, vpcCidrs: ["10.42.0.0/16", "100.64.0.0/16"] });
  assert.equal(rules("nat").filter((line) => line.includes('AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0')).length, 1);
  assert.equal(rules("mangle").length, 3);
  restarted.close();
});

test("external SNAT removes the chain and the connmark table, NodePort marks stay", () => {
  assert.equal(firewall.set({ ...input, externalSnat: true }), true);
  assert.deepEqual(rules("nat"), ["-A POSTROUTING -s 192.0.2.1/32 -j MASQUERADE"]);
  assert.doesNotMatch(run("iptables-nft-save", "-t", "nat"), /AWS-/);
  assert.equal(rules("mangle").length, 3);
  assert.doesNotMatch(run("nft", "list", "tables"), /aws-cni/);
});
