/** An instance's files on the host: its directory, boot.json, pid file and log. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unmount } from "@underlay/kernel/mounts";
import { UnderlayError } from "@underlay/log/underlay-error";
import { regionDomain } from "../resolver/names.ts";
import { instanceNetns, resolverAddress } from "../fabric/places.ts";
import type { FabricInstance, InstanceHostOptions } from "../fabric/seam.ts";

export type InstancePlaces = {
  readonly directory: string;
  readonly root: string;
  readonly bootFile: string;
  readonly pidFile: string;
  readonly logFile: string;
};

export function placesOf(stateDir: string, instanceId: string): InstancePlaces {
  const directory = join(stateDir, "instances", instanceId);
  return {
    directory,
    root: join(directory, "root"),
    bootFile: join(directory, "boot.json"),
    pidFile: join(stateDir, "pids", `${instanceId}.pid`),
    logFile: join(stateDir, "logs", `${instanceId}.log`),
  };
}

/** What init reads (ARCHITECTURE.md "instance start"). */
export function writeBoot(instance: FabricInstance, places: InstancePlaces, options: InstanceHostOptions): void {
  for (const directory of [places.root, join(places.pidFile, ".."), join(places.logFile, "..")])
    mkdirSync(directory, { recursive: true });
  const resolver = options.resolverOf?.(instance.vpcId) ?? resolverAddress;
  const boot = {
    instanceId: instance.instanceId,
    hostname: instance.privateDnsName,
    rootDir: places.root,
    repoDir: options.repoDir,
    caCertFile: options.caCertFile,
    nodeBinary: options.nodeBinary,
    cgroup: instanceNetns(options.clusterId, instance.instanceId),
    kubelet: { argv: options.kubeletArgv ?? kubeletArgv() },
    resolvConf: `nameserver ${resolver}\nsearch ${regionDomain(options.region)}\noptions timeout:2 attempts:5\n`,
  };
  writeFileSync(`${places.bootFile}.new`, `${JSON.stringify(boot, null, 2)}\n`);
  renameSync(`${places.bootFile}.new`, places.bootFile);
}

/** As paths inside the instance, where the repository is at /opt/underlay. */
function kubeletArgv(): string[] {
  const architecture = process.arch === "arm64" ? "arm64" : "x64";
  return [
    `/opt/underlay/node_modules/node-linux-${architecture}/bin/node`,
    "/opt/underlay/.build/programs/kubelet.mjs",
  ];
}

/** Removes the instance's directory, never what a mount shows inside it. */
export function removeInstanceFiles(places: InstancePlaces): void {
  // Deepest first; init's own mounts are in its own mount namespace and went with it.
  for (const target of mountsBelow(places.directory).reverse()) unmount(target);
  const left = mountsBelow(places.directory);
  if (left.length > 0) {
    throw new UnderlayError("InstanceStillMounted", `Cannot remove ${places.directory}: ${left[0]} is still mounted`, {
      hint: `End what uses it, then: umount -l ${left[0]}`,
    });
  }
  rmSync(places.directory, { recursive: true, force: true });
  rmSync(places.pidFile, { force: true });
}

function mountsBelow(directory: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) =>
      line.split(" ")[4]?.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))),
    )
    .filter(
      (target): target is string =>
        target !== undefined && (target === directory || target.startsWith(`${directory}/`)),
    )
    .sort();
}
