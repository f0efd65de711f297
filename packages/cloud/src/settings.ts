/** The cloud's settings file (ARCHITECTURE.md, "cloud settings"), read once. */
import { readFileSync } from "node:fs";
import { UnderlayError } from "@underlay/log/underlay-error";

export type Settings = {
  readonly clusterId: string;
  readonly stateDir: string;
  readonly repoDir: string;
  readonly nodeBinary: string;
  readonly region: string;
  readonly accountId: string;
  readonly apiPort: number;
  readonly caCertFile: string;
  readonly caKeyFile: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly instance: { readonly argv: readonly string[] };
  readonly controlPlane: {
    readonly programs: readonly { readonly name: string; readonly argv: readonly string[] }[];
    readonly kubePort: number;
  };
  readonly time: { readonly scale: number };
};

const strings = [
  "clusterId",
  "stateDir",
  "repoDir",
  "nodeBinary",
  "caCertFile",
  "caKeyFile",
  "accessKeyId",
  "secretAccessKey",
] as const;

export function readSettings(file: string): Settings {
  const given = JSON.parse(readFileSync(file, "utf8")) as Partial<Settings>;
  for (const name of strings)
    if (typeof given[name] !== "string")
      throw new UnderlayError("InvalidSettings", `Cannot use ${file}: ${name} is missing`, {
        hint: "The file is written by `underlay up`",
      });
  const complete = given as Settings;
  return {
    ...complete,
    region: given.region ?? "us-west-2",
    accountId: given.accountId ?? "111122223333",
    apiPort: given.apiPort ?? 4566,
    instance: given.instance ?? { argv: ["luajit", `${complete.repoDir}/.build/lua/instance-init.lua`] },
    controlPlane: given.controlPlane ?? { programs: [], kubePort: 6443 },
    time: given.time ?? { scale: 1 },
  };
}
