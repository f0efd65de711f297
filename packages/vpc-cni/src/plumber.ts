/**
 * What a call of the plugin does: ADD, DEL, CHECK, STATUS and GC over the datastore and the kernel.
 *
 * ADD: address (checkpoint first), wire, answer. DEL: rules and route, then the address, so that a crash in between leaves an
 * address assigned to a pod that is still there, never a rule for an address that is free.
 */
import type { Log } from "@underlay/log/log";
import type { PodKey } from "./checkpoint.ts";
import { parseCniRequest, type CniRequest, type PluginMessage } from "./cni-request.ts";
import { CniError, cniCode, formatError, formatResult } from "./cni-result.ts";
import type { Clock } from "./clock.ts";
import type { Datastore } from "./datastore.ts";
import type { HostNetwork } from "./host-network.ts";
import type { Metrics } from "./metrics.ts";
import { hostVethName, podSuffix } from "./names.ts";
import type { PolicyAgent } from "./policy-agent.ts";
import { findWireFault, plumbPod, unplumbPod, type PodWire } from "./pod-network.ts";

export type PlumberOptions = {
  readonly datastore: Datastore;
  readonly host: HostNetwork;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** One sentence on why the pool is empty, for the pod's event. */
  readonly whyEmpty: () => string;
  /** Asked after a pod is wired and after it is unwired; none: network policy is not this node's business. */
  readonly policy?: PolicyAgent | undefined;
  readonly onAssigned?: (request: CniRequest, address: string) => void;
  readonly onReleased?: (request: CniRequest, address: string) => void;
  readonly onEmpty?: (request: CniRequest, why: string) => void;
};

export class Plumber {
  readonly #o: PlumberOptions;
  /** Calls for one pod run one after another: a DEL must not overtake the ADD it undoes. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: PlumberOptions) {
    this.#o = options;
  }

  /** The answer to one line of the plugin's socket: exit code digit, then what the plugin prints. */
  async answer(line: string, netns: number | undefined): Promise<string> {
    let version = "1.1.0";
    try {
      const message = JSON.parse(line) as PluginMessage;
      if (message.command === "HEALTH") return "0";
      const request = parseCniRequest(message);
      version = request.version;
      const text = await this.#inTurn(`${request.pod.namespace}/${request.pod.name}`, () =>
        this.#serve(request, netns),
      );
      return `0${text}\n`;
    } catch (error) {
      const failure = error instanceof CniError ? error : new CniError(cniCode.pluginFailed, (error as Error).message);
      // A refusal explains itself; only what nobody foresaw needs its stack.
      const cause = error instanceof CniError ? {} : { err: error };
      this.#o.log.warn("CNI call failed", {
        code: failure.code,
        why: failure.message,
        details: failure.details,
        ...cause,
      });
      return `1${formatError(version, failure)}\n`;
    }
  }

  async #serve(request: CniRequest, netns: number | undefined): Promise<string> {
    switch (request.command) {
      case "ADD":
        return this.#add(request, netns);
      case "DEL":
        return this.#del(request);
      case "CHECK":
        return this.#check(request, netns);
      case "GC":
        return this.#collect(request);
      case "STATUS":
        return "";
    }
  }

  async #add(request: CniRequest, netns: number | undefined): Promise<string> {
    const { datastore, host, clock, log, metrics } = this.#o;
    if (netns === undefined) throw new CniError(cniCode.unknownContainer, "no network namespace came with the request");
    metrics.addRequests.inc();
    const started = performance.now();
    const pod = { namespace: request.pod.namespace, name: request.pod.name, interfacesCount: 1 };
    const given = datastore.assign(keyOf(request), pod, clock.now(), wallNs());
    if (!given) {
      const why = this.#o.whyEmpty();
      metrics.noAvailableAddresses.inc();
      this.#o.onEmpty?.(request, why);
      throw new CniError(cniCode.tryAgainLater, "add cmd: failed to assign an IP address to container", why);
    }
    const wire = wireOf(request, given);
    try {
      if (!given.repeated || findWireFault(host, netns, wire) !== undefined) await plumbPod(host, netns, wire);
    } catch (error) {
      metrics.delRequests.inc({ reason: "SetupNSFailed" });
      unplumbPod(host, given.address);
      datastore.release(keyOf(request), clock.now());
      throw new CniError(cniCode.pluginFailed, "add cmd: failed to setup network", (error as Error).message);
    }
    // As upstream: a failure fails the ADD and nothing is undone here, the runtime's DEL does that.
    await this.#o.policy?.enforce({ ...request.pod, address: given.address, hostVeth: wire.hostVeth });
    this.#o.onAssigned?.(request, given.address);
    log.info("added pod", {
      pod: `${pod.namespace}/${pod.name}`,
      address: given.address,
      eniId: given.eniId,
      deviceNumber: given.deviceNumber,
      hostVeth: wire.hostVeth,
      containerId: request.containerId,
      repeated: given.repeated,
      tookMs: Math.round((performance.now() - started) * 100) / 100,
    });
    return formatResult({
      version: request.version,
      hostVeth: wire.hostVeth,
      podSuffix: podSuffix(pod.namespace, pod.name),
      ifName: request.ifName,
      netns: request.netns,
      mtu: request.mtu,
      assignment: given,
    });
  }

  async #del(request: CniRequest): Promise<string> {
    const { datastore, host, clock, log, metrics } = this.#o;
    metrics.delRequests.inc({ reason: "PodDeleted" });
    const held = datastore.find(keyOf(request));
    if (!held) {
      log.info("nothing to delete, the pod is unknown", { containerId: request.containerId });
      return "";
    }
    unplumbPod(host, held.address);
    datastore.release(keyOf(request), clock.now());
    this.#o.onReleased?.(request, held.address);
    log.info("deleted pod", {
      pod: `${held.pod.namespace}/${held.pod.name}`,
      address: held.address,
      eniId: held.eniId,
    });
    const hostVeth = hostVethName(request.vethPrefix, held.pod.namespace, held.pod.name);
    await this.#o.policy?.release({ ...held.pod, address: held.address, hostVeth });
    return "";
  }

  #check(request: CniRequest, netns: number | undefined): string {
    const held = this.#o.datastore.find(keyOf(request));
    if (!held) throw new CniError(cniCode.unknownContainer, "check cmd: the container has no address");
    if (netns === undefined) throw new CniError(cniCode.unknownContainer, "no network namespace came with the request");
    const fault = findWireFault(this.#o.host, netns, wireOf(request, held, held.pod));
    if (fault !== undefined)
      throw new CniError(cniCode.pluginFailed, "check cmd: the pod is not wired as ADD left it", fault);
    return "";
  }

  /** The runtime names every attachment that still exists; the others' addresses come back. */
  #collect(request: CniRequest): string {
    const { datastore, host, clock, metrics } = this.#o;
    const keep = new Set(request.validAttachments.map((one) => `${one.containerId}/${one.ifName}`));
    for (const { key, address } of datastore.assignments()) {
      if (key.networkName !== request.networkName || keep.has(`${key.containerId}/${key.ifName}`)) continue;
      metrics.delRequests.inc({ reason: "GC" });
      unplumbPod(host, address);
      datastore.release(key, clock.now());
    }
    return "";
  }

  #inTurn<T>(pod: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(pod);
    if (!before) return this.#holdTurn(pod, work());
    return this.#holdTurn(pod, before.then(work, work));
  }

  #holdTurn<T>(pod: string, running: Promise<T>): Promise<T> {
    const settled = running.then(
      () => undefined,
      () => undefined,
    );
    this.#turns.set(pod, settled);
    void settled.then(() => {
      if (this.#turns.get(pod) === settled) this.#turns.delete(pod);
    });
    return running;
  }
}

function keyOf(request: CniRequest): PodKey {
  return { networkName: request.networkName, containerId: request.containerId, ifName: request.ifName };
}

function wireOf(
  request: CniRequest,
  given: { readonly address: string; readonly routeTable: number },
  pod: { readonly namespace: string; readonly name: string } = request.pod,
): PodWire {
  return {
    hostVeth: hostVethName(request.vethPrefix, pod.namespace, pod.name),
    ifName: request.ifName,
    address: given.address,
    routeTable: given.routeTable,
    mtu: request.mtu,
  };
}

function wallNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
