/**
 * containerd of one node: its configuration, its start in a cgroup of the instance's own (`start-containerd.sh`), and its first images.
 * It outlives the kubelet: a kubelet that starts finds it by its socket.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, openSync, writeFileSync, closeSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "@underlay/log/log";
import { UnderlayError } from "@underlay/log/underlay-error";
import { run } from "../kubelet/shim-client.ts";
import type { CriClient } from "./cri-client.ts";
import { nodeImages, pauseImage } from "./node-images.ts";

export type ContainerdPlaces = {
  readonly root: string;
  readonly state: string;
  readonly socket: string;
  readonly config: string;
  readonly log: string;
  /** Where `/usr` with an image's layers is mounted. */
  readonly usr: string;
  readonly startScript: string;
  /** Name of the instance's cgroup, `ul-<cid>-<instance>`. */
  readonly cgroup: string;
};

export const standardContainerdPlaces = (cgroup: string): ContainerdPlaces => ({
  root: "/var/lib/containerd",
  state: "/run/containerd",
  socket: "/run/containerd/containerd.sock",
  config: "/etc/containerd/config.toml",
  log: "/var/log/containerd.log",
  usr: "/run/underlay/usr",
  startScript: "/opt/underlay/packages/node/src/cri/start-containerd.sh",
  cgroup,
});

const startMs = 20_000;

type Input = {
  readonly places: ContainerdPlaces;
  readonly cri: CriClient;
  readonly skeleton: string;
  readonly region: string;
  readonly log: Log;
  readonly signal: AbortSignal;
};

export async function ensureContainerd({ places, cri, skeleton, region, log, signal }: Input): Promise<void> {
  if (!(await answers(cri))) {
    const begunAt = Date.now();
    start(places);
    while (!(await answers(cri))) {
      if (signal.aborted || Date.now() > begunAt + startMs)
        throw new UnderlayError(
          "ContainerdNotReady",
          `Cannot start containerd: ${places.socket} does not answer after ${startMs / 1000} s`,
          {
            hint: `Its log on the node: ${places.log}`,
          },
        );
      await sleep(50);
    }
    log.info("started containerd", { tookMs: Date.now() - begunAt });
  }
  await importImages(places, cri, skeleton, region, log);
}

const answers = (cri: CriClient): Promise<boolean> =>
  cri.call("Version", {}, { timeoutMs: 2000 }).then(
    () => true,
    () => false,
  );

function start(places: ContainerdPlaces): void {
  if (!existsSync("/usr/bin/containerd"))
    throw new UnderlayError("NoContainerd", "Cannot start containerd: /usr/bin/containerd is missing on this machine", {
      hint: "apt-get install containerd runc busybox-static (./underlay up --runtime containerd does it)",
    });
  mkdirSync(dirname(places.config), { recursive: true });
  writeFileSync(places.config, containerdConfig(places));
  const out = openSync(places.log, "a");
  const child = spawn(places.startScript, [places.cgroup, places.config], {
    detached: true,
    stdio: ["ignore", out, out],
  });
  closeSync(out);
  child.on("error", () => {}); // heard of by the wait for its socket
  child.unref();
}

/** The node's own images, once; a node that boots again has them in containerd's store. */
async function importImages(
  places: ContainerdPlaces,
  cri: CriClient,
  skeleton: string,
  region: string,
  log: Log,
): Promise<void> {
  const { image } = await cri.call("ImageStatus", { image: { image: pauseImage } });
  if (image) return;
  const begunAt = Date.now();
  const archive = join(places.root, "node-images.tar");
  writeFileSync(archive, nodeImages(region, skeleton));
  await run("ctr", ["--address", places.socket, "--namespace", "k8s.io", "images", "import", archive]);
  rmSync(archive);
  log.info("imported the node's images", { tookMs: Date.now() - begunAt });
}

export function containerdConfig(places: ContainerdPlaces): string {
  return `version = 2
root = "${places.root}"
state = "${places.state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "${places.socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  disable_apparmor = true
  # A machine without CAP_SYS_RESOURCE cannot give a process a lower score than its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`;
}
