import { existsSync } from "node:fs";
import { KernelError } from "./errors.ts";
import { createNetns, deleteNetns } from "./netns.ts";
import { Nft } from "./nft.ts";
import { Rtnl } from "./rtnetlink.ts";
import { readSysctl } from "./sysctl.ts";

export interface Features {
  veth: boolean;
  macvlan: boolean;
  dummy: boolean;
  bridge: boolean;
  /** 802.1Q VLAN links. */
  vlan8021q: boolean;
  ipv6: boolean;
  nft: boolean;
  nftFib: boolean;
  conntrack: boolean;
  pidfd: boolean;
}

/** Tries each feature in a throw-away namespace: config files lie or are missing, creation does not. Needs root. */
export function probeKernel(): Features {
  const netns = `ul-probe-${process.pid}`;
  createNetns(netns);
  try {
    using rtnl = Rtnl.open(netns);
    rtnl.apply({ do: "set-link", name: "lo", up: true });
    const veth = works(() => rtnl.apply({ do: "add-veth", name: "v0", up: true, peer: { name: "v1" } }));
    return {
      veth,
      macvlan: veth && works(() => rtnl.apply({ do: "add-macvlan", name: "m0", link: "v0", mode: "private" })),
      vlan8021q: veth && works(() => rtnl.apply({ do: "add-vlan", name: "l0", link: "v0", id: 7 })),
      dummy: works(() => rtnl.apply({ do: "add-dummy", name: "d0" })),
      bridge: works(() => rtnl.apply({ do: "add-bridge", name: "b0" })),
      ipv6: works(() => rtnl.apply({ do: "add-address", address: "fd00::1/128", dev: "lo" })),
      nft: worksInNft(netns, "table ip p { chain c { type nat hook postrouting priority 100; }\n}"),
      nftFib: worksInNft(
        netns,
        "table ip q { chain c { type filter hook input priority 0; fib daddr type local accept; }\n}",
      ),
      conntrack: works(() => readSysctl(netns, "net.netfilter.nf_conntrack_max")),
      pidfd: existsSync("/proc/self/fdinfo") && kernelAtLeast(5, 3),
    };
  } finally {
    deleteNetns(netns);
  }
}

function works(attempt: () => unknown): boolean {
  try {
    attempt();
    return true;
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}

function worksInNft(netns: string, text: string): boolean {
  return works(() => {
    const nft = Nft.open(netns);
    try {
      nft.run(text);
    } finally {
      nft.close();
    }
  });
}

function kernelAtLeast(major: number, minor: number): boolean {
  const [a = 0, b = 0] = readSysctl(undefined, "kernel.osrelease").split(".").map(Number);
  return a > major || (a === major && b >= minor);
}
