/**
 * Policy events in the words of upstream's agent: what was decided about the first packet of a connection of an isolated pod.
 *
 * A line carries agent 1.4's message and the keys of older agents ("Src IP", …, "Verdict") side by side: dashboards and
 * workshops read either.
 */
import { ipFromBytes } from "@underlay/addr/ip";
import type { LoggedPacket } from "@underlay/kernel/nflog";

export type FlowEvent = {
  readonly verdict: "ACCEPT" | "DENY";
  readonly direction: "ingress" | "egress";
  readonly family: 4 | 6;
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  /** Length of the whole packet, by its header. */
  readonly bytes: number;
};

const protocolNames: Readonly<Record<number, string>> = { 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMP", 132: "SCTP" };

/** undefined when the packet is not one of ours or too short to read. */
export function readFlowEvent({ prefix, family, payload }: LoggedPacket): FlowEvent | undefined {
  const [, verdict, direction] = /^np (ACCEPT|DENY) (ingress|egress)/.exec(prefix) ?? [];
  if (verdict === undefined || payload.length < (family === 4 ? 20 : 40)) return undefined;
  const isV4 = family === 4;
  const protocol = payload[isV4 ? 9 : 6] as number;
  const header = isV4 ? ((payload[0] as number) & 15) * 4 : 40;
  const hasPorts = (protocol === 6 || protocol === 17 || protocol === 132) && payload.length >= header + 4;
  return {
    verdict: verdict as FlowEvent["verdict"],
    direction: direction as FlowEvent["direction"],
    family,
    protocol: protocolNames[protocol] ?? "UNKNOWN",
    source: ipFromBytes(isV4 ? payload.subarray(12, 16) : payload.subarray(8, 24)),
    destination: ipFromBytes(isV4 ? payload.subarray(16, 20) : payload.subarray(24, 40)),
    sourcePort: hasPorts ? payload.readUInt16BE(header) : 0,
    destinationPort: hasPorts ? payload.readUInt16BE(header + 2) : 0,
    bytes: isV4 ? payload.readUInt16BE(2) : 40 + payload.readUInt16BE(4),
  };
}

/** The log line without level and time. */
export function formatFlowEvent(event: FlowEvent): Record<string, unknown> {
  const { source, sourcePort, destination, destinationPort, protocol, verdict, direction } = event;
  const ends = `Flow Info: Src IP: ${source} Src Port: ${sourcePort} Dest IP: ${destination} Dest Port: ${destinationPort}`;
  const decision =
    event.family === 4
      ? `Proto ${protocol} Verdict ${verdict} Direction ${direction}, Tier NETWORK_POLICY`
      : `Proto: ${protocol} Verdict: ${verdict} Direction: ${direction} Tier: NETWORK_POLICY`;
  return {
    logger: "ebpf-client",
    msg: `${ends} ${decision}`,
    "Src IP": source,
    "Src Port": sourcePort,
    "Dest IP": destination,
    "Dest Port": destinationPort,
    Proto: protocol,
    Verdict: verdict,
  };
}
