/**
 * ipamd of one node: settings, the two wires and a kernel in; addresses for pods out. Order of start as upstream:
 * limits → VPC CIDRs and host network → ENIs → checkpoint → pod rules → first fill → the plugin's socket → loops.
 *
 * Nothing here reads the environment or the wall clock's speed; a process may host several (tests do).
 * Read next: `pool.ts` (size), `plumber.ts` (pods), `datastore.ts` (who has what).
 */
import type { Ec2Client } from "@underlay/aws/ec2-client";
import type { ImdsClient } from "@underlay/aws/imds-client";
import type { Netns } from "@underlay/kernel/netns";
import { writeSysctl } from "@underlay/kernel/sysctl";
import { serveUnixFd } from "@underlay/kernel/unix-fd";
import type { Log } from "@underlay/log/log";
import { checkpointFile, forgiveTornCheckpoint, type CheckpointStore } from "./checkpoint.ts";
import type { CniRequest } from "./cni-request.ts";
import type { Clock } from "./clock.ts";
import { Datastore } from "./datastore.ts";
import { Ec2Enis } from "./ec2-enis.ts";
import type { EniConfigAnswer } from "./eni-config.ts";
import { maxPodsOf, readEniLimits, type EniLimits } from "./eni-limits.ts";
import { HostFirewall } from "./host-firewall.ts";
import { HostNetwork } from "./host-network.ts";
import { readInstance, readSecurityGroups, readVpcCidrs } from "./instance-metadata.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { podSuffix } from "./names.ts";
import { Plumber } from "./plumber.ts";
import { Pool } from "./pool.ts";
import type { Settings } from "./settings.ts";
import type { FirewallInput } from "./snat-rules.ts";

/** What ipamd takes from Kubernetes; every part may be unknown while the API server is away. */
export type NodeFacts = {
  maxPods(): number | undefined;
  isSchedulable(): boolean;
  /** The ENIConfig of this node, for custom networking. */
  eniConfig(): EniConfigAnswer;
  /** A Warning on aws-node's own pod. */
  warn(reason: string, message: string): void;
  /** A Warning on the pod that could not get an address. */
  warnPod(namespace: string, name: string, uid: string, reason: string, message: string): void;
  annotatePodAddress(namespace: string, name: string, address: string): void;
  clearPodAddress(namespace: string, name: string, address: string): void;
};

export type IpamdOptions = {
  readonly settings: Settings;
  readonly ec2: Ec2Client;
  readonly imds: ImdsClient;
  readonly node: NodeFacts;
  readonly clock: Clock;
  readonly log: Log;
  /** The node's network namespace; left out: this process's own. */
  readonly netns?: Netns;
  readonly checkpoint?: CheckpointStore;
  readonly signal: AbortSignal;
};

export type Ipamd = {
  readonly datastore: Datastore;
  readonly pool: Pool;
  readonly metrics: Metrics;
  readonly eniConfig: () => EniConfigAnswer;
  /** Ends when the signal fires: no new calls, those under way are answered. */
  readonly done: Promise<void>;
};

const passEveryMs = 5_000;
const watchEveryMs = 30_000;

/** Brings the node up and serves the plugin. Resolves once a pod can be added. */
export async function startIpamd(options: IpamdOptions): Promise<Ipamd> {
  const { settings, ec2, imds, node, clock, log, signal } = options;
  const metrics = createMetrics();
  const instance = await readInstance(imds);
  const host = new HostNetwork({ clock, log, ...(options.netns === undefined ? {} : { netns: options.netns }) });

  const primary = host.setUpPrimary(instance.primaryMac, settings.eniMtu);
  setRpFilter(options.netns, primary.name, log);
  const firewallFor = (vpcCidrs: readonly string[]): FirewallInput => ({
    primaryLink: primary.name,
    primaryAddress: instance.primaryAddress,
    vpcCidrs,
    excludeCidrs: settings.excludeSnatCidrs,
    externalSnat: settings.externalSnat,
    nodePortSupport: settings.nodePortSupport,
    randomizeSnat: settings.randomizeSnat,
    connmark: settings.connmark,
    vethPrefix: settings.vethPrefix,
  });
  const firewall = new HostFirewall(options.netns);
  let vpcCidrs = await readVpcCidrs(imds, instance.primaryMac);
  if (firewall.set(firewallFor(vpcCidrs))) {
    // The first NAT rule makes the kernel track connections that are already open, as new ones: their source port changes
    // and the other end resets them. Nothing but IMDS was asked so far.
    imds.close();
  }
  const limits = await readEniLimits(instance.instanceType, ec2);
  metrics.connmarkBackend.set({ backend: "nft" }, 1);

  const warned = new Set<string>();
  const enis = new Ec2Enis({
    ec2,
    clock,
    log,
    metrics,
    instance,
    settings,
    onUnauthorized(action, message) {
      if (warned.has(action)) return;
      warned.add(action);
      node.warn(
        "MissingIAMPermissions",
        `Unauthorized operation: failed to call ${action} due to missing permissions. ${message}`,
      );
    },
  });
  const podLink = /^.{0,4}[0-9a-f]{11}$/;
  const checkpoint = forgiveTornCheckpoint(options.checkpoint ?? checkpointFile(settings.backingStore), () =>
    [...host.linkNames()].some((name) => podLink.test(name)),
  );
  const prefixes = usesPrefixes(settings, instance.instanceType, limits, log);
  const datastore = new Datastore(checkpoint, settings.cooldownMs, {
    prefixes,
    primaryUnused: settings.customNetworking,
  });
  const pool = new Pool({
    datastore,
    enis,
    imds,
    host,
    clock,
    settings,
    limits,
    instance,
    log,
    metrics,
    maxPods: () => node.maxPods() ?? maxPodsOf(limits, { prefixes, customNetworking: settings.customNetworking }),
    eniConfig: () => node.eniConfig(),
    isSchedulable: () => !signal.aborted && node.isSchedulable(),
    onOutOfAddresses: (sentence) =>
      node.warn("InsufficientFreeAddressesInSubnet", `${instance.instanceId}: ${sentence}`),
  });

  await pool.discover();
  restore(datastore, host, settings, log);
  await pool.drain();
  await fillPool(options, pool, datastore);
  pool.updateGauges();

  const plumber = new Plumber({
    datastore,
    host,
    clock,
    log,
    metrics,
    whyEmpty: () => pool.because,
    onEmpty: ({ pod }, why) =>
      node.warnPod(pod.namespace, pod.name, pod.uid, "FailedToAssignIP", `No address is free on this node: ${why}`),
    ...(settings.annotatePodIp ? annotations(node) : {}),
  });
  const server = await serveUnixFd({
    path: settings.plumberSocket,
    mode: 0o660,
    handle: (request, fd) => plumber.answer(request.toString("utf8"), fd),
    onError: (error) => log.warn("a plugin's connection failed", { err: error }),
  });
  log.info("serving the CNI plugin", { socket: settings.plumberSocket, instanceId: instance.instanceId });

  const loops = [
    repeat(clock, passEveryMs, signal, log, "pool", () => pool.pass()),
    repeat(clock, watchEveryMs, signal, log, "vanished-pods", async () => pool.reclaimVanished()),
    repeat(clock, watchEveryMs, signal, log, "vpc-cidrs", async () => {
      const read = await readVpcCidrs(imds, instance.primaryMac);
      if (read.length === 0) return;
      const same = read.join() === vpcCidrs.join();
      vpcCidrs = read;
      // Unchanged CIDRs: only the connmark table is looked at, in this process; iptables would cost two children.
      const changed = same ? firewall.healConnmarkTable() : firewall.set(firewallFor(vpcCidrs));
      metrics.connmarkReconciles.inc({ result: changed ? "changed" : "unchanged" });
    }),
  ];
  if (!settings.disableNetworkResourceProvisioning) {
    let groups = "";
    // ENIs of custom networking have groups of their own.
    if (!settings.customNetworking)
      loops.push(
        repeatNow(clock, watchEveryMs, signal, log, "security-groups", async () => {
          const read = await readSecurityGroups(imds, instance.primaryMac);
          if (read.length === 0 || read.join() === groups) return;
          await pool.setGroups(read);
          groups = read.join();
        }),
      );
    if (!settings.disableLeakedEniCleanup) {
      loops.push(
        repeatAfter(clock, Math.random() * 300_000, 3_600_000, signal, log, "leaked-enis", async () => {
          const deleted = await enis.deleteLeaked();
          if (deleted.length > 0) log.info("deleted leaked ENIs", { enis: deleted });
        }),
      );
    }
  }
  const done = Promise.all(loops).then(async () => {
    await server.close();
    host.close();
    firewall.close();
  });
  return { datastore, pool, metrics, eniConfig: () => node.eniConfig(), done };
}

/** Prefixes need a Nitro instance or bare metal; elsewhere the setting is quietly off, as upstream has it. */
function usesPrefixes(settings: Settings, instanceType: string, limits: EniLimits, log: Log): boolean {
  if (!settings.prefixDelegation || limits.prefixes) return settings.prefixDelegation;
  log.warn("prefix delegation is off: the instance type has no prefixes", { instanceType });
  return false;
}

/**
 * The first fill. Under custom networking the primary gives no addresses, so a node without a usable ENIConfig cannot run a
 * pod: it stays NotReady (no conflist) and says why, and becomes Ready once somebody makes one. Upstream exits and starts
 * over until then.
 */
async function fillPool({ settings, node, clock, log, signal }: IpamdOptions, pool: Pool, datastore: Datastore) {
  await pool.grow();
  if (!settings.customNetworking || settings.disableNetworkResourceProvisioning) return;
  let logged = "";
  let said = "";
  while (!signal.aborted && datastore.counts(clock.now()).total === 0) {
    const answer = node.eniConfig();
    const why = answer.ok ? pool.because : answer.why;
    if (why !== logged) log.error("the node cannot run pods yet: custom networking has no address for them", { why });
    logged = why;
    // An event once the Node object is known: before that the reason may be no more than a slow API server.
    if (why !== said && node.maxPods() !== undefined) {
      node.warn("CustomNetworkingNotReady", `Node ${settings.nodeName} stays NotReady: ${why}`);
      said = why;
    }
    await clock.sleep(1_000, signal);
    if (node.eniConfig().ok) await pool.grow();
  }
}

/**
 * The checkpoint's pods back into the store, and the node's rules made to match: this also removes rules of pods whose DEL
 * came while ipamd was away.
 */
function restore(datastore: Datastore, host: HostNetwork, settings: Settings, log: Log): void {
  const suffixes = host.podSuffixes();
  const { restored, stale, unknown } = datastore.restore((pod) => suffixes.has(podSuffix(pod.namespace, pod.name)));
  for (const allocation of unknown) {
    log.warn("dropped a pod's address that is on no ENI", {
      address: allocation.address,
      pod: `${allocation.pod.namespace}/${allocation.pod.name}`,
    });
  }
  log.info("restored the address pool", { restored: restored.length, stale: stale.length, unknown: unknown.length });
  host.setRules(settings, datastore.assignments());
}

function annotations(node: NodeFacts) {
  return {
    onAssigned: ({ pod }: CniRequest, address: string) => node.annotatePodAddress(pod.namespace, pod.name, address),
    onReleased: ({ pod }: CniRequest, address: string) => node.clearPodAddress(pod.namespace, pod.name, address),
  };
}

/** The init container does this too; a reply that arrives on the primary for another ENI's pod needs it. */
function setRpFilter(netns: Netns | undefined, link: string, log: Log): void {
  try {
    writeSysctl(netns, `net/ipv4/conf/${link}/rp_filter`, 2);
  } catch (error) {
    log.warn("cannot set rp_filter, the init container has to", { err: error });
  }
}

type Work = () => Promise<void>;

async function repeat(
  clock: Clock,
  everyMs: number,
  signal: AbortSignal,
  log: Log,
  what: string,
  work: Work,
): Promise<void> {
  return repeatAfter(clock, everyMs, everyMs, signal, log, what, work);
}

async function repeatNow(
  clock: Clock,
  everyMs: number,
  signal: AbortSignal,
  log: Log,
  what: string,
  work: Work,
): Promise<void> {
  return repeatAfter(clock, 0, everyMs, signal, log, what, work);
}

/** Work that fails is tried again at the next turn; only the signal ends it. */
async function repeatAfter(
  clock: Clock,
  firstMs: number,
  everyMs: number,
  signal: AbortSignal,
  log: Log,
  what: string,
  work: Work,
): Promise<void> {
  let waitMs = firstMs;
  while (!signal.aborted) {
    try {
      await clock.sleep(waitMs, signal);
      await work();
    } catch (error) {
      if (signal.aborted) return;
      log.error(`${what} failed`, { err: error });
    }
    waitMs = everyMs;
  }
}
