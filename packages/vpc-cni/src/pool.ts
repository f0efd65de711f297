/**
 * Keeps the address pool at its targets: reads the datastore, lets `pool-plan.ts` decide, applies the plan through EC2 and
 * the node's tables, and reconciles with what the instance really has. One action at a time; ADD and DEL never wait for it.
 */
import type { ImdsClient } from "@underlay/aws/imds-client";
import type { Log } from "@underlay/log/log";
import { isAwsError } from "@underlay/aws/aws-error";
import { retry, type Clock } from "./clock.ts";
import { keyText, type Datastore } from "./datastore.ts";
import { instanceTag, isFragmented, isOutOfAddresses, type Ec2Enis, type EniFacts } from "./ec2-enis.ts";
import type { EniConfigAnswer } from "./eni-config.ts";
import type { EniLimits } from "./eni-limits.ts";
import { MissingLinkError, type HostNetwork } from "./host-network.ts";
import { readAttachedEnis, readSecurityGroups, type AttachedEni, type Instance } from "./instance-metadata.ts";
import type { Metrics } from "./metrics.ts";
import { podSuffix, routeTableOf } from "./names.ts";
import { unplumbPod } from "./pod-network.ts";
import {
  planAddressRelease,
  planDrain,
  planEniRemoval,
  planGrowth,
  viewPool,
  type PoolStep,
  type PoolView,
} from "./pool-plan.ts";
import { compareCidrs, compareWithMetadata } from "./reconcile.ts";
import type { Settings } from "./settings.ts";
import { isExcludedSubnet } from "./subnet-choice.ts";

export type PoolOptions = {
  readonly datastore: Datastore;
  readonly enis: Ec2Enis;
  readonly imds: ImdsClient;
  readonly host: HostNetwork;
  readonly clock: Clock;
  readonly settings: Settings;
  readonly limits: EniLimits;
  readonly instance: Instance;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly maxPods: () => number;
  /** False on a cordoned node: the pool stays as it is. */
  readonly isSchedulable: () => boolean;
  readonly onOutOfAddresses: (sentence: string) => void;
  /** Custom networking: the ENIConfig of this node, or why there is none. */
  readonly eniConfig?: () => EniConfigAnswer;
};

const outOfAddressesPauseMs = 120_000;
/** How long single addresses are taken after EC2 had no free /28; then a prefix is asked for again. */
const fragmentedMs = 120_000;
const addressReleaseEveryMs = 30_000;
const recentlyFreedMs = 60_000;
const reconcileEveryMs = 60_000;

export class Pool {
  readonly #o: PoolOptions;
  readonly #unmanaged = new Set<string>();
  readonly #freedAt = new Map<string, number>();
  /** The primary's, copied to every new ENI. */
  #connectionTracking: EniFacts["connectionTracking"];
  #vanished: ReadonlySet<string> = new Set();
  #pausedUntil = -Infinity;
  #pausedBecause = "";
  #fragmentedUntil = -Infinity;
  #lastAddressRelease = -Infinity;
  #lastChange = -Infinity;
  /** What the last attempt to grow failed with. */
  #trouble = "";

  constructor(options: PoolOptions) {
    this.#o = options;
  }

  /** Why the pool is as it is, in one sentence. */
  get because(): string {
    if (this.#o.clock.now() < this.#pausedUntil) return this.#pausedBecause;
    const { because } = planGrowth(this.view(), this.#o.settings, { fragmented: this.#fragmented() });
    return this.#trouble === "" ? because : `${because}; the last attempt failed: ${this.#trouble}`;
  }

  view(): PoolView {
    const { datastore, clock, limits, settings, maxPods } = this.#o;
    return viewPool(datastore, clock.now(), {
      addressesPerEni: limits.addressesPerEni - 1,
      maxEni: Math.min(settings.maxEni ?? limits.maxEnis, limits.maxEnis),
      unmanagedEnis: this.#unmanaged.size,
      maxPods: maxPods(),
    });
  }

  /** Start: every attached ENI into the store and the node's tables, with EC2's list of addresses. */
  async discover(): Promise<void> {
    const { imds, clock } = this.#o;
    const attached = await readAttachedEnis(imds);
    const facts = await retry(clock, { tries: 6, firstMs: 1000, capMs: 10_000 }, () => this.#describe(attached));
    await this.#adopt(attached, facts);
  }

  /** EC2's word on these ENIs; in IMDS-only mode the metadata's. */
  async #describe(attached: readonly AttachedEni[]): Promise<readonly EniFacts[]> {
    const { enis, settings, instance } = this.#o;
    if (!settings.imdsOnly) return enis.describe(attached.map((eni) => eni.eniId));
    return attached.map(({ eniId, cidrs }) => ({
      eniId,
      cidrs,
      trunk: false,
      efa: false,
      tags: {},
      attachmentId: undefined,
      instanceId: instance.instanceId,
      deleteOnTermination: true,
      connectionTracking: undefined,
    }));
  }

  /** One pass of the loop. */
  async pass(): Promise<void> {
    const { settings, clock, isSchedulable } = this.#o;
    if (!settings.disableNetworkResourceProvisioning && (settings.manageEnisNonSchedulable || isSchedulable())) {
      if (!(await this.grow())) await this.shrink();
    }
    if (clock.now() - this.#lastChange > reconcileEveryMs) await this.reconcile();
    this.updateGauges();
  }

  /** At most one growth action. True when the pool was too small, whether or not it could grow. */
  async grow(): Promise<boolean> {
    const { clock, settings, log } = this.#o;
    if (clock.now() < this.#pausedUntil) return false;
    const full = new Set<string>();
    let noPrefix = false;
    const takeSingles = () => {
      this.#fragmentedUntil = clock.now() + fragmentedMs;
      full.clear();
      noPrefix = false;
    };
    for (;;) {
      const plan = planGrowth(this.view(), settings, { full, fragmented: this.#fragmented() });
      const step = plan.steps[0];
      if (!step && noPrefix) {
        takeSingles();
        continue;
      }
      if (!step) return false;
      log.info("growing the address pool", { ...step, because: plan.because });
      try {
        await this.#apply(step);
        this.#lastChange = clock.now();
        this.#trouble = "";
        return true;
      } catch (error) {
        this.#o.metrics.ipamdErrors.inc({ fn: "increaseDatastorePool" });
        log.error("cannot grow the address pool", { ...step, err: error });
        this.#trouble = (error as Error).message;
        if (this.#inPrefixes(step) && isFragmented(error)) {
          // Another ENI, or a new one in another subnet, may have a /28; when none has, single addresses are taken at once.
          noPrefix = true;
          if (step.do === "assign-prefixes" && settings.subnetDiscovery) full.add(step.eniId);
          else takeSingles();
          continue;
        }
        if (!isOutOfAddresses(error)) return true;
        if (step.do === "assign-addresses" && settings.subnetDiscovery) {
          full.add(step.eniId);
          continue;
        }
        this.#pause(error as Error);
        return true;
      }
    }
  }

  /** Addresses over the IP targets, then one idle ENI. */
  async shrink(): Promise<void> {
    const { clock, settings, log } = this.#o;
    const steps: PoolStep[] = [];
    if (clock.now() - this.#lastAddressRelease > addressReleaseEveryMs) {
      const plan = planAddressRelease(this.view(), settings);
      if (plan.steps.length > 0) log.info("releasing addresses", { because: plan.because });
      steps.push(...plan.steps);
      this.#lastAddressRelease = clock.now();
    }
    await this.#applyAll(steps);
    await this.drain();
    const removal = planEniRemoval(this.view(), settings, clock.now());
    if (removal.steps.length > 0) log.info("freeing an ENI", { because: removal.because });
    await this.#applyAll(removal.steps);
  }

  /** Gives back what nobody will be given again: see `planDrain`. */
  async drain(): Promise<void> {
    if (!this.#o.settings.disableNetworkResourceProvisioning) await this.#applyAll(planDrain(this.view()));
  }

  /** The store follows the instance. EC2 is asked wherever IMDS and the store differ. */
  async reconcile(): Promise<void> {
    const { datastore, imds, enis, instance, metrics, log, clock, settings } = this.#o;
    this.#lastChange = clock.now();
    const attached = await readAttachedEnis(imds);
    const differences = compareWithMetadata(datastore.enis(), attached, this.#unmanaged);
    for (const eniId of this.#unmanaged)
      if (!attached.some((eni) => eni.eniId === eniId)) this.#unmanaged.delete(eniId);

    if (differences.newEnis.length > 0) {
      metrics.reconciles.inc({ fn: "eniReconcileAdd" });
      await this.#adopt(differences.newEnis, await this.#describe(differences.newEnis));
    }
    for (const eniId of differences.missingEnis) {
      const [facts] = settings.imdsOnly ? [] : await enis.describe([eniId]);
      if (facts?.instanceId === instance.instanceId) continue; // IMDS is late
      metrics.reconciles.inc({ fn: "eniReconcileDel" });
      this.#forgetEni(eniId);
    }
    for (const eniId of differences.changedEnis) {
      const [facts] = await this.#describe(attached.filter((eni) => eni.eniId === eniId));
      if (!facts) continue;
      metrics.reconciles.inc({ fn: "eniDataStorePoolReconcileAdd" });
      this.#takeTruth(eniId, facts.cidrs);
      log.info("took an ENI's addresses from EC2", { eniId, cidrs: facts.cidrs.length });
    }
  }

  /**
   * Addresses of pods whose link has been gone for two rounds: their DEL came while ipamd was away and the namespace died
   * later. Upstream keeps such an address until ipamd's next start.
   */
  reclaimVanished(): void {
    const { datastore, host, clock, log } = this.#o;
    const suffixes = host.podSuffixes();
    const vanished = datastore
      .assignments()
      .filter(({ pod }) => pod.name !== "" && !suffixes.has(podSuffix(pod.namespace, pod.name)));
    const before = this.#vanished;
    this.#vanished = new Set(vanished.map(({ key }) => keyText(key)));
    for (const { key, address, pod } of vanished) {
      if (!before.has(keyText(key))) continue;
      unplumbPod(host, address);
      datastore.release(key, clock.now());
      log.warn("took back the address of a pod that has no link any more", {
        address,
        pod: `${pod.namespace}/${pod.name}`,
      });
    }
  }

  /** The primary's security groups on every ENI of the store. */
  async setGroups(groups: readonly string[]): Promise<void> {
    const { datastore, enis, log } = this.#o;
    for (const { eniId } of datastore.enis()) {
      await enis
        .setGroups(eniId, groups)
        .catch((error: unknown) => log.warn("cannot set security groups", { eniId, err: error }));
    }
  }

  updateGauges(): void {
    const { datastore, metrics, clock } = this.#o;
    const view = this.view();
    const counts = datastore.counts(clock.now());
    metrics.eniMax.set(view.maxEni - view.unmanagedEnis);
    metrics.ipMax.set((view.maxEni - view.unmanagedEnis) * view.addressesPerEni);
    metrics.eniAllocated.set(view.enis.length);
    metrics.totalAddresses.set(counts.total);
    metrics.assignedAddresses.set(counts.assigned);
    metrics.totalPrefixes.set(counts.prefixes);
    metrics.assignedPerEni.reset();
    for (const eni of view.enis) metrics.assignedPerEni.set({ eni: eni.eniId }, eni.held);
    metrics.assignedPerCidr.reset();
    for (const eni of datastore.enis()) {
      for (const cidr of eni.cidrs.values()) {
        const { assigned } = datastore.countsOf(cidr, clock.now());
        if (assigned > 0) metrics.assignedPerCidr.set({ cidr: cidr.cidr }, assigned);
      }
    }
  }

  async #adopt(attached: readonly AttachedEni[], facts: readonly EniFacts[]): Promise<void> {
    const { enis, instance, log } = this.#o;
    const excluded = await this.#excludedSubnets();
    for (const eni of attached) {
      const known = facts.find((one) => one.eniId === eni.eniId);
      if (!known) continue;
      const primary = eni.mac === instance.primaryMac;
      if (primary) this.#connectionTracking = known.connectionTracking;
      if (!enis.isManaged(known, primary)) {
        this.#unmanaged.add(eni.eniId);
        continue;
      }
      if (!known.trunk && !this.#o.settings.disableNetworkResourceProvisioning) {
        await enis
          .ensureTags(eni.eniId, known.tags)
          .catch((error: unknown) => log.warn("cannot tag an ENI", { eniId: eni.eniId, err: error }));
        // A crash between attach and modify leaves an ENI that would outlive the instance.
        if (
          !primary &&
          !known.deleteOnTermination &&
          known.attachmentId !== undefined &&
          known.tags[instanceTag] === instance.instanceId
        ) {
          await enis
            .deleteOnTermination(eni.eniId, known.attachmentId)
            .catch((error: unknown) =>
              log.warn("cannot mark an ENI for deletion with its instance", { eniId: eni.eniId, err: error }),
            );
        }
      }
      try {
        await this.#setUp(eni, known, excluded.has(eni.subnetId));
      } catch (error) {
        // The next reconcile finds it again.
        log.error("cannot set up an ENI", { eniId: eni.eniId, deviceNumber: eni.deviceNumber, err: error });
        if (primary) throw error;
      }
    }
  }

  async #setUp(eni: AttachedEni, facts: EniFacts, excluded: boolean, fallback = false): Promise<void> {
    const { datastore, host, clock, settings, instance, log } = this.#o;
    const primary = eni.mac === instance.primaryMac;
    if (!primary && !facts.trunk) {
      await retry(
        clock,
        { tries: 6, firstMs: 10_000, factor: 1 },
        () => host.setUpEni(eni, settings.eniMtu),
        (error) => error instanceof MissingLinkError,
      );
    }
    datastore.addEni({
      eniId: eni.eniId,
      mac: eni.mac,
      deviceNumber: eni.deviceNumber,
      subnetId: eni.subnetId,
      primary,
      trunk: facts.trunk,
      efa: facts.efa,
      excluded,
      createdAt: clock.now(),
    });
    this.#takeTruth(eni.eniId, facts.cidrs, fallback);
    log.info("set up an ENI", {
      eniId: eni.eniId,
      deviceNumber: eni.deviceNumber,
      routeTable: routeTableOf(eni.deviceNumber),
      cidrs: facts.cidrs.length,
      excluded,
    });
  }

  async #excludedSubnets(): Promise<ReadonlySet<string>> {
    const { enis, log } = this.#o;
    try {
      return new Set((await enis.describeSubnets()).filter(isExcludedSubnet).map((subnet) => subnet.subnetId));
    } catch (error) {
      log.warn("cannot check whether subnets are excluded by tags", { err: error });
      return new Set();
    }
  }

  async #applyAll(steps: readonly PoolStep[]): Promise<void> {
    for (const step of steps) {
      try {
        await this.#apply(step);
        this.#lastChange = this.#o.clock.now();
      } catch (error) {
        this.#o.metrics.ipamdErrors.inc({ fn: "decreaseDatastorePool" });
        this.#o.log.error("cannot shrink the address pool", { ...step, err: error });
      }
    }
  }

  async #apply(step: PoolStep): Promise<void> {
    const { datastore, enis, host, clock, imds, instance } = this.#o;
    switch (step.do) {
      case "assign-addresses":
      case "assign-prefixes":
        return this.#assign(step.eniId, step.count, step.do === "assign-prefixes");
      case "attach-eni": {
        const config = this.#eniConfig();
        const eniId = await enis.createAndAttach({
          count: step.count,
          prefixes: step.prefixes === true,
          subnetId: config?.subnetId,
          securityGroups: config?.securityGroups.length
            ? config.securityGroups
            : await readSecurityGroups(imds, instance.primaryMac),
          connectionTracking: this.#connectionTracking,
        });
        return this.#awaitAttached(eniId, this.#inPrefixes(step) === datastore.prefixMode);
      }
      case "unassign": {
        // Out of the store first: nobody can be given an address that is on its way out. A pod may have come meanwhile.
        const idle = step.cidrs.filter((cidr) => {
          const record = datastore.findEni(step.eniId)?.cidrs.get(cidr);
          return record !== undefined && datastore.countsOf(record, clock.now()).assigned === 0;
        });
        for (const cidr of idle) {
          datastore.removeCidr(step.eniId, cidr);
          this.#freedAt.set(cidr, clock.now());
        }
        if (idle.length > 0) await enis.unassign(step.eniId, idle);
        return;
      }
      case "free-eni": {
        const eni = datastore.findEni(step.eniId);
        if (!eni) return;
        datastore.removeEni(step.eniId);
        await enis.free(step.eniId);
        host.removeEniRule(eni.routeTable);
        return;
      }
    }
  }

  async #assign(eniId: string, count: number, prefixes: boolean): Promise<void> {
    const { datastore, enis } = this.#o;
    try {
      for (const cidr of await enis.assign(eniId, count, prefixes)) datastore.addCidr(eniId, cidr, { fallback: true });
    } catch (error) {
      if (!isAwsError(error, "PrivateIpAddressLimitExceeded")) throw error;
      const [facts] = await enis.describe([eniId]);
      if (facts) this.#takeTruth(eniId, facts.cidrs);
    }
  }

  #fragmented(): boolean {
    return this.#o.clock.now() < this.#fragmentedUntil;
  }

  #inPrefixes(step: PoolStep): boolean {
    return step.do === "assign-prefixes" || (step.do === "attach-eni" && step.prefixes === true);
  }

  /** Under custom networking a new ENI needs the node's ENIConfig. */
  #eniConfig(): { readonly subnetId: string; readonly securityGroups: readonly string[] } | undefined {
    const { settings, eniConfig } = this.#o;
    if (!settings.customNetworking) return undefined;
    const answer = eniConfig?.() ?? { ok: false, why: "there is no Kubernetes API to read ENIConfigs from" };
    if (!answer.ok) throw new Error(`Cannot attach a network interface: ${answer.why}`);
    return answer.config;
  }

  /** IMDS shows a new ENI after a while; without it the node would not know its MAC. Never shown: given back. */
  async #awaitAttached(eniId: string, ofKind: boolean): Promise<void> {
    const { clock, imds, enis } = this.#o;
    try {
      const eni = await retry(clock, { tries: 12, firstMs: 100, jitter: 0.15, capMs: 60_000 }, async () => {
        const found = (await readAttachedEnis(imds)).find((one) => one.eniId === eniId);
        if (!found || found.cidrs.length === 0)
          throw new Error(`Cannot use ${eniId}: instance metadata does not show it with addresses yet`);
        return found;
      });
      const [facts] = await enis.describe([eniId]);
      if (!facts) throw new Error(`Cannot use ${eniId}: EC2 does not know it`);
      await this.#setUp(eni, facts, false, !ofKind);
    } catch (error) {
      await enis.free(eniId);
      throw error;
    }
  }

  #takeTruth(eniId: string, cidrs: readonly string[], fallback = false): void {
    const { datastore, host, metrics, log } = this.#o;
    const eni = datastore.findEni(eniId);
    if (!eni) return;
    const { add, remove } = compareCidrs(eni.cidrs.keys(), cidrs, this.#recentlyFreed());
    for (const cidr of add) datastore.addCidr(eniId, cidr, { fallback });
    for (const cidr of remove) {
      for (const allocation of datastore.removeCidr(eniId, cidr, { force: true })) {
        metrics.forceRemovedAddresses.inc();
        log.error("removed an address a pod holds: EC2 does not have it on this ENI", {
          eniId,
          address: allocation.address,
          pod: `${allocation.pod.namespace}/${allocation.pod.name}`,
        });
        unplumbPod(host, allocation.address);
      }
    }
  }

  #forgetEni(eniId: string): void {
    const { datastore, host, metrics, log } = this.#o;
    const eni = datastore.findEni(eniId);
    if (!eni) return;
    const held = datastore.removeEni(eniId, { force: true });
    host.removeEniRule(eni.routeTable);
    if (held.length === 0) return;
    metrics.forceRemovedEnis.inc();
    metrics.forceRemovedAddresses.inc(held.length);
    log.error("removed an ENI that pods use: it is no longer attached", { eniId, pods: held.length });
    for (const { address } of held) unplumbPod(host, address);
  }

  #recentlyFreed(): ReadonlySet<string> {
    const now = this.#o.clock.now();
    for (const [address, at] of this.#freedAt) if (now - at > recentlyFreedMs) this.#freedAt.delete(address);
    return new Set(this.#freedAt.keys());
  }

  #pause(error: Error): void {
    this.#pausedUntil = this.#o.clock.now() + outOfAddressesPauseMs;
    this.#pausedBecause = `no more addresses in the subnet (${error.message}); asking EC2 again after two minutes`;
    this.#o.onOutOfAddresses(this.#pausedBecause);
  }
}
