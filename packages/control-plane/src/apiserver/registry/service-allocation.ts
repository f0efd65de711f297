/**
 * Addresses and node ports of Services. What is taken is derived from the stored Services, so it cannot drift: the sets
 * are filled at start and kept with each write. Random choice from the upper band; the lower band (first 16…256
 * addresses, first 16…128 ports) is for values set by hand and used only when the upper one is full.
 */
import { randomInt } from "node:crypto";
import { parseCanonicalCidr } from "@underlay/addr/cidr";
import { findIpv4, formatIpv4 } from "@underlay/addr/ipv4";
import type { FieldError } from "../api-error.ts";
import type { AnyJson, ApiObject } from "../api-object.ts";
import type { ResourceInfo } from "../resource-info.ts";

const nodePorts = { first: 30000, size: 2768 };

export type ServiceAllocator = ReturnType<typeof createServiceAllocator>;

/** An allocator for one IPv4 block; `services` are the stored ones. */
export function createServiceAllocator(cidr: string, services: Iterable<ApiObject>) {
  const block = parseBlock(cidr);
  const addresses = new Map<number, string>();
  const ports = new Map<string, string>();

  const owner = (service: ApiObject): string => `${service.metadata.namespace}/${service.metadata.name}`;
  const note = (service: ApiObject): void => {
    const address = findIpv4(service["spec"]?.clusterIP ?? "");
    if (address !== undefined) addresses.set(address, owner(service));
    for (const port of portsOf(service)) ports.set(port, owner(service));
  };
  const forget = (service: ApiObject): void => {
    const address = findIpv4(service["spec"]?.clusterIP ?? "");
    if (address !== undefined && addresses.get(address) === owner(service)) addresses.delete(address);
    for (const port of portsOf(service)) if (ports.get(port) === owner(service)) ports.delete(port);
  };
  for (const service of services) note(service);

  function allocateAddress(service: ApiObject, old: ApiObject | undefined): FieldError[] {
    const { spec } = service;
    if (spec.type === "ExternalName") {
      for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"])
        delete spec[field];
      return [];
    }
    spec.clusterIP ||= spec.clusterIPs?.[0] || old?.["spec"].clusterIP || undefined;
    if (spec.clusterIP === undefined) {
      const chosen = choose(block.first, block.size, Math.min(Math.max(16, Math.floor(block.size / 16)), 256), (at) =>
        addresses.has(at),
      );
      if (chosen === undefined)
        return [
          { type: "Invalid", field: "spec.clusterIPs", value: [], detail: "failed to allocate IP 0: range is full" },
        ];
      spec.clusterIP = formatIpv4(chosen);
    } else if (spec.clusterIP !== "None") {
      const wanted = findIpv4(spec.clusterIP);
      const value = spec.clusterIPs ?? [spec.clusterIP];
      if (wanted === undefined)
        return [
          {
            type: "Invalid",
            field: "spec.clusterIPs[0]",
            value: spec.clusterIP,
            detail: "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
          },
        ];
      if (wanted < block.first || wanted >= block.first + block.size) {
        return [
          {
            type: "Invalid",
            field: "spec.clusterIPs",
            value,
            detail: `failed to allocate IP ${spec.clusterIP}: the provided IP (${spec.clusterIP}) is not in the valid range. The range of valid IPs is ${cidr}`,
          },
        ];
      }
      const taken = addresses.get(wanted);
      if (taken !== undefined && taken !== owner(service)) {
        return [
          {
            type: "Invalid",
            field: "spec.clusterIPs",
            value,
            detail: `failed to allocate IP ${spec.clusterIP}: provided IP is already allocated`,
          },
        ];
      }
    }
    spec.clusterIPs = [spec.clusterIP];
    spec.ipFamilies ??= ["IPv4"];
    spec.ipFamilyPolicy ??= "SingleStack";
    return [];
  }

  function allocatePorts(service: ApiObject, old: ApiObject | undefined): FieldError[] {
    const { spec } = service;
    const wants =
      spec.type === "NodePort" || (spec.type === "LoadBalancer" && spec.allocateLoadBalancerNodePorts !== false);
    const keeps = wants || spec.type === "LoadBalancer";
    const taken = new Set<string>();
    const errors: FieldError[] = [];
    const isTaken = (key: string): boolean => taken.has(key) || (ports.has(key) && ports.get(key) !== owner(service));
    (spec.ports ?? []).forEach((port: AnyJson, index: number) => {
      if (!keeps) {
        if (old === undefined || old["spec"].type === spec.type) return;
        delete port.nodePort;
        return;
      }
      const before = (old?.["spec"].ports ?? []).find(
        (p: AnyJson) => p.port === port.port && p.protocol === port.protocol,
      );
      port.nodePort ||= before?.nodePort || undefined;
      if (port.nodePort === undefined) {
        if (!wants) return;
        const shared = (spec.ports as AnyJson[]).find(
          (p) => p !== port && p.port === port.port && p.protocol !== port.protocol && p.nodePort,
        )?.nodePort;
        const chosen =
          shared !== undefined && !isTaken(`${port.protocol}/${shared}`)
            ? shared
            : choose(nodePorts.first, nodePorts.size, 86, (at) => isTaken(`${port.protocol}/${at}`));
        if (chosen === undefined)
          errors.push({ type: "Invalid", field: `spec.ports[${index}].nodePort`, value: 0, detail: "range is full" });
        else port.nodePort = chosen;
      } else if (port.nodePort < nodePorts.first || port.nodePort >= nodePorts.first + nodePorts.size) {
        errors.push({
          type: "Invalid",
          field: `spec.ports[${index}].nodePort`,
          value: port.nodePort,
          detail: "provided port is not in the valid range. The range of valid ports is 30000-32767",
        });
      } else if (isTaken(`${port.protocol}/${port.nodePort}`)) {
        errors.push({
          type: "Invalid",
          field: `spec.ports[${index}].nodePort`,
          value: port.nodePort,
          detail: "provided port is already allocated",
        });
      }
      taken.add(`${port.protocol}/${port.nodePort}`);
    });
    return errors.length > 0 ? errors : allocateHealthPort(service, old, isTaken);
  }

  function allocateHealthPort(
    service: ApiObject,
    old: ApiObject | undefined,
    isTaken: (key: string) => boolean,
  ): FieldError[] {
    const { spec } = service;
    if (spec.type !== "LoadBalancer" || spec.externalTrafficPolicy !== "Local") {
      delete spec.healthCheckNodePort;
      return [];
    }
    spec.healthCheckNodePort ||=
      old?.["spec"].healthCheckNodePort ||
      choose(nodePorts.first, nodePorts.size, 86, (at) => isTaken(`TCP/${at}`) || isTaken(`UDP/${at}`));
    return [];
  }

  return {
    /** Fills addresses and ports into `service`; errors when what it asks for is not to be had. */
    allocate(service: ApiObject, old: ApiObject | undefined, dryRun: boolean): FieldError[] {
      const errors = [...allocateAddress(service, old), ...allocatePorts(service, old)];
      if (errors.length === 0 && !dryRun) {
        if (old !== undefined) forget(old);
        note(service);
      }
      return errors;
    },
    release(info: ResourceInfo, service: ApiObject): void {
      if (info.storage === "/services") forget(service);
    },
    /** The n-th address of the block (1 = `kubernetes`, 10 = `kube-dns`). */
    nth: (n: number): string => formatIpv4(block.base + n),
  };
}

function portsOf(service: ApiObject): string[] {
  const { spec = {} } = service;
  const keys = (spec.ports ?? [])
    .filter((port: AnyJson) => port.nodePort)
    .map((port: AnyJson) => `${port.protocol}/${port.nodePort}`);
  return spec.healthCheckNodePort ? [...keys, `TCP/${spec.healthCheckNodePort}`] : keys;
}

function choose(first: number, size: number, reserved: number, isTaken: (at: number) => boolean): number | undefined {
  for (const [start, count] of [
    [first + reserved, size - reserved],
    [first, reserved],
  ] as const) {
    if (count <= 0) continue;
    const offset = randomInt(count);
    for (let i = 0; i < count; i++) {
      const at = start + ((offset + i) % count);
      if (!isTaken(at)) return at;
    }
  }
  return undefined;
}

function parseBlock(cidr: string): { base: number; first: number; size: number } {
  const { family, base, prefixLength } = parseCanonicalCidr(cidr);
  if (family !== 4)
    throw new Error(
      `Cannot use serviceCidr ${cidr}: Services have IPv4 addresses here; give a block like 172.20.0.0/16`,
    );
  return { base: Number(base), first: Number(base) + 1, size: 2 ** (32 - prefixLength) - 2 };
}
