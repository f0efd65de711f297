/**
 * A pod's wire: the veth pair, the pod side (address, gateway 169.254.1.1, static neighbour) and the node side (route,
 * rules). All by rtnetlink in this process, about half a millisecond a pod.
 *
 *   pod eth0 10.42.1.7/32 ── default via 169.254.1.1 (neighbour: the host veth's MAC) ── eni<hash> ── main table, rules 512/1536
 */
import { randomMac } from "@underlay/addr/mac";
import { isExists, isNotFound, KernelError } from "@underlay/kernel/errors";
import { Rtnl } from "@underlay/kernel/rtnetlink";
import type { Change } from "@underlay/kernel/rtnetlink-types";
import { writeSysctls } from "@underlay/kernel/sysctl";
import type { HostNetwork } from "./host-network.ts";
import { podRules, rulesOfPod } from "./ip-rules.ts";

export const podGateway = "169.254.1.1";

export type PodWire = {
  readonly hostVeth: string;
  readonly ifName: string;
  readonly address: string;
  readonly routeTable: number;
  readonly mtu: number;
};

/** Wires the pod whose namespace `netns` is. A pair of an earlier attempt under the same name is replaced. */
export async function plumbPod(host: HostNetwork, netns: number, wire: PodWire): Promise<void> {
  if (host.rtnl.linkIndex(wire.hostVeth) !== undefined) await deleteLink(host, wire.hostVeth);
  const pod = Rtnl.open(netns);
  try {
    const mac = randomMac(Math.random);
    pod.apply({
      do: "add-veth",
      name: wire.ifName,
      mtu: wire.mtu,
      peer: { name: wire.hostVeth, mac, mtu: wire.mtu, netns: host.netnsFd },
    });
    writeHostVethSysctls(host, wire.hostVeth);
    host.rtnl.apply(...hostSide(wire));
    pod.apply(...podSide(wire, mac));
  } finally {
    pod.close();
  }
  applyRules(host, wire);
}

/** Is the pod wired as `wire` says? What CHECK asks, and what makes a repeated ADD cheap. */
export function findWireFault(host: HostNetwork, netns: number, wire: PodWire): string | undefined {
  if (host.rtnl.linkIndex(wire.hostVeth) === undefined) return `the node has no link ${wire.hostVeth}`;
  const pod = Rtnl.open(netns);
  try {
    if (pod.linkIndex(wire.ifName) === undefined) return `the pod has no link ${wire.ifName}`;
    const addresses = pod.listAddresses({ family: 4, dev: wire.ifName }).map((one) => one.address);
    if (!addresses.includes(`${wire.address}/32`)) return `${wire.ifName} has no address ${wire.address}/32`;
    const gateways = pod.listRoutes({ family: 4 }).map((route) => route.via);
    if (!gateways.includes(podGateway)) return `the pod has no route by ${podGateway}`;
  } finally {
    pod.close();
  }
  const routed = host.rtnl
    .listRoutes({ family: 4 })
    .some((route) => route.dev === wire.hostVeth && route.to.split("/")[0] === wire.address);
  return routed ? undefined : `the node has no route to ${wire.address} by ${wire.hostVeth}`;
}

/**
 * Takes the pod's rules and route from the node. The veth goes with the pod's namespace: deleting it here would cost
 * 16 ms in the kernel.
 */
export function unplumbPod(host: HostNetwork, address: string): void {
  const rules = rulesOfPod(host.rtnl.listRules(4), address);
  const changes: Change[] = [
    ...rules.map((rule): Change => ({ do: "delete-rule", ...rule })),
    { do: "delete-route", to: `${address}/32`, scope: "link" },
  ];
  for (const error of host.rtnl.tryApply(changes)) if (error && !isNotFound(error)) throw error;
}

function hostSide(wire: PodWire): Change[] {
  return [
    { do: "set-link", name: wire.hostVeth, up: true },
    { do: "replace-route", to: `${wire.address}/32`, dev: wire.hostVeth, scope: "link" },
  ];
}

function podSide(wire: PodWire, gatewayMac: string): Change[] {
  return [
    { do: "set-link", name: wire.ifName, up: true },
    { do: "add-route", to: `${podGateway}/32`, dev: wire.ifName, scope: "link" },
    { do: "add-route", to: "default", via: podGateway, dev: wire.ifName },
    { do: "add-address", address: `${wire.address}/32`, dev: wire.ifName },
    { do: "replace-neighbour", to: podGateway, mac: gatewayMac, dev: wire.ifName },
  ];
}

/** Rules that are there already are a success: the kernel keeps them over any restart of ours. */
function applyRules(host: HostNetwork, wire: PodWire): void {
  const wanted = podRules(wire.address, wire.routeTable).map((rule): Change => ({ do: "add-rule", ...rule }));
  for (const error of host.rtnl.tryApply(wanted)) if (error && !isExists(error)) throw error;
}

async function deleteLink(host: HostNetwork, name: string): Promise<void> {
  try {
    await host.rtnl.applyInPool({ do: "delete-link", name });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Before the link goes up. Missing files (no IPv6) and a read-only /proc/sys are no reason to refuse a pod. */
function writeHostVethSysctls(host: HostNetwork, link: string): void {
  const of = (key: string) => `net/ipv6/conf/${link}/${key}`;
  try {
    writeSysctls(host.netns, { [of("accept_ra")]: 0, [of("accept_redirects")]: 1, [of("forwarding")]: 0 });
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
  }
}
