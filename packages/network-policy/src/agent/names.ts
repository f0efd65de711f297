/** The name the VPC CNI gives the host end of a pod's veth: a contract between plugin and agent, as upstream's eBPF agent has it. */
import { createHash } from "node:crypto";

export function hostVethName(prefix: string, namespace: string, name: string): string {
  return prefix + createHash("sha1").update(`${namespace}.${name}`).digest("hex").slice(0, 11);
}
