/** EKS: every operation this cloud performs. The programs behind a cluster are kept by src/lifecycle. */
import { readFileSync } from "node:fs";
import { eksTable } from "@underlay/aws/generated/eks-table";
import { serviceOf, type Service } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { accessEntryOperations } from "./access-entries.ts";
import { addonOperations } from "./addons.ts";
import { clusterOperations, type EksSettings } from "./clusters.ts";
import { nodegroupOperations } from "./nodegroups.ts";
import { eksTagOperations } from "./tags.ts";
import { updateOperations } from "./updates.ts";

export function eksService(world: World, settings: EksSettings): Service {
  return serviceOf(
    "eks",
    eksTable,
    clusterOperations(world, settings),
    nodegroupOperations(world, () => caData(settings)),
    addonOperations(world),
    accessEntryOperations(world),
    updateOperations(world),
    eksTagOperations(world),
  );
}

/** The cluster CA as `certificateAuthority.data` carries it. */
export function caData(settings: EksSettings): string {
  return readFileSync(settings.caCertFile).toString("base64");
}
