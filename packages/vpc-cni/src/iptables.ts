/** iptables-nft by its two batch commands: the only processes ipamd starts, at start and when a VPC CIDR changes. */
import { execFileSync } from "node:child_process";
import { runIn, type Netns } from "@underlay/kernel/netns";

type Table = "nat" | "mangle";

/** `iptables-nft-save -t <table>`. */
export function saveTable(netns: Netns | undefined, table: Table): string {
  return run(netns, "iptables-nft-save", ["-t", table]);
}

/** `iptables-nft-restore --noflush`: chains named in the text are emptied, everything else stays. */
export function restoreTable(netns: Netns | undefined, text: string): void {
  run(netns, "iptables-nft-restore", ["--noflush", "--wait", "5"], text);
}

/** iptables lives in sbin, which a container's PATH may lack. */
const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

function run(netns: Netns | undefined, program: string, argv: readonly string[], input = ""): string {
  return runIn(netns, () => execFileSync(program, argv, { encoding: "utf8", timeout: 10_000, input, env }));
}
