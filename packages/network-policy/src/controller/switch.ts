/** The switch of network policies on EKS: a key of the ConfigMap that the VPC CNI add-on brings. */
import type { KubeClient } from "@underlay/kube/client";
import { Informer } from "@underlay/kube/informer";
import type { ConfigMap } from "@underlay/kube/objects";
import { configMaps } from "@underlay/kube/resources";
import type { Log } from "@underlay/log/log";

export type SwitchActions = {
  /** Runs while the switch is on; its signal aborts when it is turned off. */
  readonly on: (signal: AbortSignal) => Promise<void>;
  /** Runs once whenever the switch is found or turned off. */
  readonly off: () => Promise<void>;
};

/** No ConfigMap or no key means off. */
export function isSwitchedOn(settings: ConfigMap | undefined): boolean {
  return settings?.data?.["enable-network-policy-controller"] === "true";
}

/** Follows the switch until the signal aborts; fails when an action does. */
export async function followSwitch(
  client: KubeClient,
  log: Log,
  signal: AbortSignal,
  actions: SwitchActions,
): Promise<void> {
  const informer = new Informer(client, configMaps, {
    log,
    namespace: "kube-system",
    fieldSelector: "metadata.name=amazon-vpc-cni",
  });
  let turned = Promise.withResolvers<void>();
  const read = () => isSwitchedOn(informer.get("kube-system/amazon-vpc-cni"));
  const changed = () => turned.resolve();
  informer.start(signal);
  await informer.synced(signal);
  informer.on({ add: changed, update: changed, delete: changed });
  signal.addEventListener("abort", changed, { once: true });
  while (!signal.aborted) {
    const isOn = read();
    log.info("network policy switch", { isOn });
    const running = new AbortController();
    const action = isOn ? actions.on(running.signal) : actions.off();
    const failed = action.then(() => undefined);
    while (!signal.aborted && read() === isOn) {
      turned = Promise.withResolvers();
      // A failed action ends the program; one that is done waits for the switch.
      await Promise.race([turned.promise, failed.then(() => turned.promise)]);
    }
    running.abort();
    await action.catch((err: unknown) => {
      if (!running.signal.aborted) throw err;
    });
  }
}
