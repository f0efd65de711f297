/** Tags: on creation, by CreateTags and DeleteTags, and as lists in answers. They live in the records they describe. */
import type { Ec2Actions } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type Tags } from "./filters.ts";
import { find, kindOfId, resourceKinds, resourceTypeOf, type ResourceKind } from "./ids.ts";
import { pageOf } from "./pages.ts";

type Tag = { Key?: string | undefined; Value?: string | undefined };
type TagSpecification = { ResourceType?: string | undefined; Tags?: readonly Tag[] | undefined };

/** Tags of `aws:` names are AWS's own; our services set them past these checks. */
const mostTags = 50;

/** The tags a create call asks for. `types`: the resource types it creates; a specification for another is refused. */
export function tagsFrom(
  specifications: readonly TagSpecification[] | undefined,
  type: string,
  types: readonly string[] = [type],
): Tags {
  let tags: Tags = {};
  for (const { ResourceType, Tags: given } of specifications ?? []) {
    if (ResourceType === undefined || !types.includes(ResourceType))
      throw new ApiError(
        "InvalidParameterValue",
        `'${ResourceType ?? ""}' is not a valid taggable resource type for this operation.`,
      );
    if (ResourceType === type) tags = withTags(tags, given ?? []);
  }
  return tags;
}

export function tagList(tags: Tags): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

function withTags(tags: Tags, given: readonly Tag[]): Tags {
  const result: Record<string, string> = { ...tags };
  for (const { Key = "", Value = "" } of given) {
    if (Key === "") throw new ApiError("MissingParameter", "The request must contain the parameter Tag.Key");
    if (Key.toLowerCase().startsWith("aws:"))
      throw new ApiError("InvalidParameterValue", `Tag keys starting with 'aws:' are reserved for internal use`);
    if (Key.length > 128)
      throw new ApiError("InvalidParameterValue", "Tag key exceeds the maximum length of 128 characters");
    if (Value.length > 256)
      throw new ApiError("InvalidParameterValue", "Tag value exceeds the maximum length of 256 characters");
    result[Key] = Value;
  }
  if (Object.keys(result).filter((key) => !key.startsWith("aws:")).length > mostTags)
    throw new ApiError("TagLimitExceeded", `You have reached the maximum number of tags on the resource: ${mostTags}`);
  return result;
}

type Described = { tags?: never; id: string; resourceId: string; resourceType: string; key: string; value: string };

export const tagOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateTags: {
    takes: ["Resources", "Tags"],
    run({ Resources = [], Tags: given = [] }) {
      for (const { kind, record } of Resources.map((id) => taggable(world, id)))
        world.store.put(kind, { ...record, tags: withTags(record.tags, given) } as never);
      return {};
    },
  },
  DeleteTags: {
    takes: ["Resources", "Tags"],
    run({ Resources = [], Tags: given }) {
      for (const { kind, record } of Resources.map((id) => taggable(world, id))) {
        // Without a list all go; with an empty value only a tag that has the empty value would, without one any.
        const goes = ([key, value]: [string, string]) =>
          given === undefined
            ? !key.startsWith("aws:")
            : given.some((tag) => tag.Key === key && (tag.Value === undefined || tag.Value === value));
        const kept = Object.entries(record.tags).filter((entry) => !goes(entry));
        world.store.put(kind, { ...record, tags: Object.fromEntries(kept) } as never);
      }
      return {};
    },
  },
  DescribeTags: {
    takes: ["Filters", "MaxResults", "NextToken"],
    run(input) {
      const all = resourceKinds.flatMap((kind) =>
        world.store.all(kind).flatMap((record) =>
          Object.entries(record.tags).map(([key, value]): Described => ({
            id: `${record.id}/${key}`,
            resourceId: record.id,
            resourceType: resourceTypeOf(kind),
            key,
            value,
          })),
        ),
      );
      const items = applyFilters<Described>(
        all,
        // Here `tag:<key>` and the old names speak about the listed tags themselves.
        input.Filters?.map((filter) => ({
          ...filter,
          Name: filter.Name === "tag-key" ? "key" : filter.Name === "tag-value" ? "value" : filter.Name,
        })),
        {
          key: (t) => [t.key],
          value: (t) => [t.value],
          "resource-id": (t) => [t.resourceId],
          "resource-type": (t) => [t.resourceType],
        },
      );
      const { page, ...next } = pageOf(items, input);
      return {
        Tags: page.map((t) => ({ ResourceId: t.resourceId, ResourceType: t.resourceType, Key: t.key, Value: t.value })),
        ...next,
      };
    },
  },
});

function taggable(world: World, id: string): { kind: ResourceKind; record: { id: string; tags: Tags } } {
  const kind = kindOfId(id);
  if (kind === undefined) throw new ApiError("InvalidID", `The ID '${id}' is not valid`);
  return { kind, record: find(world, kind, id) };
}
