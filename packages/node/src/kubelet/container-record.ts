/** What the kubelet knows of one container of a pod: its run now, the one before, and why it waits. */
import type { ContainerState } from "./shim-client.ts";

export type Ended = {
  readonly containerId: string;
  readonly exitCode: number;
  readonly signal?: number;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt: string;
  readonly finishedAt: string;
};

export type ContainerRecord = {
  readonly name: string;
  /** How many times it was started again. */
  restarts: number;
  running:
    | (ContainerState & {
        readonly imageUser?: { readonly uid: number; readonly gid: number };
        readonly imageWorkingDir?: string;
      })
    | undefined;
  /** The end of the latest run, when it does not run. */
  ended: Ended | undefined;
  /** The end of the run before the latest. */
  previous: Ended | undefined;
  waiting: { readonly reason: string; readonly message?: string } | undefined;
  imageId: string;
  /** The image the running container was started with, and whether it is being ended because the pod wants another. */
  image: string | undefined;
  replacing: boolean;
  /** `ended` happened in a sandbox that is gone: the container starts over. */
  forgotten: boolean;
  /** postStart has ended well and the startup probe (if any) has succeeded. */
  started: boolean;
  /** The readiness probe says so; without one, always true. */
  ready: boolean;
};

export function newRecord(name: string, restarts = 0): ContainerRecord {
  return {
    name,
    restarts,
    running: undefined,
    ended: undefined,
    previous: undefined,
    waiting: undefined,
    imageId: "",
    image: undefined,
    replacing: false,
    forgotten: false,
    started: false,
    ready: false,
  };
}
