/** What this machine has and lacks, each finding with what to do about it. Changes nothing. */
import { execFileSync } from "node:child_process";
import { globSync } from "node:fs";
import { listNetns } from "@underlay/kernel/netns";
import { probeKernel } from "@underlay/kernel/probe";
import { awsReadsEndpointVariable } from "./access.ts";
import { listClusters, placesOf, readRecord } from "./places.ts";

export type Finding = {
  readonly what: string;
  readonly state: "ok" | "warn" | "fail";
  readonly detail: string;
  readonly hint?: string;
};

/** Kernel features nothing works without, and what uses the others. */
const required = ["veth", "nft", "conntrack"] as const;
const optional = {
  vlan8021q: "branch ENIs use a stand-in without it",
  ipv6: "IPv6 modes need it",
  dummy: "nothing yet needs it",
} as const;

export function examineMachine(root: string): Finding[] {
  return [...kernelFindings(), ...packageFindings(), kubectlFinding(), awsFinding(), ...clusterFindings(root)];
}

/** The findings that forbid `up`. */
export function kernelFindings(): Finding[] {
  if (process.getuid?.() !== 0) return [{ what: "root", state: "fail", detail: "not root", hint: "Run with sudo" }];
  const features = probeKernel();
  const findings: Finding[] = required.map((name) =>
    features[name]
      ? { what: `kernel: ${name}`, state: "ok", detail: "present" }
      : {
          what: `kernel: ${name}`,
          state: "fail",
          detail: "missing",
          hint: `This kernel cannot create ${name}; use one that can (Debian's stock kernel does)`,
        },
  );
  for (const [name, use] of Object.entries(optional)) {
    const present = features[name as keyof typeof optional];
    findings.push({
      what: `kernel: ${name}`,
      state: present ? "ok" : "warn",
      detail: present ? "present" : `missing (${use})`,
    });
  }
  return findings;
}

function packageFindings(): Finding[] {
  const files: Record<string, string> = {
    luajit: "/usr/bin/luajit",
    libnftables1: "/usr/lib/*/libnftables.so.1",
    iptables: "/usr/sbin/iptables-nft",
    "containernetworking-plugins": "/usr/lib/cni/portmap",
  };
  return Object.entries(files).map(([name, pattern]) =>
    globSync(pattern).length > 0
      ? { what: `package: ${name}`, state: "ok", detail: "installed" }
      : {
          what: `package: ${name}`,
          state: "fail",
          detail: "missing",
          hint: `apt-get install ${name} (./underlay up does it)`,
        },
  );
}

function kubectlFinding(): Finding {
  const text = output("kubectl", ["version", "--client", "-o", "json"]);
  if (text === undefined)
    return { what: "kubectl", state: "warn", detail: "not installed", hint: "Any kubectl from 1.30 on" };
  const version = JSON.parse(text).clientVersion as { major: string; minor: string; gitVersion: string };
  return Number.parseInt(version.minor, 10) >= 30
    ? { what: "kubectl", state: "ok", detail: version.gitVersion }
    : {
        what: "kubectl",
        state: "warn",
        detail: `${version.gitVersion} is too old for exec and port-forward over WebSocket`,
        hint: "Use kubectl 1.30 or later",
      };
}

function awsFinding(): Finding {
  const text = output("aws", ["--version"]);
  if (text === undefined)
    return { what: "aws", state: "warn", detail: "not installed", hint: "apt-get install awscli" };
  const detail = text.trim().split(" ")[0] ?? "";
  return awsReadsEndpointVariable(text)
    ? { what: "aws", state: "ok", detail }
    : {
        what: "aws",
        state: "ok",
        detail: `${detail} does not read AWS_ENDPOINT_URL; 'underlay env' puts a shim before it`,
      };
}

function clusterFindings(root: string): Finding[] {
  const known = listClusters(root).map((name) => ({ name, id: readRecord(placesOf(root, name))?.clusterId }));
  const findings: Finding[] = known.map(({ name, id }) => {
    const count = listNetns(`ul-${id}-`).length;
    return { what: `cluster: ${name}`, state: "ok", detail: `id ${id}, ${count} network namespaces` };
  });
  const strays = listNetns("ul-").filter((netns) => !known.some(({ id }) => netns.startsWith(`ul-${id}-`)));
  if (strays.length > 0) {
    findings.push({
      what: "leftovers",
      state: "warn",
      detail: `${strays.length} network namespaces belong to no cluster with state under ${root}: ${strays.slice(0, 3).join(", ")}`,
      hint: "If nothing of yours uses another UNDERLAY_STATE: ip netns del NAME",
    });
  }
  return findings;
}

function output(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, [...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch {
    return undefined;
  }
}
