/**
 * Connections that a change of policy newly denies: which entries of the connection table have to go. Pure.
 *
 * An entry is judged as its first packet would be in the forward hook: original source, translated destination. What the node
 * itself takes part in is never judged, nor a pod's talk with itself.
 */
import { parseIp } from "@underlay/addr/ip";
import type { Flow } from "@underlay/kernel/conntrack";
import { findPorts } from "./address-space.ts";
import type { NodePlan, PodPlan, Profile } from "./plan.ts";
import { allows } from "./port-set.ts";

/** Protocols with ports; of the others only a whole-protocol allowance admits anything. */
const withPorts = new Set([6, 17, 33, 132, 136]);

/** Does the plan deny what this flow does? `podAt` finds an isolated pod of this node by its address. */
export function isDenied(
  flow: Flow,
  podAt: (address: string) => PodPlan | undefined,
  isOwnAddress: (address: string) => boolean,
): boolean {
  const source = flow.original.src;
  const destination = flow.reply.src;
  if (source === destination || isOwnAddress(source) || isOwnAddress(destination)) return false;
  const port = withPorts.has(flow.proto) ? (flow.reply.srcPort ?? 0) : undefined;
  return (
    denies(podAt(source)?.egress, destination, flow.proto, port) ||
    denies(podAt(destination)?.ingress, source, flow.proto, port)
  );
}

/** Does the profile deny talk with this peer? No profile denies nothing. */
export function denies(
  profile: Profile | undefined,
  peer: string,
  protocol: number,
  port: number | undefined,
): boolean {
  if (profile === undefined) return false;
  const { family, value } = parseIp(peer);
  const ports = findPorts(family === 4 ? profile.space4 : profile.space6, value);
  return ports === undefined || !allows(ports, protocol, port);
}

/** Pods to which `to` may deny what `from` allowed: only their flows need a look, and a look at the connection table is dear. */
export function tightened(from: NodePlan, to: NodePlan): PodPlan[] {
  const lost = new Map<Profile, boolean>();
  const isTighter = (before: Profile | undefined, after: Profile | undefined): boolean => {
    if (after === undefined || before === after) return false;
    if (before?.id !== after.id) return true;
    const known = lost.get(after) ?? losesElements(before, after);
    lost.set(after, known);
    return known;
  };
  return [...to.pods].flatMap(([veth, after]) => {
    const before = from.pods.get(veth);
    const moved = before !== undefined && before.pod.addresses.join() !== after.pod.addresses.join();
    return moved || isTighter(before?.ingress, after.ingress) || isTighter(before?.egress, after.egress) ? [after] : [];
  });
}

function losesElements(before: Profile, after: Profile): boolean {
  return [[before.space4, after.space4] as const, [before.space6, after.space6] as const].some(([old, current]) => {
    const now = new Map(current.intervals.map((one) => [one.start, one]));
    return old.intervals.some(({ start, end, ports }) => {
      const same = now.get(start);
      return same === undefined || same.end !== end || same.ports.key !== ports.key;
    });
  });
}
