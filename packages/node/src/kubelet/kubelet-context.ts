/** What every part of one kubelet shares. Built once in `kubelet.ts`. */
import type { KubeClient } from "@underlay/kube/client";
import type { EventRecorder } from "@underlay/kube/events";
import type { Informer } from "@underlay/kube/informer";
import type { Service } from "@underlay/kube/objects";
import type { Log } from "@underlay/log/log";
import type { BackOff } from "./back-off.ts";
import type { Cni } from "./cni.ts";
import type { Places } from "./places.ts";
import type { PodRuntime } from "./runtime.ts";
import type { NodeSettings } from "./settings.ts";

export type KubeletContext = {
  readonly settings: NodeSettings;
  readonly places: Places;
  readonly client: KubeClient;
  readonly services: Informer<Service>;
  readonly events: EventRecorder;
  readonly cni: Cni;
  readonly runtime: PodRuntime;
  readonly backOff: BackOff;
  readonly imageBackOff: BackOff;
  readonly log: Log;
  /** The node's /etc/resolv.conf and /etc/hosts. */
  readonly nodeResolvConf: string;
  readonly nodeHosts: string;
};
