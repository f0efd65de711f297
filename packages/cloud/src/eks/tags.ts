/** Tags of EKS resources, by ARN. */
import type { EksActions } from "@underlay/aws/generated/eks-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { clusterArn } from "./arns.ts";

type Tagged = { readonly tags: Readonly<Record<string, string>>; readonly put: (tags: Record<string, string>) => void };

export const eksTagOperations = (world: World): OperationsOf<EksActions> => ({
  TagResource: {
    takes: ["resourceArn", "tags"],
    run({ resourceArn = "", tags = {} }) {
      const resource = findTagged(world, resourceArn);
      const reserved = Object.keys(tags).find((key) => key.toLowerCase().startsWith("aws:"));
      if (reserved !== undefined)
        throw new ApiError("BadRequestException", `Tag keys starting with 'aws:' are reserved: ${reserved}`);
      resource.put({ ...resource.tags, ...tags });
      return {};
    },
  },
  UntagResource: {
    takes: ["resourceArn", "tagKeys"],
    run({ resourceArn = "", tagKeys = [] }) {
      const resource = findTagged(world, resourceArn);
      resource.put(Object.fromEntries(Object.entries(resource.tags).filter(([key]) => !tagKeys.includes(key))));
      return {};
    },
  },
  ListTagsForResource: {
    takes: ["resourceArn"],
    run: ({ resourceArn = "" }) => ({ tags: findTagged(world, resourceArn).tags }),
  },
});

function findTagged(world: World, arn: string): Tagged {
  const { store } = world;
  const cluster = store.all("cluster").find((one) => clusterArn(world, one.id) === arn);
  if (cluster !== undefined) return { tags: cluster.tags, put: (tags) => store.put("cluster", { ...cluster, tags }) };
  for (const kind of ["nodegroup", "addon", "access-entry"] as const) {
    const record = store.all(kind).find((one) => one.arn === arn);
    if (record !== undefined)
      return { tags: record.tags, put: (tags) => store.put(kind, { ...record, tags } as never) };
  }
  throw new ApiError("NotFoundException", `No resource found for ARN: ${arn}`, 404);
}
