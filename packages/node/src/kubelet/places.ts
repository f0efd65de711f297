/** Where the kubelet keeps things on its node. One table, so that tests can run a kubelet in a folder of their own. */
import { join } from "node:path";

export type Places = {
  readonly pods: string;
  readonly run: string;
  readonly logs: string;
  readonly netns: string;
  readonly skeleton: string;
  readonly lua: string;
  readonly pki: string;
  readonly cniConf: string;
  readonly cniBin: readonly string[];
  readonly cniCache: string;
};

/** The standard places of an instance. */
export const standardPlaces: Places = {
  pods: "/var/lib/kubelet/pods",
  run: "/run/underlay/pods",
  logs: "/var/log/pods",
  netns: "/run/netns",
  skeleton: "/var/lib/underlay/skeleton",
  lua: "/opt/underlay/.build/lua",
  pki: "/var/lib/kubelet/pki",
  cniConf: "/etc/cni/net.d",
  cniBin: ["/opt/cni/bin"],
  cniCache: "/var/lib/cni",
};

export const podDir = (places: Places, uid: string): string => join(places.pods, uid);
export const shimDir = (places: Places, uid: string): string => join(places.run, uid);
export const volumeDir = (places: Places, uid: string, plugin: string, name: string): string =>
  join(places.pods, uid, "volumes", `kubernetes.io~${plugin}`, name);

/** `<logs>/<namespace>_<name>_<uid>/<container>/<attempt>.log`: the layout log collectors know. */
export const podLogDir = (places: Places, pod: { namespace: string; name: string; uid: string }): string =>
  join(places.logs, `${pod.namespace}_${pod.name}_${pod.uid}`);
export const logFile = (
  places: Places,
  pod: { namespace: string; name: string; uid: string },
  container: string,
  attempt: number,
): string => join(podLogDir(places, pod), container, `${attempt}.log`);

/** Debian's interpreter of the programs in `lua`. */
export const luajit = "/usr/bin/luajit";
