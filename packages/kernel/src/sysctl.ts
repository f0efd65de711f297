import { readFileSync, writeFileSync } from "node:fs";
import { KernelError } from "./errors.ts";
import { describeNetns, runIn, type Netns } from "./netns.ts";

/** 'net.ipv4.ip_forward' or, where an interface name has dots, 'net/ipv4/conf/vlan.eth.1/rp_filter'. */
function pathOf(key: string): string {
  return `/proc/sys/${key.includes("/") ? key : key.replaceAll(".", "/")}`;
}

export function readSysctl(netns: Netns | undefined, key: string): string {
  return runIn(netns, () => named(`read sysctl ${key}`, netns, () => readFileSync(pathOf(key), "utf8").trim()));
}

export function writeSysctl(netns: Netns | undefined, key: string, value: string | number): void {
  writeSysctls(netns, { [key]: value });
}

/** Several values in the order given, with one visit to the namespace. */
export function writeSysctls(netns: Netns | undefined, values: Record<string, string | number>): void {
  runIn(netns, () => {
    for (const [key, value] of Object.entries(values)) {
      named(`set sysctl ${key}=${value}`, netns, () => writeFileSync(pathOf(key), `${value}`));
    }
  });
}

function named<T>(operation: string, netns: Netns | undefined, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code;
    if (errno === undefined) throw error;
    throw new KernelError({ operation, errno, netns: describeNetns(netns) });
  }
}
