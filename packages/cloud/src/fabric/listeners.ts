/**
 * Everything of the embedded AWS that listens inside the fabric's namespaces: IMDS, resolver and time per VPC, the internet's hosts.
 * Listeners follow the fabric: they start when a router exists and stop when its VPC is gone, since a socket keeps its
 * namespace alive.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createLog } from "@underlay/log/log";
import { netnsExists, netnsPath } from "@underlay/kernel/netns";
import { createImds } from "../imds/imds.ts";
import { startTimeServer } from "../imds/time.ts";
import { Tokens } from "../imds/tokens.ts";
import { serve, startInternet } from "../internet/internet.ts";
import { startDns } from "../resolver/dns-server.ts";
import { resolveInVpc } from "../resolver/names.ts";
import { imdsAddress, internetNetns, resolverAddress, routerNetns, timeAddress } from "./places.ts";
import { resolverOf } from "./plan-router.ts";
import type { FabricState, ListenerOptions } from "./seam.ts";

const log = createLog("fabric");

type Running = { readonly inode: number; close(): void };

export async function openListeners(options: ListenerOptions): Promise<{ close(): Promise<void> }> {
  const running = new Map<string, Running>();
  const tokens = new Tokens(tokenKey(options.stateDir), Date.now);
  let tail: Promise<void> = Promise.resolve();
  const follow = async (state: FabricState): Promise<void> => {
    const wanted = new Map<string, () => Promise<{ close(): void }> | { close(): void }>([
      [internetNetns(options.clusterId), () => startInternet(options)],
      ...state.vpcs.map(
        ({ vpcId }) => [routerNetns(options.clusterId, vpcId), () => startVpc(vpcId, options, tokens)] as const,
      ),
    ]);
    for (const [netns, listeners] of running) {
      if (wanted.has(netns) && inodeOf(netns) === listeners.inode) continue;
      running.delete(netns);
      listeners.close();
    }
    for (const [netns, start] of wanted) {
      if (running.has(netns) || !netnsExists(netns)) continue;
      try {
        const inode = inodeOf(netns);
        const { close } = await start();
        running.set(netns, { inode, close });
      } catch (err) {
        log.error("cannot start listeners", { netns, err });
      }
    }
  };
  const queue = (state: FabricState): void => {
    tail = tail.then(() => follow(state));
  };
  const stop = options.fabric.onApplied(queue);
  await tail;
  return {
    close: async () => {
      stop();
      await tail;
      for (const { close } of running.values()) close();
      running.clear();
    },
  };
}

function startVpc(vpcId: string, { clusterId, view }: ListenerOptions, tokens: Tokens): { close(): void } {
  const netns = routerNetns(clusterId, vpcId);
  const vpc = () => view.state().vpcs.find((candidate) => candidate.vpcId === vpcId);
  const resolve = (name: string) => {
    const now = vpc();
    return now === undefined ? ({ found: "nothing", zone: "" } as const) : resolveInVpc(name, view.state(), now);
  };
  const first = vpc();
  const resolvers =
    first?.enableDnsSupport === false || first === undefined ? [] : [resolverAddress, resolverOf(first)];
  const closers = [
    serve(createImds({ vpcId, view, tokens }), netns, imdsAddress, 80),
    startTimeServer(netns, timeAddress),
    ...resolvers.map((address) => startDns({ netns, address, resolve })),
  ];
  return { close: () => closers.forEach((closer) => closer.close()) };
}

const inodeOf = (netns: string): number => statSync(netnsPath(netns), { throwIfNoEntry: false })?.ino ?? 0;

/** Kept on disk, so that tokens outlive a restart of the cloud as they outlive anything on AWS. */
function tokenKey(stateDir: string): Buffer {
  const file = join(stateDir, "cloud/imds.key");
  try {
    return readFileSync(file);
  } catch {
    mkdirSync(join(stateDir, "cloud"), { recursive: true });
    const key = randomBytes(32);
    writeFileSync(file, key, { mode: 0o600 });
    return key;
  }
}
