/** What a write request asks for beside the object: query parameters and who asks. */
import type { UserInfo } from "../seams.ts";

export type WriteOptions = {
  readonly user: UserInfo;
  readonly dryRun: boolean;
  readonly fieldManager: string;
  readonly fieldValidation: "Ignore" | "Warn" | "Strict";
  readonly force: boolean;
  /** False for the server's own writes: no admission. */
  readonly admission: boolean;
  warn(text: string): void;
};

export type DeleteOptions = {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: "Background" | "Foreground" | "Orphan";
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
};
