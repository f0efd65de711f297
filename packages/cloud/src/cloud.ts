/** Puts the cloud's parts together: store, services, fabric, listeners and the loops that move records along. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "@underlay/log/log";
import { ec2Service } from "./ec2/ec2.ts";
import { settleNatGateways } from "./ec2/nat-gateways.ts";
import { autoscalingService } from "./autoscaling/autoscaling.ts";
import { caData, eksService } from "./eks/eks.ts";
import { Faults } from "./faults/faults.ts";
import { fabricChange, fabricState } from "./fabric-state.ts";
import type { Change, CloudView, Fabric, FabricState, InstanceHost } from "./fabric/seam.ts";
import { issueRoleCredentials, knownRoleKey } from "./iam/role-credentials.ts";
import { startAddonLifecycle } from "./lifecycle/addon-lifecycle.ts";
import { startClusterLifecycle } from "./lifecycle/cluster-lifecycle.ts";
import { startInstanceLifecycle } from "./lifecycle/instance-lifecycle.ts";
import { startNodegroupLifecycle } from "./lifecycle/nodegroup-lifecycle.ts";
import type { KnownKey } from "./protocol/authentication.ts";
import { createAwsHandler } from "./protocol/server.ts";
import type { Settings } from "./settings.ts";
import type { Kinds, World } from "./store/kinds.ts";
import { Store } from "./store/store.ts";
import { stsService } from "./sts/sts.ts";

export type Cloud = {
  handleAwsRequest(request: IncomingMessage, response: ServerResponse): void;
  readonly world: World;
  readonly faults: Faults;
  /** Stops serving and keeping; instances, control planes and the kernel's state stay as they are. */
  close(): Promise<void>;
};

const zoneLetters = ["a", "b", "c"];
const tokenLifeMs = 24 * 3600_000;
const retryMs = 1000;
/** Below the ten seconds after which clients give up: a slow kernel must not make them repeat what was done. */
const settleLimitMs = 8000;

export async function openCloud(settings: Settings, options: { packets: boolean; log: Log }): Promise<Cloud> {
  const { log } = options;
  const store = new Store<Kinds>(join(settings.stateDir, "cloud", "state.db"));
  const world: World = {
    store,
    region: settings.region,
    accountId: settings.accountId,
    zones: zoneLetters.map((letter) => settings.region + letter),
    now: () => new Date(),
    attachMs: () => faults.attachMs(),
  };
  const faults = new Faults(world);
  store.keepHistory(faults.historyMs());
  const ago = <T>(ms: number, work: () => T): T => store.asOf(Date.now() - ms, work);
  forgetTokens(world);

  let cached: FabricState | undefined;
  const state = () => (cached ??= fabricState(world, settings.clusterId));
  const listeners = new Set<(changed: Change) => void>();
  const plane = options.packets ? await openPlane(settings) : noPackets;
  const packets = programmer(plane.fabric, state, log);

  const handler = createAwsHandler({
    services: [
      ec2Service(world),
      eksService(world, { caCertFile: settings.caCertFile, kubePort: settings.controlPlane.kubePort }),
      autoscalingService(world, () => caData({ ...settings, kubePort: 0 })),
      stsService(world),
    ],
    region: settings.region,
    findKey: (accessKeyId) => rootKey(settings, accessKeyId) ?? knownRoleKey(world, accessKeyId),
    transaction: (work) => store.transaction(work),
    settled: packets.settled,
    tokens: {
      find: (key) => store.get("token", key),
      keep: (key, value) => store.put("token", { id: key, at: world.now().toISOString(), ...value }),
    },
    trouble: faults,
    stale: ago,
    log,
  });
  const view: CloudView = {
    state,
    metadataState() {
      const lag = faults.imdsLagMs();
      return lag === 0 ? state() : ago(lag, () => fabricState(world, settings.clusterId));
    },
    issueRoleCredentials: (instanceId) => issueRoleCredentials(world, instanceId),
    handleAwsRequest: handler,
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };

  packets.program("everything");
  const inside = await plane.openListeners(view);
  const clusterNetns = (name: string) => plane.fabric.clusterNetns(name);
  const clusters = startClusterLifecycle({ world, settings, clusterNetns, settled: packets.settled, log });
  const addons = startAddonLifecycle({ world, settings, log });
  const nodegroups = startNodegroupLifecycle({ world, settings, log });
  const instances = startInstanceLifecycle({
    world,
    host: plane.host,
    settled: packets.settled,
    fabricState: state,
    log,
  });

  const attachments = followAttachments(world);
  for (const { id } of store.all("eni")) attachments.follow(id);
  const stopFollowing = store.onCommit((changes) => {
    const entries = new Set(
      changes.filter(({ kind }) => kind === "access-entry").map(({ id }) => id.split(" ")[0] ?? ""),
    );
    for (const name of entries) if (store.get("cluster", name) !== undefined) clusters.writeEntries(name);
    const kinds = new Set(changes.map(({ kind }) => kind));
    if (kinds.has("fault")) store.keepHistory(faults.historyMs());
    for (const { id } of changes.filter(({ kind }) => kind === "eni")) attachments.follow(id);
    if (kinds.has("cluster")) clusters.kick();
    if (kinds.has("cluster") || kinds.has("addon")) addons.kick();
    if (kinds.has("cluster") || kinds.has("nodegroup") || kinds.has("instance")) nodegroups.kick();
    if (kinds.has("instance")) instances.kick();
    const changed = fabricChange(changes);
    if (changed === undefined) return;
    cached = undefined;
    packets.program(changed);
    for (const listener of listeners) listener(changed);
    if (kinds.has("nat-gateway") && store.all("nat-gateway").some((gateway) => gateway.state === "pending"))
      packets
        .settled()
        .then(() => store.transaction(() => settleNatGateways(world)))
        .catch((err: unknown) => log.error("a NAT gateway stays pending", { err }));
  });
  store.transaction(() => settleNatGateways(world));

  return {
    handleAwsRequest: handler,
    world,
    faults,
    async close() {
      stopFollowing();
      attachments.close();
      await Promise.all([clusters.close(), addons.close(), nodegroups.close(), instances.close()]);
      await inside.close();
      await plane.host.close();
      await plane.fabric.close();
      store.close();
    },
  };
}

/** Writes an ENI again when its attachment is through, so that its link comes. */
function followAttachments(world: World) {
  const timers = new Map<string, NodeJS.Timeout>();
  return {
    follow(eniId: string): void {
      const readyAt = world.store.get("eni", eniId)?.attachment?.readyAt;
      clearTimeout(timers.get(eniId));
      timers.delete(eniId);
      if (readyAt === undefined) return;
      const finish = (): void => {
        const eni = world.store.get("eni", eniId);
        if (eni?.attachment?.readyAt !== readyAt) return;
        const { readyAt: _, ...attachment } = eni.attachment;
        world.store.transaction(() => world.store.put("eni", { ...eni, attachment }));
      };
      const wait = Date.parse(readyAt) - world.now().getTime();
      timers.set(eniId, setTimeout(finish, Math.max(0, wait)));
    },
    close: () => timers.forEach((timer) => clearTimeout(timer)),
  };
}

/** Hands committed states to the fabric, one after the other, and tells when all are in force. */
function programmer(fabric: Fabric, state: () => FabricState, log: Log) {
  let tail: Promise<void> = Promise.resolve();
  let retry: NodeJS.Timeout | undefined;
  const program = (changed: Change | "everything"): void => {
    const applied = fabric.apply(state(), changed).catch((err: unknown) => {
      // The state is the truth and AWS is eventually consistent: the caller gets its answer, the kernel gets another try.
      log.error("the fabric did not take a change", { changed, err });
      retry ??= setTimeout(() => {
        retry = undefined;
        program("everything");
      }, retryMs).unref();
    });
    tail = tail.then(() => applied);
  };
  const settled = async (): Promise<void> => {
    const limit = new AbortController();
    const late = sleep(settleLimitMs, undefined, { signal: limit.signal, ref: false }).then(
      () => log.warn("answering before the fabric followed", { waitedMs: settleLimitMs }),
      () => undefined,
    );
    await Promise.race([tail, late]);
    limit.abort();
  };
  return { program, settled };
}

type Plane = {
  readonly fabric: Fabric;
  readonly host: InstanceHost;
  openListeners(view: CloudView): Promise<{ close(): Promise<void> }>;
};

/** The Linux data plane; loaded only when wanted, since it needs the kernel. */
async function openPlane(settings: Settings): Promise<Plane> {
  const [{ openFabric }, { openInstanceHost }, { openListeners }] = await Promise.all([
    import("./fabric/fabric.ts"),
    import("./instances/host.ts"),
    import("./fabric/listeners.ts"),
  ]);
  const { clusterId, stateDir, repoDir, nodeBinary, caCertFile, caKeyFile, region } = settings;
  const fabric = await openFabric({ clusterId, stateDir });
  const host = await openInstanceHost({
    clusterId,
    stateDir,
    repoDir,
    nodeBinary,
    caCertFile,
    region,
    argv: settings.instance.argv,
    resolverOf: (vpcId) => fabric.resolverOf(vpcId),
    resetInstance: (instanceId) => fabric.resetInstance(instanceId),
  });
  return {
    fabric,
    host,
    openListeners: (view) => openListeners({ clusterId, stateDir, region, caCertFile, caKeyFile, fabric, view }),
  };
}

/** State without packets: instances "run" at once, control planes have no namespace, only their host door. */
const noPackets: Plane = {
  fabric: {
    apply: () => Promise.resolve(),
    clusterNetns: () => "",
    onApplied: () => () => {},
    resetInstance: () => Promise.resolve(),
    close: () => Promise.resolve(),
  },
  host: { ensureRunning: () => Promise.resolve(), terminate: () => Promise.resolve(), close: () => Promise.resolve() },
  openListeners: () => Promise.resolve({ close: () => Promise.resolve() }),
};

function rootKey({ accessKeyId, secretAccessKey, accountId }: Settings, given: string): KnownKey | undefined {
  if (given !== accessKeyId) return undefined;
  return {
    secretAccessKey,
    principal: { account: accountId, arn: `arn:aws:iam::${accountId}:user/underlay`, userId: "AIDAUNDERLAYOPERATOR1" },
  };
}

function forgetTokens({ store, now }: World): void {
  const before = new Date(now().getTime() - tokenLifeMs).toISOString();
  const old = store.all("token").filter(({ at }) => at < before);
  if (old.length > 0) store.transaction(() => old.forEach(({ id }) => store.remove("token", id)));
}
