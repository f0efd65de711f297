/** How the host-level programs of a cluster are started: command line, pid file, log file. */
import { join } from "node:path";
import type { Places } from "./places.ts";

export type ProgramSpec = {
  readonly argv: string[];
  readonly pidFile: string;
  readonly logFile: string;
  readonly env: Record<string, string>;
  readonly cwd: string;
};

/** Young generation of 1 MB: these programs live long and allocate little, and there are many of them. */
export const nodeFlags: readonly string[] = ["--max-semi-space-size=1", "--disable-warning=ExperimentalWarning"];

function program(places: Places, name: string, argv: readonly string[]): ProgramSpec {
  return {
    argv: [places.nodeBinary, ...nodeFlags, ...argv],
    pidFile: join(places.pids, `${name}.pid`),
    logFile: join(places.logs, `${name}.log`),
    env: programEnv(),
    cwd: "/",
  };
}

/** Environment of host-level programs: nothing of the caller's but the search path and the log level. */
export function programEnv(): Record<string, string> {
  const level = process.env["UNDERLAY_LOG_LEVEL"];
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ...(level ? { UNDERLAY_LOG_LEVEL: level } : {}),
  };
}

/** A program as one file, made by `tools/build-programs.ts`. */
function bundle(places: Places, name: string): string {
  return join(places.repoDir, ".build/programs", `${name}.mjs`);
}

export function supervisorProcess(places: Places, root: string): ProgramSpec {
  return program(places, "supervisor", [bundle(places, "supervisor"), root, places.clusterName]);
}

export function cloudProcess(places: Places): ProgramSpec {
  return program(places, "cloud", [bundle(places, "cloud"), places.cloudSettings]);
}

/** What the cloud settings say of the programs the cloud keeps (ARCHITECTURE.md, "cloud settings"). */
export function keptByCloud(places: Places): {
  instanceArgv: string[];
  controlPlane: { name: string; argv: string[] }[];
} {
  const node = [places.nodeBinary, ...nodeFlags];
  return {
    instanceArgv: ["luajit", join(places.repoDir, ".build/lua/instance-init.lua")],
    controlPlane: [
      { name: "apiserver", argv: [...node, bundle(places, "apiserver")] },
      { name: "controller-manager", argv: [...node, bundle(places, "controller-manager")] },
      { name: "network-policy-controller", argv: [...node, bundle(places, "network-policy-controller")] },
    ],
  };
}
