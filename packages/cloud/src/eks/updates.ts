/** Updates: what an Update… call started. They are done at once here, so each is recorded as Successful. */
import { randomUUID } from "node:crypto";
import type { EksActions, Update as UpdateOutput } from "@underlay/aws/generated/eks-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { findCluster, pageOfNames } from "./arns.ts";

export type Update = {
  readonly id: string;
  readonly clusterName: string;
  readonly part?: string;
  readonly type: string;
  readonly params: readonly { readonly type: string; readonly value: string }[];
  readonly createdAt: string;
};

export function recordUpdate(world: World, facts: Omit<Update, "id" | "createdAt">): Update {
  return world.store.put("update", { id: randomUUID(), createdAt: world.now().toISOString(), ...facts });
}

export function renderUpdate(update: Update, status = "InProgress"): UpdateOutput {
  return {
    id: update.id,
    status,
    type: update.type,
    params: update.params,
    createdAt: new Date(update.createdAt),
    errors: [],
  };
}

export const updateOperations = (world: World): OperationsOf<EksActions> => ({
  DescribeUpdate: {
    takes: ["name", "updateId", "nodegroupName", "addonName"],
    run({ name = "", updateId = "" }) {
      findCluster(world, name);
      const update = world.store.get("update", updateId);
      if (update === undefined || update.clusterName !== name)
        throw new ApiError("ResourceNotFoundException", `No update found for ID: ${updateId}`);
      return { update: renderUpdate(update, "Successful") };
    },
  },
  ListUpdates: {
    takes: ["name", "nodegroupName", "addonName", "maxResults", "nextToken"],
    run(input) {
      const { name = "" } = input;
      findCluster(world, name);
      const part = input.nodegroupName ?? input.addonName;
      const ids = world.store
        .all("update")
        .filter((update) => update.clusterName === name && update.part === part)
        .map(({ id }) => id);
      const { page, ...next } = pageOfNames(ids, input);
      return { updateIds: page, ...next };
    },
  },
});
